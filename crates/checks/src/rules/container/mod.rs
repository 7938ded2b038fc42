//! What containers and their published ports meet.

pub mod hairpin;
pub mod port_map_wrong;
pub mod route_localnet;
