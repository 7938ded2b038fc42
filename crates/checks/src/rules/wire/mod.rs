//! The wire.

pub mod corruption;
