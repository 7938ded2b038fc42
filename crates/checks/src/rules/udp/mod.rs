//! UDP sockets.

pub mod rcvbuf_overflow;
