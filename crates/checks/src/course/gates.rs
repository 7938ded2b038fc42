//! What a packet meets in a namespace beside rules and routes: programs and filters of its interfaces, the reverse path
//! filter, IPsec policies, MTUs and queues.

use crate::evidence::case::Space;
use crate::evidence::packet::Packet;
use crate::evidence::way::Hop;
use crate::rules::route::rp_filter::{Opinion, opinion};
use crate::rules::tc::mirred_redirect::redirects;
use crate::rules::tc::side;
use crate::rules::xfrm::decides;
use crate::rules::xfrm::no_state::lacking;
use crate::rules::xfrm::template_mismatch::protects;
use whydrop_model::course::CourseFate;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::{Link, QdiscOptions, TcAction, TcFilter};
use whydrop_model::{Phrase, text};

/// Ethernet protocols: all of them, IPv4, IPv6 (linux/if_ether.h).
const ETH_P_ALL: u16 = 3;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// Longest name of a program shown.
const MAX_NAME: usize = 64;

/// One of them, and what it does.
pub struct Gate {
    /// Stage id.
    pub stage: &'static str,
    /// What it does to the packet.
    pub fate: CourseFate,
    /// In words.
    pub text: Phrase,
}

fn gate(stage: &'static str, fate: CourseFate, text: Phrase) -> Gate {
    Gate { stage, fate, text }
}

/// What takes packets as they come in by an interface, before any rule set sees them.
pub fn entering(space: Space<'_>, link: &Link, packet: &Packet) -> Vec<Gate> {
    let program = link.xdp.as_ref().map(|xdp| {
        let id = xdp.program.map_or_else(|| "?".to_owned(), |id| id.to_string());
        let text = text!(
            "XDP program {id} of {dev} decides, and what it does cannot be told",
            "由 {dev} 的 XDP 程序 {id} 决定，无法判断其行为"
        );
        gate("xdp.receive", CourseFate::May, text.fill(&[("id", &id), ("dev", &link.name)]))
    });
    program.into_iter().chain(filtered(space, link, "ingress", packet)).collect()
}

/// The tc filters of one side of an interface, `ingress` or `egress`; nothing if there are none.
pub fn filtered(space: Space<'_>, link: &Link, at: &str, packet: &Packet) -> Vec<Gate> {
    let stage = if at == "ingress" { "tc.ingress" } else { "tc.egress" };
    if !space.after.filters.is_present() {
        let text = text!("the tc filters of {dev} could not be read", "无法读取 {dev} 的 tc 过滤器");
        return vec![gate(stage, CourseFate::May, text.fill(&[("dev", &link.name)]))];
    }
    let mine = |f: &&TcFilter| f.link == link.index && side(f.parent) == at;
    let mut filters: Vec<&TcFilter> = space.after.filters.iter().filter(mine).collect();
    filters.sort_by_key(|filter| filter.preference);
    let mut out = vec![];
    for filter in filters.into_iter().filter(|filter| may_match(filter, packet)) {
        let sure = filter.kind == "matchall" && filter.protocol.is_some();
        let (fate, what, last) = said(space, filter);
        let fate = if fate == CourseFate::Ends && !sure { CourseFate::May } else { fate };
        let known = if sure || fate == CourseFate::Passes {
            Phrase::default()
        } else {
            text!(" if it matches, which cannot be told", "（若匹配；是否匹配无法判断）").phrase()
        };
        let place = format!("{} {} pref {} ({})", link.name, at, filter.preference, filter.kind);
        let words =
            [("place", &Phrase::same(sanitize(&place, MAX_NAME))), ("what", &what), ("known", &known)];
        let text = crate::rule::fill_words(
            text!("tc filter {place}: {what}{known}", "tc 过滤器 {place}：{what}{known}"),
            &words,
        );
        let ends = fate == CourseFate::Ends;
        out.push(gate(stage, fate, text));
        // Whoever matches all and is asked for no more, is the last one that is asked.
        if ends || (sure && last) {
            break;
        }
    }
    out
}

