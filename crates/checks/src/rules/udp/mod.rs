//! UDP sockets.

pub mod bad_checksum;
pub mod rcvbuf_overflow;
