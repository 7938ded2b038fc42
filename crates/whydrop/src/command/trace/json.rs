//! One JSON object per drop: the contract of `trace --json`.

use super::{Line, packet};
use anyhow::Result;
use serde_json::json;
use std::io::Write;

/// Writes one drop as one line. `target` is null where the namespace cannot be told.
pub fn write(line: &Line<'_>, out: &mut dyn Write) -> Result<()> {
    let event = line.event;
    let time = jiff::Timestamp::from_nanosecond(i128::from(event.realtime_ns)).ok();
    let owner = event
        .owner
        .as_ref()
        .map(|owner| json!({ "pid": owner.pid, "comm": owner.comm, "cgroup": owner.cgroup }));
    let object = json!({
        "time": time.map(|time| time.to_string()),
        "target": line.target.map(|target| &target.id),
        "reason": event.reason,
        "class": line.place.class.id(),
        "cause": line.place.cause,
        "stage": line.place.stage,
        "function": event.function,
        "interface": event.interface,
        "netns_inode": event.netns_inode,
        "direction": event.direction,
        "protocol": packet::protocol(event),
        "src": event.source.map(packet::address),
        "dst": event.destination.map(packet::address),
        "flags": event.tcp_flags.map(packet::tcp_flags),
        "length": event.length,
        "stack": event.stack,
        "owner": owner,
    });
    serde_json::to_writer(&mut *out, &object)?;
    Ok(writeln!(out)?)
}
