//! Makes network namespaces and what joins them, over netlink and mount(2): neither iproute2 nor a shell is needed.
//!
//! Only for namespaces of whydrop's own (the lab, the demo, tests). Changes to namespaces of others are `act`.

mod named;
mod wiring;

pub use named::{Named, remove};
pub use wiring::Wiring;
