//! One kernel interface per file: a function that reads it in the calling thread's namespace, and a pure parser.

pub mod address;
pub mod class;
pub mod conntrack;
pub mod devconf;
pub mod ethtool;
pub mod filter;
pub mod iptables_legacy;
pub mod link;
pub mod link_details;
#[cfg(test)]
mod live;
pub mod neighbour;
pub mod netnsid;
pub mod nftables;
pub mod owner;
pub mod policy_rule;
pub mod procnet;
pub mod qdisc;
pub mod qdisc_options;
pub mod route;
pub mod socket;
pub mod softnet;
pub mod sysctl;
pub mod tc_action;
pub mod tc_stats;
pub(crate) mod xt;
