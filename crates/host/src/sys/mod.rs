//! System calls: namespaces, netlink, capabilities. The only module of whydrop with `unsafe`, next to `trace::bpf`.

pub mod caps;
pub mod netlink;
pub mod netns;
