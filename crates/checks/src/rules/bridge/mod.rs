//! Bridges and their ports.

pub mod port_blocking;
