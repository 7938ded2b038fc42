//! Numbers about numbers: intervals, round-trip times.

pub mod interval;
pub mod rtt;
