//! One file per cause, by layer.

pub mod link;
pub mod neigh;
pub mod netfilter;
pub mod path;
pub mod qdisc;
pub mod route;
pub mod xdp;
