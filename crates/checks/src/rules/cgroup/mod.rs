//! Control groups.

pub mod bpf_drop;
