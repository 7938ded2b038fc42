//! Short connections to a web server, with and without a window open: the state of each is followed, and where all is
//! well that must cost nothing.

use crate::measure::{Comparison, Cost};
use crate::watcher::with_window;
use anyhow::{Result, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use whydrop_tests::WebServer;
use whydrop_tests::probe_net::netns;

/// Connections of one round.
const CONNECTIONS: usize = 100_000;
const ADDRESS: &str = "10.77.0.2:80";

/// One request for each connection, one after the other; both ends are watched.
pub fn run() -> Result<Vec<Comparison>> {
    let web = WebServer::start();
    let (client, server) = (netns(&web.client), netns(&web.server));
    let ask = || -> Result<Cost> { Cost::of_call(|| client.run(connect)?) };
    let compared = Comparison::run(
        "100,000 short connections to nginx",
        9,
        vec![
            ("nothing", Box::new(ask)),
            ("whydrop's window", Box::new(|| with_window(&[&client, &server], false, ask))),
        ],
    )?;
    Ok(vec![compared])
}

fn connect() -> Result<()> {
    let mut answer = vec![];
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(ADDRESS)?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        answer.clear();
        stream.read_to_end(&mut answer)?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            bail!("nginx answered {:?}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(())
}