/// False for a filter that only looks at another protocol.
fn may_match(filter: &TcFilter, packet: &Packet) -> bool {
    let own = match packet.is_v6() {
        Some(true) => Some(ETH_P_IPV6),
        Some(false) => Some(ETH_P_IP),
        None => None,
    };
    filter.protocol.zip(own).is_none_or(|(wanted, own)| wanted == ETH_P_ALL || wanted == own)
}

/// What a filter does to what it matches, in words, and whether no later filter is asked then.
fn said(space: Space<'_>, filter: &TcFilter) -> (CourseFate, Phrase, bool) {
    let drops = |action: &&TcAction| {
        action.kind == "gact" && action.verdict.as_deref().is_some_and(|verdict| verdict.contains("drop"))
    };
    let away = filter.actions.iter().find(|action| redirects(space, action));
    if filter.actions.iter().any(|action| drops(&action)) {
        return (CourseFate::Ends, text!("drops", "丢弃").phrase(), true);
    }
    if let Some(action) = away {
        let to = action.target.map_or_else(|| "?".to_owned(), |index| space.after.link_name(index));
        let text = text!("sends to {to}, which is not followed", "送往 {to}，不再跟踪");
        return (CourseFate::May, text.fill(&[("to", &to)]), true);
    }
    if filter.actions.iter().any(|action| action.kind == "police") {
        return (CourseFate::May, text!("drops above a rate", "超过速率时丢弃").phrase(), false);
    }
    if filter.kind == "bpf" {
        let program = sanitize(filter.program.as_deref().unwrap_or("?"), MAX_NAME);
        let text = text!("BPF program {program} decides", "由 BPF 程序 {program} 决定");
        return (CourseFate::May, text.fill(&[("program", &program)]), false);
    }
    let last = filter.actions.iter().any(|action| action.verdict.as_deref() == Some("ok"));
    (CourseFate::Passes, text!("lets pass", "放行").phrase(), last)
}

/// What the reverse path filter of the interface by which it came makes of it; nothing for IPv6, which has none.
pub fn reverse_path(space: Space<'_>, hop: &Hop) -> Option<Gate> {
    let link = space.after.link(*hop.incoming.last()?)?;
    let from = hop.early.source.filter(|ip| ip.is_ipv4())?;
    let words: [(&str, &dyn std::fmt::Display); 2] = [("from", &from), ("dev", &link.name)];
    let (fate, text) = match opinion(space, link, from, hop.routed.destination) {
        Opinion::Off => return None,
        Opinion::Unread => (
            CourseFate::May,
            text!("rp_filter of {dev} could not be read", "无法读取 {dev} 的 rp_filter").fill(&words),
        ),
        Opinion::Passes => (
            CourseFate::Passes,
            text!("rp_filter of {dev}: {from} may come by it", "{dev} 的 rp_filter：允许 {from} 由此进入")
                .fill(&words),
        ),
        Opinion::Discards => (
            CourseFate::Ends,
            text!(
                "rp_filter of {dev} discards: the way back to {from} is another one",
                "{dev} 的 rp_filter 丢弃：回到 {from} 的路不经过它"
            )
            .fill(&words),
        ),
    };
    Some(gate("route.input", fate, text))
}

