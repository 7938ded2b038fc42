//! The per-CPU queues before the stack.

pub mod backlog_overflow;
