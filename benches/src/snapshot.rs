//! The whole state of 1 and of 200 namespaces, beside the nine commands that a person types for it.

use crate::measure::{Comparison, Cost};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;
use whydrop_host::Netns;
use whydrop_host::collect::{self, Context};
use whydrop_model::{Reading, Snapshot};
use whydrop_tests::Namespace;

const COMMANDS: [&str; 9] = [
    "ip -s -s link",
    "ip address",
    "ip route show table all",
    "ip neighbour",
    "tc -s qdisc",
    "iptables-save -c",
    "nstat -az",
    "ss -tinmp",
    "ethtool -S eth0",
];

/// 1 and 200 namespaces, each with a veth pair.
pub fn run() -> Result<Vec<Comparison>> {
    let namespaces: Vec<Namespace> = (0..200).map(namespace).collect();
    Ok(vec![
        compare("state of one namespace", 9, &namespaces[..1])?,
        compare("state of 200 namespaces", 3, &namespaces)?,
    ])
}

fn namespace(number: usize) -> Namespace {
    let namespace = Namespace::new(&format!("bench{number}"));
    namespace.run("ip link add eth0 type veth peer name eth1");
    namespace.run("ip link set eth0 up");
    namespace.run("ip link set eth1 up");
    namespace.run("ip address add 10.0.0.1/24 dev eth0");
    namespace
}

fn compare(work: &str, rounds: usize, namespaces: &[Namespace]) -> Result<Comparison> {
    Comparison::run(
        work,
        rounds,
        vec![
            (
                "nine commands",
                Box::new(|| total(namespaces, |name| COMMANDS.map(|line| separately(name, line)).into())),
            ),
            ("nine commands in one shell", Box::new(|| total(namespaces, |name| vec![in_one_shell(name)]))),
            ("whydrop", Box::new(|| Cost::of_call(|| snapshots(namespaces)))),
        ],
    )
}

/// Snapshots as a diagnosis takes them. An error if one of them is missing something: that would be faster.
pub fn snapshots(namespaces: &[Namespace]) -> Result<Vec<Snapshot>> {
    let open: Vec<Netns> = namespaces
        .iter()
        .map(|namespace| Netns::open(&Path::new("/run/netns").join(namespace.name())))
        .collect::<Result<_, _>>()?;
    let open: Vec<&Netns> = open.iter().collect();
    let whole = |reading| match reading {
        Reading::Present(snapshot) => whole(snapshot),
        missing => bail!("no snapshot: {missing:?}"),
    };
    collect::snapshots(&open, &Context::read(&open)).into_iter().map(whole).collect()
}

fn whole(snapshot: Snapshot) -> Result<Snapshot> {
    let parts = [
        ("links", snapshot.links.is_hidden()),
        ("routes", snapshot.routes.is_hidden()),
        ("neighbours", snapshot.neighbours.is_hidden()),
        ("qdiscs", snapshot.qdiscs.is_hidden()),
        ("counters", snapshot.mib.is_hidden()),
        ("nftables", snapshot.nftables.is_hidden()),
        ("sockets", snapshot.sockets.is_hidden()),
        ("ethtool", snapshot.ethtool.is_hidden()),
    ];
    match parts.into_iter().find(|(_, hidden)| *hidden) {
        Some((part, _)) => bail!("{part} could not be read"),
        None => Ok(snapshot),
    }
}

fn separately(namespace: &str, line: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).args(line.split(' '));
    command
}

fn in_one_shell(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "sh", "-c", &COMMANDS.join("; ")]);
    command
}

/// All commands in all namespaces, one after the other.
fn total(namespaces: &[Namespace], commands: impl Fn(&str) -> Vec<Command>) -> Result<Cost> {
    let mut sum: Option<Cost> = None;
    for mut command in namespaces.iter().flat_map(|namespace| commands(namespace.name())) {
        // ethtool ends with 94 where a driver has no statistics.
        let cost = Cost::of(&mut command, &[0, 94])?;
        sum = Some(sum.map_or(cost, |sum| Cost {
            wall: sum.wall + cost.wall,
            cpu: sum.cpu.zip(cost.cpu).map(|(a, b)| a + b),
            peak: sum.peak.max(cost.peak),
        }));
    }
    anyhow::Context::context(sum, "no namespace")
}
