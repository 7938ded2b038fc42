//! Tunnels into user space.

pub mod reader_stalled;
