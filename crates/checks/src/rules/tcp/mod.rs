//! TCP listeners.

pub mod accept_queue_overflow;
pub mod bad_checksum;
pub mod syn_queue_overflow;
#[cfg(test)]
mod tests;

use crate::case::Space;
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
