//! The per-CPU queues before the stack.

pub mod backlog_overflow;
pub mod flow_limit;
