//! Programs that see a frame before the stack does.

pub mod drop;
