//! Connection tracking.

pub mod table_full;
