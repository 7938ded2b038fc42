//! The only crate of whydrop that touches the machine.
//!
//! `sys` holds system calls (namespaces, netlink, capabilities); `source` reads one kernel interface per file;
//! `collect` puts them together into a [`whydrop_model::Snapshot`]; `act` changes things, only when asked.

pub mod act;
pub mod build;
pub mod census;
pub mod changes;
pub mod collect;
pub mod containers;
pub mod error;
pub mod observe;
pub mod output;
mod places;
pub mod powers;
pub mod probing;
pub mod replay;
pub mod source;
pub mod sys;
pub mod targets;
pub mod trace;

pub use error::Error;
pub use sys::netns::Netns;
