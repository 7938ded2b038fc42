//! A thousand probes a second: what each tool's own work costs the machine that probes.

use crate::measure::{Comparison, Cost};
use anyhow::Result;
use std::process::Command;
use whydrop_tests::{Namespace, whydrop};

/// Two namespaces joined by a veth pair, with nobody listening: a RST answers as a SYN-ACK would, and costs the peer
/// the least.
pub fn run() -> Result<Vec<Comparison>> {
    let (near, far) = (Namespace::new("prober"), Namespace::new("probed"));
    near.join("10.98.0.1/24", &far, "10.98.0.2/24");
    let inside = |line: &str| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", near.name()]).args(line.split_whitespace());
        command
    };
    let probe = |url: &str| {
        let mut command = whydrop();
        command.args(["probe", "--from", &near.target(), url, "-i", "0.001", "-c", "3000", "-q"]);
        command
    };
    let (mut hping, mut syn) =
        (inside("hping3 -q -S -p 80 -i u1000 -c 3000 10.98.0.2"), probe("tcp://10.98.0.2:80"));
    let (mut ping, mut echo) = (inside("ping -q -i 0.001 -c 3000 10.98.0.2"), probe("icmp://10.98.0.2"));
    let comparisons = [
        Comparison::run(
            "3000 SYNs, 1000 a second",
            3,
            vec![
                ("hping3", Box::new(|| Cost::of(&mut hping, &[0]))),
                ("whydrop probe tcp://", Box::new(|| Cost::of(&mut syn, &[0]))),
            ],
        )?,
        Comparison::run(
            "3000 echo requests, 1000 a second",
            3,
            vec![
                ("ping", Box::new(|| Cost::of(&mut ping, &[0]))),
                ("whydrop probe icmp://", Box::new(|| Cost::of(&mut echo, &[0]))),
            ],
        )?,
    ];
    Ok(comparisons.into())
}
