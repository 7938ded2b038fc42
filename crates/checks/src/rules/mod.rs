//! One file per cause, by layer.

pub mod netfilter;
pub mod path;
pub mod qdisc;
