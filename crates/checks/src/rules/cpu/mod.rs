//! What the processors have no time for.

pub mod softirq_starved;
