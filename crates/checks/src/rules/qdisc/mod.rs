//! Queues that drop what should be sent.

pub mod blackhole;
pub mod netem_loss;
pub mod queue_limit;
pub mod shaper_drop;

mod drops;

pub use drops::cause_at;

#[cfg(test)]
mod tests;
