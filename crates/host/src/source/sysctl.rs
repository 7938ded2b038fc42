//! Settings that rules need: files of /proc/sys/net. Those of single interfaces come with [`super::link`].

use crate::sys::file;
use std::collections::BTreeMap;
use whydrop_model::Reading;

/// By dotted name. Some of them exist only in the initial namespace (`netdev_max_backlog`, on older kernels
/// `rmem_max`) or with a module (`nf-call-iptables`): those are absent.
const NAMES: [&str; 43] = [
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.all.accept_local",
    "net.ipv4.conf.all.forwarding",
    "net.ipv4.conf.all.log_martians",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
    "net.ipv4.conf.all.arp_filter",
    "net.ipv4.conf.all.proxy_arp",
    "net.ipv4.conf.all.src_valid_mark",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_mtu_probing",
    "net.ipv4.ip_no_pmtu_disc",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.igmp_max_memberships",
    "net.ipv4.icmp_echo_ignore_all",
    "net.ipv4.icmp_ratelimit",
    "net.ipv4.icmp_ratemask",
    "net.ipv4.udp_mem",
    "net.ipv4.tcp_mem",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv6.bindv6only",
    "net.core.somaxconn",
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.ipv4.vs.conntrack",
    "net.ipv4.vs.conn_reuse_mode",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_udp_timeout",
    "net.netfilter.nf_conntrack_udp_timeout_stream",
    "net.netfilter.nf_conntrack_tcp_loose",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
];

/// Reads each of them in the calling thread's namespace. Needs no privilege.
pub fn read() -> BTreeMap<String, Reading<String>> {
    NAMES.iter().map(|name| ((*name).to_owned(), read_one(name))).collect()
}

/// One setting by its dotted name (no name with an interface in it), without its line end.
pub fn read_one(name: &str) -> Reading<String> {
    match file::setting(&format!("/proc/sys/{}", name.replace('.', "/"))) {
        Ok(text) => Reading::Present(text.trim_end().to_owned()),
        Err(error) => error.reading("read access to /proc/sys"),
    }
}
