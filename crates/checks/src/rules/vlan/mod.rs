//! VLAN devices.

pub mod id_mismatch;
