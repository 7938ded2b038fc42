//! All rules, in the order of a packet's way up from the wire.

use crate::rule::Rule;
use crate::rules::{
    app, bridge, cgroup, conntrack, container, ip, link, mtu, neigh, netfilter, qdisc, route, softnet, tc,
    tcp, tun, tunnel, udp, xdp,
};

/// Every rule that is judged, one namespace at a time.
pub const RULES: &[Rule] = &[
    link::admin_down::RULE,
    link::no_carrier::RULE,
    link::errors::RULE,
    link::rx_ring_overflow::RULE,
    tun::reader_stalled::RULE,
    softnet::backlog_overflow::RULE,
    xdp::drop::RULE,
    tc::action_drop::RULE,
    tc::police::RULE,
    tc::bpf_drop::RULE,
    bridge::port_blocking::RULE,
    bridge::port_isolated::RULE,
    tunnel::vni_mismatch::RULE,
    qdisc::netem_loss::RULE,
    qdisc::shaper_drop::RULE,
    qdisc::queue_limit::RULE,
    qdisc::blackhole::RULE,
    mtu::too_small::RULE,
    mtu::peer_mismatch::RULE,
    mtu::pmtu_blackhole::RULE,
    neigh::unresolved::RULE,
    neigh::wrong_lladdr::RULE,
    route::no_route::RULE,
    route::no_return_route::RULE,
    route::blackhole::RULE,
    route::policy_rule::RULE,
    route::rp_filter::RULE,
    route::forwarding_off::RULE,
    route::martian_source::RULE,
    container::route_localnet::RULE,
    route::circle::RULE,
    ip::frag_reassembly::RULE,
    netfilter::drop_rule::RULE,
    netfilter::drop_policy::RULE,
    netfilter::reject_rule::RULE,
    netfilter::rate_limit::RULE,
    netfilter::connlimit::RULE,
    netfilter::quota::RULE,
    netfilter::ingress_drop::RULE,
    netfilter::arp_drop::RULE,
    netfilter::bridge_drop::RULE,
    netfilter::invalid_drop::RULE,
    netfilter::nfqueue_no_listener::RULE,
    conntrack::table_full::RULE,
    tcp::accept_queue_overflow::RULE,
    tcp::syn_queue_overflow::RULE,
    tcp::bad_checksum::RULE,
    udp::rcvbuf_overflow::RULE,
    udp::bad_checksum::RULE,
    cgroup::bpf_drop::RULE,
    app::not_listening::RULE,
    app::bound_loopback::RULE,
    app::bound_wrong_device::RULE,
    app::reply_source_mismatch::RULE,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use whydrop_model::Lang;

    #[test]
    fn every_rule_names_a_known_cause_once_and_follows_known_ones() {
        let known: BTreeSet<&str> = whydrop_facts::causes().iter().map(|cause| cause.id).collect();
        let mut seen = BTreeSet::new();
        for cause in crate::causes() {
            assert!(known.contains(cause.id), "{} is not in causes.toml", cause.id);
            assert!(seen.insert(cause.id), "{} has two rules", cause.id);
        }
        for rule in RULES {
            for above in rule.consequence_of {
                assert!(seen.contains(above), "{} follows {above}, which no rule names", rule.cause.id);
            }
        }
    }

    #[test]
    fn every_cause_speaks_both_languages() {
        for cause in crate::causes() {
            let sections = cause.sections().map(|(_, text)| text);
            for text in sections.iter().chain([&cause.title]) {
                assert!(text.en.is_ascii() && !text.en.is_empty(), "{}: {}", cause.id, text.en);
                assert!(!text.zh.is_ascii(), "{}: {}", cause.id, text.zh);
                assert_eq!(text.placeholders(Lang::En), text.placeholders(Lang::Zh), "{}", cause.id);
            }
        }
    }
}
