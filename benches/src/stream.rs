//! A healthy TCP stream between two namespaces, with and without a tracer: where nothing is dropped it must cost nothing.

use crate::measure::{Comparison, Cost};
use crate::watcher::{with_bpftrace, with_perf, with_window};
use anyhow::{Result, bail};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use whydrop_host::Netns;
use whydrop_tests::Namespace;

/// Bytes of one round.
const BYTES: u64 = 4 << 30;
const ADDRESS: &str = "10.0.0.2:5000";

/// The same stream with nothing, whydrop, bpftrace and perf watching.
pub fn run() -> Result<Vec<Comparison>> {
    let (client, server) = (Namespace::new("stream-c"), Namespace::new("stream-s"));
    client.join("10.0.0.1/24", &server, "10.0.0.2/24");
    let open = |namespace: &Namespace| Netns::open(&Path::new("/run/netns").join(namespace.name()));
    let (from, to) = (open(&client)?, open(&server)?);
    let stream = || -> Result<Cost> { Cost::of_call(|| transfer(&from, &to)) };
    stream()?;
    let compared = Comparison::run(
        "4 GiB of TCP between two namespaces, nothing dropped",
        9,
        vec![
            ("nothing", Box::new(stream)),
            ("whydrop's tracer", Box::new(|| with_window(&[&from, &to], false, stream))),
            ("bpftrace, counting", Box::new(|| with_bpftrace(stream))),
            ("perf record", Box::new(|| with_perf(stream))),
        ],
    )?;
    Ok(vec![compared])
}

fn transfer(from: &Netns, to: &Netns) -> Result<()> {
    let listener = to.run(|| TcpListener::bind(ADDRESS))??;
    std::thread::scope(|scope| {
        let received = scope.spawn(move || -> Result<u64> {
            let (mut stream, _) = listener.accept()?;
            let (mut chunk, mut total) = (vec![0; 256 << 10], 0);
            loop {
                match stream.read(&mut chunk)? {
                    0 => return Ok(total),
                    read => total += read as u64,
                }
            }
        });
        from.run(|| -> Result<()> {
            let mut stream = TcpStream::connect(ADDRESS)?;
            let chunk = vec![0; 256 << 10];
            for _ in 0..BYTES / chunk.len() as u64 {
                stream.write_all(&chunk)?;
            }
            Ok(())
        })??;
        match received.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))? {
            BYTES => Ok(()),
            other => bail!("{other} of {BYTES} bytes arrived"),
        }
    })
}
