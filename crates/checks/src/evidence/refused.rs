//! SYNs that arrived where no socket wanted them, as the kernel's drop events tell.

use super::case::Case;
use std::net::SocketAddr;

/// IPPROTO_TCP.
const TCP: u8 = 6;
/// Bits of a TCP header.
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
/// The kernel's reason for a packet that no socket wants.
const NO_SOCKET: &str = "NO_SOCKET";

/// A SYN that was refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// The namespace that refused it.
    pub inode: Option<u64>,
    /// Who asked, as he is known there.
    pub from: SocketAddr,
    /// What was wanted there.
    pub to: SocketAddr,
}

/// Those of which a sample was taken.
pub fn syns(case: Case<'_>) -> impl Iterator<Item = Refused> {
    let events = case.drop_log().map(|log| log.sampled.as_slice()).unwrap_or(&[]).iter();
    let unwanted = events.filter(|event| event.protocol == Some(TCP) && event.reason == NO_SOCKET);
    let asking = unwanted.filter(|event| event.tcp_flags.is_some_and(|flags| flags & SYN_ACK == SYN));
    asking.filter_map(|event| {
        Some(Refused { inode: event.netns_inode, from: event.source?, to: event.destination? })
    })
}
