//! Control groups.

pub mod bpf_drop;
#[cfg(test)]
mod calls_tests;
pub mod cpu_throttled;
pub mod frozen;
pub mod memory_oom;
