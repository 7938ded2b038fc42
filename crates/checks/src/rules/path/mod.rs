//! Beyond the machine.

pub mod remote_loss;

#[cfg(test)]
mod tests;
