//! System calls: namespaces, netlink, capabilities. The only module of whydrop with `unsafe`, next to `trace::bpf`.

pub mod attributes;
pub mod caps;
pub mod ethtool;
pub mod file;
pub mod netlink;
pub mod netns;
