//! The load balancer of the kernel (IPVS).

pub mod port_reuse;
