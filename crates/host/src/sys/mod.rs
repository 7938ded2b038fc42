//! System calls: namespaces, netlink, capabilities. The only module of whydrop with `unsafe`, next to `trace::loader`.

pub mod attributes;
pub mod bpf;
pub mod caps;
pub mod ethtool;
pub mod file;
pub mod memory;
pub mod netlink;
pub mod netns;
