//! The IP layer apart from routing.

pub mod frag_reassembly;
