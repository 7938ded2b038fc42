//! TCP: its listeners, ports, memory and segments.

pub mod accept_queue_overflow;
pub mod bad_checksum;
pub mod defer_accept;
pub mod ephemeral_exhausted;
pub mod md5_mismatch;
pub mod memory;
pub mod orphan_limit;
pub mod paws;
pub mod syn_queue_overflow;
#[cfg(test)]
mod tests;

use crate::evidence::case::Space;
use whydrop_model::delta::Change;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::Socket;

/// IPPROTO_TCP.
const TCP: u8 = 6;

/// Longest process name shown (TASK_COMM_LEN is 16).
const MAX_COMM: usize = 16;

/// `0.0.0.0:80 (nginx)`.
pub fn name(socket: &Socket) -> String {
    match socket.owners.first() {
        Some(owner) => format!("{} ({})", socket.local, sanitize(&owner.comm, MAX_COMM)),
        None => socket.local.to_string(),
    }
}

/// Rise of a socket's own drop counter in the window; all of it for a socket that appeared in it.
pub fn socket_drops(space: Space<'_>, socket: &Socket) -> u64 {
    let before = space.before.sockets.iter().find(|s| s.cookie == socket.cookie).map(|s| s.drops);
    match Change::of_u32(before.flatten(), socket.drops) {
        Change::Rose(n) => n,
        Change::Appeared(n) if before.is_none() && space.before.sockets.is_present() => n,
        _ => 0,
    }
}

/// Pages that TCP uses on the whole machine, and its three limits (net.ipv4.tcp_mem): below the first it takes what it
/// likes, from the second on it saves, and above the third it gets no more (include/net/sock.h:sk_prot_mem_limits).
pub fn pages(space: Space<'_>) -> Option<(u64, [u64; 3])> {
    let used = |s: &whydrop_model::Snapshot| s.sockstat.get()?.get("TCP.mem").copied();
    let used = used(space.before).max(used(space.after))?;
    Some((used, limits(space, "net.ipv4.tcp_mem")?))
}

/// A setting of the whole machine that holds three numbers.
pub fn limits(space: Space<'_>, name: &str) -> Option<[u64; 3]> {
    let mut numbers = setting(space, name)?.split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    Some([next()?, next()?, next()?])
}

/// A setting of the whole machine: only the initial namespace shows it.
pub fn setting<'a>(space: Space<'a>, name: &str) -> Option<&'a str> {
    let [_, machine] = &space.case.observation.machine;
    let known = space.after.sysctls.get(name).or_else(|| machine.sysctls.get(name));
    Some(known?.get()?.as_str())
}
