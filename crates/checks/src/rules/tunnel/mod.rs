//! Tunnels and overlays.

pub mod vni_mismatch;
