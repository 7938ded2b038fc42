//! What network cards do for the stack.

pub mod offload;
pub mod tx_stalled;