/// What IPsec policies of one direction (`in`, `fwd`, `out`) make of it. `protected` says whether a namespace on the way
/// protects it, and learns it; nothing where no policy is about it.
pub fn ipsec(space: Space<'_>, direction: &str, packet: &Packet, protected: &mut bool) -> Option<Gate> {
    // A kernel without IPsec has none, and says so.
    if space.after.xfrm.is_hidden() {
        let text = text!("the IPsec policies could not be read", "无法读取 IPsec 策略").phrase();
        return Some(gate("xfrm", CourseFate::May, text));
    }
    let policy = decides(space, direction, packet)?;
    let network = |(ip, prefix): (std::net::IpAddr, u8)| format!("{ip}/{prefix}");
    let name = format!(
        "src {} dst {} dir {direction}",
        network(policy.selector.source),
        network(policy.selector.destination)
    );
    let words: [(&str, &dyn std::fmt::Display); 1] = [("policy", &name)];
    let (fate, text) = if policy.block {
        (CourseFate::Ends, text!("IPsec policy {policy}: blocks", "IPsec 策略 {policy}：阻止"))
    } else if direction == "out" && lacking(space, policy).is_some() {
        (
            CourseFate::Ends,
            text!(
                "IPsec policy {policy}: wants a protection for which there is no state",
                "IPsec 策略 {policy}：要求保护，但没有对应的状态"
            ),
        )
    } else if direction == "out" && !policy.templates.is_empty() {
        *protected = true;
        (CourseFate::Passes, text!("IPsec policy {policy}: protects it", "IPsec 策略 {policy}：加以保护"))
    } else if protects(policy) && *protected {
        (
            CourseFate::May,
            text!(
                "IPsec policy {policy}: wants protection; whether it is the right one cannot be told",
                "IPsec 策略 {policy}：要求保护；是否为正确的保护无法判断"
            ),
        )
    } else if protects(policy) {
        (
            CourseFate::Ends,
            text!(
                "IPsec policy {policy}: wants protection, and it comes without",
                "IPsec 策略 {policy}：要求保护，而包未受保护"
            ),
        )
    } else {
        (CourseFate::Passes, text!("IPsec policy {policy}: lets pass", "IPsec 策略 {policy}：放行"))
    };
    Some(gate("xfrm", fate, text.fill(&words)))
}

/// What fits through an interface and into its other end. What is asked with is small; the size is said for what follows.
pub fn size(space: Space<'_>, link: &Link, route: Option<u32>) -> Gate {
    let mtu = route.filter(|mtu| *mtu > 0).map_or(link.mtu, |mtu| mtu.min(link.mtu));
    let there = space.peer(link).map(|(_, peer)| peer.mtu).filter(|peer| *peer < mtu);
    match there {
        Some(peer) => {
            let text = text!(
                "{dev} sends packets of up to {mtu} bytes, and its other end takes {peer}: larger ones vanish there",
                "{dev} 最多发送 {mtu} 字节的包，而其对端只收 {peer}：更大的包在那里消失"
            );
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("dev", &link.name), ("mtu", &mtu), ("peer", &peer)];
            gate("ip.transmit", CourseFate::May, text.fill(&words))
        }
        None => {
            let text = text!("{dev} carries packets of up to {mtu} bytes", "{dev} 可承载最多 {mtu} 字节的包");
            gate("ip.transmit", CourseFate::Passes, text.fill(&[("dev", &link.name), ("mtu", &mtu)]))
        }
    }
}

/// The queue of an interface.
pub fn queue(space: Space<'_>, link: &Link) -> Gate {
    let queue = space.after.qdiscs.iter().find(|q| q.link == link.index && q.parent == u32::MAX);
    let kind = queue.map_or("noqueue", |queue| queue.kind.as_str());
    let percent = match queue.map(|queue| &queue.options) {
        Some(QdiscOptions::Netem { loss, .. }) if *loss > 0.0 => Some(loss * 100.0),
        _ => None,
    };
    let shown = percent.map_or_else(String::new, |percent| format!("{percent:.1}"));
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("dev", &link.name), ("kind", &sanitize(kind, MAX_NAME)), ("percent", &shown)];
    let (fate, text) = match (kind, percent) {
        ("blackhole", _) => {
            (CourseFate::Ends, text!("the queue of {dev} drops all: {kind}", "{dev} 的队列丢弃一切：{kind}"))
        }
        (_, Some(percent)) => (
            if percent < 100.0 { CourseFate::May } else { CourseFate::Ends },
            text!(
                "the queue of {dev} ({kind}) drops {percent} % on purpose",
                "{dev} 的队列（{kind}）有意丢弃 {percent} %"
            ),
        ),
        _ => (CourseFate::Passes, text!("leaves by {dev}, queue {kind}", "从 {dev} 离开，队列 {kind}")),
    };
    gate("qdisc.transmit", fate, text.fill(&words))
}
