//! What containers and their published ports meet.

pub mod route_localnet;
