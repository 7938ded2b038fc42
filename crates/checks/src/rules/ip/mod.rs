//! The IP layer apart from routing.

pub mod frag_reassembly;
mod group;
#[cfg(test)]
mod tests;
pub mod ttl_too_low;
