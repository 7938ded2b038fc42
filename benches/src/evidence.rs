//! From the command to the first drop that it shows, while packets are being dropped.

use crate::measure::{Comparison, Cost};
use crate::watcher::bpftrace;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use whydrop_host::Netns;
use whydrop_tests::{Namespace, whydrop};

/// Pause between two drops.
const PAUSE: Duration = Duration::from_millis(1);

/// whydrop, bpftrace and perf, started in turns.
pub fn run() -> Result<Vec<Comparison>> {
    let namespace = Namespace::new("evidence");
    namespace.run("iptables -A INPUT -p udp --dport 9 -j DROP");
    let netns = Netns::open(&Path::new("/run/netns").join(namespace.name()))?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let dropping = scope.spawn(|| netns.run(|| drop_until(&over)));
        let program = "tracepoint:skb:kfree_skb { printf(\"%d\\n\", args->reason); exit(); }";
        let compared = Comparison::run(
            "start to the first drop shown",
            9,
            vec![
                (
                    "whydrop trace",
                    Box::new(|| first_line(whydrop().args(["trace", &namespace.target(), "--json"]))),
                ),
                ("bpftrace", Box::new(|| first_line(&mut bpftrace(program)))),
                (
                    "perf trace",
                    Box::new(|| {
                        let line = "perf trace --all-cpus --event skb:kfree_skb --max-events 1 2>&1";
                        first_line(Command::new("sh").args(["-c", line]))
                    }),
                ),
            ],
        );
        over.store(true, Ordering::Relaxed);
        dropping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))??;
        Ok(vec![compared?])
    })
}

fn drop_until(over: &AtomicBool) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect("127.0.0.1:9")?;
    while !over.load(Ordering::Relaxed) {
        socket.send(&[0; 64])?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Time to the first line that is not empty; the program is then ended.
fn first_line(command: &mut Command) -> Result<Cost> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("it has a stdout")?).lines();
    let shown = lines.map_while(Result::ok).find(|line| !line.trim().is_empty());
    let wall = started.elapsed();
    child.kill()?;
    child.wait()?;
    if shown.is_none() {
        bail!("{command:?} showed nothing");
    }
    Ok(Cost { wall, cpu: None, peak: None })
}
