//! Rules and policies that drop. One classifier reads all back ends; each cause takes its share of it.

pub mod arp_drop;
pub mod bridge_drop;
pub mod connlimit;
pub mod drop_policy;
pub mod drop_rule;
pub mod ingress_drop;
pub mod invalid_drop;
pub mod nfqueue_no_listener;
pub mod quota;
pub mod rate_limit;
pub mod reject_rule;

mod drops;
mod judge;

pub use drops::Dropping;
pub use judge::rules_of;
pub use silent::cause_of;

mod policy;
mod silent;
#[cfg(test)]
mod tests;
