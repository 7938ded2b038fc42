//! One file per cause, by layer.

pub mod app;
pub mod bridge;
pub mod cgroup;
pub mod conntrack;
pub mod container;
pub mod events;
pub mod ip;
pub mod link;
pub mod mtu;
pub mod neigh;
pub mod netfilter;
pub mod path;
pub mod qdisc;
pub mod route;
pub mod softnet;
pub mod tc;
pub mod tcp;
pub mod tun;
pub mod tunnel;
pub mod udp;
pub mod xdp;
