//! Devices that share a lower one.

pub mod mode_isolation;
