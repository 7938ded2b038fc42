//! Nearly twenty thousand sockets (a usual limit of open files) with their memory and owners.

use crate::measure::{Comparison, Cost};
use crate::snapshot::snapshots;
use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use whydrop_host::Netns;
use whydrop_tests::Namespace;

/// Each connection has two sockets, both ours.
const CONNECTIONS: usize = 9_900;

/// Connections on one listening address; together they need more than one address has ports.
const PER_LISTENER: usize = 2_475;

/// The sockets of one namespace, read by ss and as part of a whole snapshot.
pub fn run() -> Result<Vec<Comparison>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("raising the limit of open files")?;
    let namespace = Namespace::new("sockets");
    let netns = Netns::open(&Path::new("/run/netns").join(namespace.name()))?;
    let _open = netns.run(connections)??;
    let mut ss = Command::new("ip");
    ss.args(["netns", "exec", namespace.name(), "ss", "-tinmp"]);
    let comparison = Comparison::run(
        "19,800 sockets with memory and owners",
        5,
        vec![
            ("ss -tinmp", Box::new(|| Cost::of(&mut ss, &[0]))),
            (
                "whydrop, with the rest of the state",
                Box::new(|| Cost::of_call(|| snapshots(std::slice::from_ref(&namespace)))),
            ),
        ],
    )?;
    Ok(vec![comparison])
}

fn connections() -> Result<Vec<(TcpStream, TcpStream)>> {
    let mut open = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS / PER_LISTENER {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        for _ in 0..PER_LISTENER {
            let client = TcpStream::connect(listener.local_addr()?)?;
            open.push((client, listener.accept()?.0));
        }
    }
    Ok(open)
}
