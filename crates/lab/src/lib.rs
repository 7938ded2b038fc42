//! Faults to learn from and to test with: namespaces of their own, joined, serving, under traffic, then broken.
//!
//! A [`Fault`] is data: a [`Topology`], services, traffic, and the changes that break it, which are the same
//! [`whydrop_model::Action`]s that a fix is made of. A [`Lab`] is a fault that stands; it goes, names and all, when
//! it is dropped.

mod catalogue;
mod fault;
mod lab;
mod need;
mod program;
mod queue;
mod service;
mod site;
mod state;
mod traffic;

pub use catalogue::{find, list, source_case};
pub use fault::{Change, Fault};
pub use lab::Lab;
pub use need::Need;
pub use service::Service;
pub use site::{Place, Site, Topology};
pub use state::{Claim, State};
pub use traffic::{Manner, Traffic};
