//! Rules and policies that drop. One classifier reads all back ends; each cause takes its share of it.

pub mod arp_drop;
pub mod br_netfilter_drop;
pub mod bridge_drop;
mod bridged;
pub mod connlimit;
pub mod drop_policy;
pub mod drop_rule;
pub mod drops;
pub mod ingress_drop;
pub mod invalid_drop;
pub mod judge;
pub mod nfqueue_no_listener;
pub mod nfqueue_overflow;
pub mod notrack;
pub mod quota;
pub mod rate_limit;
pub mod reject_rule;
pub mod unexpected;

mod queued;

#[cfg(test)]
mod frame_tests;
#[cfg(test)]
mod queue_tests;
#[cfg(test)]
mod tests;
