//! All rules, in the order of a packet's way up from the wire.

use crate::rule::Rule;
use crate::rules::{
    addr, app, bond, bridge, cgroup, conntrack, container, cpu, dns, ip, ipvs, l2, link, macvlan, mcast, mtu,
    nat, neigh, netfilter, nic, path, qdisc, route, socket, softnet, tc, tcp, tun, tunnel, udp, vlan, wg,
    wire, xdp, xfrm,
};

/// Every rule that is judged, one namespace at a time.
pub const RULES: &[Rule] = &[
    link::admin_down::RULE,
    link::no_carrier::RULE,
    link::flapping::RULE,
    link::detached::RULE,
    link::errors::RULE,
    link::rx_ring_overflow::RULE,
    link::speed_duplex::RULE,
    nic::tx_stalled::RULE,
    nic::offload::RULE,
    wire::corruption::RULE,
    tun::reader_stalled::RULE,
    cpu::softirq_starved::RULE,
    softnet::backlog_overflow::RULE,
    softnet::flow_limit::RULE,
    xdp::drop::RULE,
    tc::action_drop::RULE,
    tc::police::RULE,
    tc::bpf_drop::RULE,
    tc::bpf_mangle::RULE,
    tc::mirred_redirect::RULE,
    bridge::port_blocking::RULE,
    bridge::port_isolated::RULE,
    bridge::fdb_wrong_port::RULE,
    bridge::vlan_filter::RULE,
    bridge::mcast_snooping::RULE,
    bridge::group_fwd_mask::RULE,
    vlan::id_mismatch::RULE,
    bond::no_active_slave::RULE,
    bond::member_dead::RULE,
    l2::duplicate_mac::RULE,
    l2::duplicate_ip::RULE,
    macvlan::mode_isolation::RULE,
    tunnel::vni_mismatch::RULE,
    tunnel::port_mismatch::RULE,
    tunnel::wrong_remote::RULE,
    wg::allowed_ips::RULE,
    wg::peer_key::RULE,
    qdisc::netem_loss::RULE,
    qdisc::netem_delay::RULE,
    qdisc::shaper_drop::RULE,
    qdisc::queue_limit::RULE,
    qdisc::blackhole::RULE,
    mtu::too_small::RULE,
    mtu::peer_mismatch::RULE,
    mtu::tunnel_overhead::RULE,
    mtu::pmtu_blackhole::RULE,
    addr::missing::RULE,
    addr::wrong_address::RULE,
    addr::wrong_prefix::RULE,
    addr::dad_failed::RULE,
    neigh::unresolved::RULE,
    neigh::wrong_lladdr::RULE,
    neigh::table_overflow::RULE,
    route::no_route::RULE,
    route::no_return_route::RULE,
    route::blackhole::RULE,
    route::policy_rule::RULE,
    route::rp_filter::RULE,
    route::forwarding_off::RULE,
    route::martian_source::RULE,
    container::route_localnet::RULE,
    route::circle::RULE,
    route::wrong_gateway::RULE,
    route::redirected::RULE,
    route::daemon_down::RULE,
    route::multipath_dead_nexthop::RULE,
    route::overlap::RULE,
    ip::ttl_too_low::RULE,
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
    netfilter::br_netfilter_drop::RULE,
    netfilter::notrack::RULE,
    netfilter::invalid_drop::RULE,
    netfilter::nfqueue_no_listener::RULE,
    netfilter::nfqueue_overflow::RULE,
    conntrack::table_full::RULE,
    conntrack::chain_too_long::RULE,
    conntrack::stale_entry::RULE,
    conntrack::timeout_idle::RULE,
    conntrack::helper_missing::RULE,
    conntrack::insert_race::RULE,
    nat::port_exhaustion::RULE,
    nat::dnat_dead_backend::RULE,
    nat::dnat_missing::RULE,
    nat::no_masquerade::RULE,
    nat::reply_bypass::RULE,
    nat::mapping_lost::RULE,
    container::port_map_wrong::RULE,
    container::hairpin::RULE,
    xfrm::policy_block::RULE,
    xfrm::template_mismatch::RULE,
    xfrm::no_state::RULE,
    xfrm::bad_key::RULE,
    xfrm::replay::RULE,
    tcp::accept_queue_overflow::RULE,
    tcp::syn_queue_overflow::RULE,
    tcp::ephemeral_exhausted::RULE,
    tcp::bad_checksum::RULE,
    tcp::md5_mismatch::RULE,
    tcp::paws::RULE,
    tcp::memory::RULE,
    tcp::orphan_limit::RULE,
    tcp::defer_accept::RULE,
    udp::rcvbuf_overflow::RULE,
    udp::bad_checksum::RULE,
    udp::memory::RULE,
    cgroup::bpf_drop::RULE,
    app::not_listening::RULE,
    app::bound_wrong_family::RULE,
    app::bound_loopback::RULE,
    app::bound_wrong_device::RULE,
    app::reply_source_mismatch::RULE,
    app::hung::RULE,
    app::fd_exhausted::RULE,
    app::slow_reader::RULE,
    app::io_stall::RULE,
    app::slow_clients::RULE,
    app::reuseport_stuck_member::RULE,
    dns::server_unreachable::RULE,
    cgroup::frozen::RULE,
    cgroup::cpu_throttled::RULE,
    cgroup::memory_oom::RULE,
    socket::rcvbuf_overflow::RULE,
    socket::filter_drop::RULE,
    mcast::joined_elsewhere::RULE,
    mcast::membership_limit::RULE,
    path::remote_loss::RULE,
    path::remote_refusal::RULE,
    path::capacity::RULE,
    ipvs::port_reuse::RULE,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use whydrop_model::Lang;

    #[test]
    fn every_rule_names_a_known_cause_once() {
        let known: BTreeSet<&str> = whydrop_facts::causes().iter().map(|cause| cause.id).collect();
        let mut seen = BTreeSet::new();
        for cause in crate::causes() {
            assert!(known.contains(cause.id), "{} is not in causes.toml", cause.id);
            assert!(seen.insert(cause.id), "{} has two rules", cause.id);
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
