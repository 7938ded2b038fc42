//! One file per cause, by layer.

pub mod link;
pub mod netfilter;
pub mod path;
pub mod qdisc;
pub mod xdp;
