//! UDP sockets.

pub mod bad_checksum;
pub mod memory;
pub mod rcvbuf_overflow;

/// IPPROTO_UDP.
const UDP: u8 = 17;
