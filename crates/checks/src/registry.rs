//! All rules, in the order of a packet's way up from the wire.

use crate::rule::Rule;
use crate::rules::{app, conntrack, link, neigh, netfilter, qdisc, route, softnet, tcp, udp, xdp};

/// Every rule that is judged, one namespace at a time.
pub const RULES: &[Rule] = &[
    link::admin_down::RULE,
    link::no_carrier::RULE,
    link::errors::RULE,
    link::rx_ring_overflow::RULE,
    softnet::backlog_overflow::RULE,
    xdp::drop::RULE,
    qdisc::netem_loss::RULE,
    qdisc::shaper_drop::RULE,
    qdisc::queue_limit::RULE,
    qdisc::blackhole::RULE,
    neigh::unresolved::RULE,
    neigh::wrong_lladdr::RULE,
    route::no_route::RULE,
    route::no_return_route::RULE,
    route::blackhole::RULE,
    route::policy_rule::RULE,
    route::rp_filter::RULE,
    route::forwarding_off::RULE,
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
    conntrack::table_full::RULE,
    tcp::accept_queue_overflow::RULE,
    tcp::syn_queue_overflow::RULE,
    udp::rcvbuf_overflow::RULE,
    app::not_listening::RULE,
    app::bound_loopback::RULE,
    app::bound_wrong_device::RULE,
];
