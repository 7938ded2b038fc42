//! Where a drop event happened and what it means: (reason, function, hook) to stage, cause and class.
//!
//! The reason alone does not suffice: XDP, veth, NFQUEUE and policy routing say NOT_SPECIFIED, and kernels before
//! 5.17 say nothing, so the function that dropped is the second witness and the stack the third. A cause is named
//! only where the place admits no other; where several fit it is left to the counters.

mod table;

pub use table::TO_QUEUE;

use crate::{Class, reason};
use std::net::{IpAddr, Ipv4Addr};
use whydrop_model::netfilter::Hook;
use whydrop_model::{DropCount, DropEvent, Text};

/// What is known of a place where packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Stage of the packet's way: `netfilter.input`, `qdisc.transmit`. `netfilter` alone if the hook is unknown,
    /// `unknown` if the function is.
    pub stage: &'static str,
    /// Cause id, if the place admits only one.
    pub cause: Option<&'static str>,
    /// Is it harm?
    pub class: Class,
    /// What happened there, and why it has this class.
    pub why: Text,
}

/// The part of a drop that tells its place.
#[derive(Clone, Copy, Debug, Default)]
struct Drop<'a> {
    reason: &'a str,
    function: &'a str,
    stack: &'a [String],
    protocol: Option<u8>,
    tcp_flags: Option<u8>,
    multicast: bool,
}

/// Place of a sampled drop.
pub fn of_event(event: &DropEvent) -> Place {
    find(Drop {
        reason: &event.reason,
        function: &event.function,
        stack: &event.stack,
        protocol: event.protocol,
        tcp_flags: event.tcp_flags,
        multicast: event.destination.is_some_and(|to| is_multicast(to.ip())),
    })
}

/// Place of drops that were only counted: without stack, hence without hook.
pub fn of_count(count: &DropCount) -> Place {
    find(Drop {
        reason: &count.reason,
        function: &count.function,
        protocol: count.protocol,
        tcp_flags: count.tcp_flags,
        multicast: count.multicast,
        ..Drop::default()
    })
}

