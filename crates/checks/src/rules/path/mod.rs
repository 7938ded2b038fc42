//! Beyond the machine.

pub mod remote_loss;
