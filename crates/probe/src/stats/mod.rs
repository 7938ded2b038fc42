//! Numbers about numbers: intervals, round-trip times, runs of losses, tests.

pub mod bursts;
pub mod compare;
pub mod flows;
pub mod interval;
pub mod rtt;
pub mod sequential;
