//! Control groups.

pub mod bpf_drop;
pub mod cpu_throttled;
pub mod frozen;
pub mod memory_oom;