/// True for an address that means many: multicast, or the limited broadcast.
pub fn is_multicast(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn find(drop: Drop<'_>) -> Place {
    let row = table::rows().find(|row| row.matches(drop));
    let place = row.map_or_else(|| unknown(drop.reason), |row| row.place);
    if place.stage == table::NETFILTER { netfilter(drop, place) } else { place }
}

/// No row fits: what the catalogue says about the reason still holds.
fn unknown(name: &str) -> Place {
    Place { class: reason(name).map_or(Class::Conditional, |known| known.class), ..table::UNKNOWN }
}

/// Netfilter drops in one function for all of its hooks; who called it tells the hook.
fn netfilter(drop: Drop<'_>, place: Place) -> Place {
    let family = drop.stack.iter().find_map(|caller| hook_of_caller(caller));
    let (stage, cause) = match family {
        Some(Family::Ip(hook)) => (ip_stage(hook), place.cause),
        Some(Family::Arp(stage)) => (stage, place.cause.map(|_| "netfilter.arp_drop")),
        Some(Family::Bridged(hook)) => (ip_stage(hook), place.cause.map(|_| "netfilter.br_netfilter_drop")),
        Some(Family::Bridge(_)) => ("netfilter.bridge", place.cause.map(|_| "netfilter.bridge_drop")),
        Some(Family::Device(stage)) => (stage, place.cause.map(|_| "netfilter.ingress_drop")),
        None => (place.stage, place.cause),
    };
    Place { stage, cause, ..place }
}

/// The netfilter hook of a sampled drop, from its stack.
pub fn hook(event: &DropEvent) -> Option<Hook> {
    // Further down the stack the packet met other hooks, and passed them.
    match event.stack.iter().find_map(|caller| hook_of_caller(caller))? {
        Family::Ip(hook) | Family::Bridged(hook) => Some(hook),
        Family::Device("netfilter.ingress") => Some(Hook::Ingress),
        Family::Device(_) => Some(Hook::Egress),
        Family::Arp("netfilter.arp_input") => Some(Hook::Input),
        Family::Arp(_) => Some(Hook::Output),
        // What the bridge device itself sends meets another hook in the same function (`__br_forward()`).
        Family::Bridge(Some(Hook::Forward)) if event.stack.iter().any(|f| f == "br_dev_xmit") => {
            Some(Hook::Output)
        }
        Family::Bridge(hook) => hook,
    }
}

/// True for a bridged frame that died in the IP firewall, where br_netfilter had sent it.
pub fn is_bridged(event: &DropEvent) -> bool {
    event
        .stack
        .iter()
        .find_map(|caller| hook_of_caller(caller))
        .is_some_and(|f| matches!(f, Family::Bridged(_)))
}

#[derive(Clone, Copy)]
enum Family {
    Ip(Hook),
    Bridged(Hook),
    Arp(&'static str),
    /// Of the bridge family; the hook, where the function runs one only.
    Bridge(Option<Hook>),
    Device(&'static str),
}

/// Functions that run the hooks. NF_HOOK is inlined into them, so their name is the first on the stack that is
/// not netfilter's own; net/ipv4, net/ipv6, net/bridge, net/core/dev.c of 5.10 to 6.18.
fn hook_of_caller(function: &str) -> Option<Family> {
    Some(match function {
        "ip_rcv" | "ipv6_rcv" | "ip_list_rcv" | "ipv6_list_rcv" | "ip_sublist_rcv" | "ip6_sublist_rcv" => {
            Family::Ip(Hook::Prerouting)
        }
        "ip_local_deliver" | "ip6_input" => Family::Ip(Hook::Input),
        "ip_forward" | "ip6_forward" | "ip_mr_forward" | "ip6_mr_forward" => Family::Ip(Hook::Forward),
        "__ip_local_out" | "ip_local_out" | "__ip6_local_out" | "ip6_local_out" | "ip6_xmit"
        | "raw_sendmsg" | "rawv6_sendmsg" | "raw_send_hdrinc" | "rawv6_send_hdrinc" | "ndisc_send_skb"
        | "mld_sendpack" | "igmp6_send" => Family::Ip(Hook::Output),
        "ip_output" | "ip_mc_output" | "ip6_output" | "xfrm4_output" | "xfrm6_output" => {
            Family::Ip(Hook::Postrouting)
        }
        "arp_rcv" => Family::Arp("netfilter.arp_input"),
        "arp_xmit" | "arp_send_dst" => Family::Arp("netfilter.arp_output"),
        "__netif_receive_skb_core" => Family::Device("netfilter.ingress"),
        "__dev_queue_xmit" => Family::Device("netfilter.egress"),
        // net/bridge/br_netfilter_hooks.c and br_netfilter_ipv6.c.
        name if name.starts_with("br_nf_pre_routing") => Family::Bridged(Hook::Prerouting),
        name if name.starts_with("br_nf_forward") => Family::Bridged(Hook::Forward),
        name if name.starts_with("br_nf_post_routing") => Family::Bridged(Hook::Postrouting),
        "__br_forward" | "br_forward" | "br_flood" | "maybe_deliver" => Family::Bridge(Some(Hook::Forward)),
        "br_handle_frame" => Family::Bridge(Some(Hook::Prerouting)),
        "br_pass_frame_up" | "br_handle_local_finish" => Family::Bridge(Some(Hook::Input)),
        "br_forward_finish" => Family::Bridge(Some(Hook::Postrouting)),
        name if name.starts_with("br_") || name.starts_with("__br_") => Family::Bridge(None),
        _ => return None,
    })
}

const fn ip_stage(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "netfilter.prerouting",
        Hook::Input => "netfilter.input",
        Hook::Forward => "netfilter.forward",
        Hook::Output => "netfilter.output",
        Hook::Postrouting => "netfilter.postrouting",
        Hook::Ingress => "netfilter.ingress",
        Hook::Egress => "netfilter.egress",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reason: &str, function: &str, stack: &[&str]) -> DropEvent {
        DropEvent {
            reason: reason.into(),
            function: function.into(),
            stack: stack.iter().map(|s| (*s).into()).collect(),
            ..DropEvent::default()
        }
    }

    #[test]
    fn the_stack_tells_the_hook() {
        let place = of_event(&event("NETFILTER_DROP", "nf_hook_slow", &["ip_local_deliver", "ip_rcv"]));
        assert_eq!((place.stage, place.cause), ("netfilter.input", Some("netfilter.drop_rule")));
        let place = of_event(&event(
            "NETFILTER_DROP",
            "nft_do_chain",
            &["nft_do_chain_inet", "nf_hook_slow", "__ip_local_out", "ip_send_skb"],
        ));
        assert_eq!(place.stage, "netfilter.output");
        let place =
            of_event(&event("NETFILTER_DROP", "nft_do_chain", &["nf_hook_slow", "__netif_receive_skb_core"]));
        assert_eq!((place.stage, place.cause), ("netfilter.ingress", Some("netfilter.ingress_drop")));
        let place = of_event(&event("NETFILTER_DROP", "nft_do_chain", &[]));
        assert_eq!(place.stage, "netfilter");
        // Where br_netfilter is loaded it stands further down the stack.
        let forwarded = ["nf_hook_slow", "__br_forward", "br_handle_frame_finish", "br_nf_pre_routing"];
        let bridged = event("NETFILTER_DROP", "nft_do_chain", &forwarded);
        assert_eq!((of_event(&bridged).stage, hook(&bridged)), ("netfilter.bridge", Some(Hook::Forward)));
        let sent = ["nf_hook_slow", "__br_forward", "br_forward", "br_dev_xmit", "dev_hard_start_xmit"];
        assert_eq!(hook(&event("NETFILTER_DROP", "nft_do_chain", &sent)), Some(Hook::Output));
    }

    #[test]
    fn the_place_speaks_where_the_reason_is_silent() {
        for (function, cause) in [
            ("do_xdp_generic", "xdp.drop"),
            ("__dev_forward_skb2", "mtu.peer_mismatch"),
            ("dst_discard_out", "route.blackhole"),
        ] {
            assert_eq!(of_event(&event("NOT_SPECIFIED", function, &[])).cause, Some(cause), "{function}");
            assert_eq!(of_event(&event("", function, &[])).cause, Some(cause), "{function} without reasons");
        }
    }

    #[test]
    fn innocent_drops_are_called_so() {
        for (reason, function, stack) in [
            ("QUEUE_PURGE", "skb_queue_purge_reason", &["inet_sock_destruct"][..]),
            ("NO_SOCKET", "ping_rcv", &[]),
            ("OTHERHOST", "ip_rcv_core", &[]),
            ("UNHANDLED_PROTO", "__netif_receive_skb_core", &[]),
            ("NOT_SPECIFIED", "ip6_mc_input", &[]),
            // The message with which nft changes its rules.
            ("NOT_SPECIFIED", "nfnetlink_rcv_batch", &[]),
        ] {
            assert_eq!(of_event(&event(reason, function, stack)).class, Class::Benign, "{reason} {function}");
        }
        let mut reset = event("NO_SOCKET", "tcp_v4_rcv", &[]);
        reset.tcp_flags = Some(0x14);
        assert_eq!(of_event(&reset).class, Class::Benign);
    }

    #[test]
    fn multicast_that_meets_no_route_is_no_loss() {
        let mut report = event("IP_INNOROUTES", "ip6_pkt_discard", &[]);
        report.destination = "[fe80::2]:0".parse().ok();
        assert_eq!(of_event(&report).class, Class::Loss);
        report.destination = "[ff02::16]:0".parse().ok();
        assert_eq!(of_event(&report).class, Class::Benign);
        let count = DropCount { reason: report.reason, function: report.function, ..DropCount::default() };
        assert_eq!(of_count(&count).class, Class::Loss);
        assert_eq!(of_count(&DropCount { multicast: true, ..count }).class, Class::Benign);
    }

    #[test]
    fn a_purged_neighbour_queue_is_loss() {
        let place = of_event(&event("QUEUE_PURGE", "skb_queue_purge_reason", &["neigh_flush_dev"]));
        assert_eq!((place.class, place.cause), (Class::Loss, Some("neigh.unresolved")));
    }

    #[test]
    fn nothing_is_guessed() {
        let place = of_event(&event("SOME_NEW_REASON", "some_new_function", &[]));
        assert_eq!((place.stage, place.cause, place.class), ("unknown", None, Class::Conditional));
    }
}
