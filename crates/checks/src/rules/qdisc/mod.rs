//! Queues that drop what should be sent.

pub mod blackhole;
pub mod netem_delay;
pub mod netem_loss;
pub mod queue_limit;
pub mod shaper_drop;

mod drops;

#[cfg(test)]
mod tests;
