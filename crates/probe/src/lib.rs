//! Active probes as state machines without sockets or clocks: time is an argument, packets are bytes.
//!
//! A probe kind that sends one packet per probe is a [`codec::Codec`] (how a probe is written and how its answer is
//! recognised); [`flight::Flight`] drives any of them on an absolute schedule and keeps the [`account::Account`].
//! The accounting identity is the first duty: `transmitted = received + late + lost` (+ those still open), a
//! duplicate is never a reception, and a send that failed is never a loss.
#![forbid(unsafe_code)]

pub mod account;
pub mod both_ends;
pub mod codec;
pub mod connect;
pub mod flight;
pub mod http;
pub mod icmp;
pub mod notes;
pub mod path;
pub mod pmtu;
pub mod progress;
pub mod sizes;
pub mod spec;
pub mod split;
pub mod stats;
pub mod syn;
pub mod token;
pub mod udp;
pub mod url;
pub mod wire;

pub use spec::{Family, ProbeSpec, Scheme};
pub use url::UrlError;

/// Monotonic time in nanoseconds since a start that only the driver knows.
pub type Nanos = u64;
