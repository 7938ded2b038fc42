//! `route.forwarding_off`: the machine should forward and does not.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::route::{Lookup, lookup_from};
use crate::fixes::fix;
use crate::loss::missing::Frame;
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::action::Action;
use whydrop_model::netfilter::Hook;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.forwarding_off",
    title: text!("The machine should forward and does not", "本机应当转发却没有转发"),
    meaning: text!(
        "Packets for others arrive, and forwarding is switched off.",
        "发给他人的包到达本机，而转发功能处于关闭状态。"
    ),
    seen_by: text!(
        "The way of a flow that suffers leads through this namespace, or Ip.InAddrErrors rose on a machine with several networks, and forwarding is 0.",
        "受影响的流的路径经过该命名空间，或连接多个网络的机器上 Ip.InAddrErrors 增加，且 forwarding 为 0。"
    ),
    why_lost: text!(
        "A host that does not forward discards what is not addressed to it, without an answer.",
        "不转发的主机会丢弃不是发给自己的包，且不作应答。"
    ),
    what_to_do: text!(
        "Set net.ipv4.ip_forward=1, or net.ipv6.conf.all.forwarding=1.",
        "设置 net.ipv4.ip_forward=1 或 net.ipv6.conf.all.forwarding=1。"
    ),
    when_wrong: text!(
        "A machine that should not be a router is right to refuse: then the sender's route is wrong.",
        "不该充当路由器的机器拒绝转发是对的：那么是发送方的路由有误。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes, Source::Mib], judge };

const SUMMARY: Text = text!(
    "Packets for others arrive, but forwarding is switched off.",
    "发给他人的包到达，但转发功能已关闭。"
);
const OFF: Text = text!("{name} is 0", "{name} 为 0");
const ON: Text = text!("switch forwarding on", "启用转发");
const ROUTER: Text = text!(
    "the machine becomes a router for everything that its firewall lets pass",
    "本机将成为路由器，转发防火墙放行的所有流量"
);
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let off = |name: &String| space.after.sysctl(name) == Some(0);
    let all = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"].map(str::to_owned);
    // IPv4 asks the interface by which a packet comes (ip_route_input_slow()), IPv6 the namespace (ip6_forward()).
    let of_link = |link: &'_ Link| format!("net.ipv4.conf.{}.forwarding", link.name);
    let links = space.links().filter(|link| !link.loopback && !off(&all[0]) && off(&of_link(link)));
    let links = links.map(|link| Off { space, name: of_link(link), v6: false, link: Some(link.index) });
    let whole = all.iter().filter(|name| off(name));
    let whole = whole.map(|name| Off { space, name: name.clone(), v6: name.contains("ipv6"), link: None });
    whole.chain(links).filter_map(culprit).collect::<Vec<_>>().into()
}

/// A setting that keeps packets from being forwarded.
#[derive(Clone)]
struct Off<'a> {
    space: Space<'a>,
    name: String,
    v6: bool,
    /// The interface by which they come; none for all.
    link: Option<u32>,
}

/// What forwarding costs by being off.
fn culprit(off: Off<'_>) -> Option<Culprit<'_>> {
    let Off { space, name, v6, link } = off.clone();
    let counter = if v6 { "Ip6InAddrErrors" } else { "Ip.InAddrErrors" };
    let counted = if v6 { space.mib6(counter) } else { space.mib(counter) };
    // The counter is the namespace's; of one interface only the events tell.
    let refused = if link.is_none() { counted } else { 0 };
    let networks = space.links().filter(|l| !l.loopback && l.up && l.lower_up && l.master.is_none()).count();
    let needed = space.case.flows.iter().any(|flow| is_transit(&off, flow));
    let discards = || space.losses().any(|loss| loss.event.is_some() && takes(&off, loss) != Fit::No);
    if !needed && (counted == 0 || networks < 2 || (link.is_some() && !discards())) {
        return None;
    }
    let (taking, harming) = (off.clone(), off);
    let culprit = Culprit::new(space, &CAUSE, "ip.forward", Scope::Netns, name.clone())
        .direction(Direction::Forward)
        .takes(move |loss| takes(&taking, loss))
        .harms(move |flow| sure(is_transit(&harming, flow)))
        .tell(move |_| {
            let action = Action::Sysctl { name: name.clone(), value: "1".into(), was: "0".into() };
            let mut on = fix(space, ON.phrase(), vec![action]);
            (on.caution, on.persist) = (Some(ROUTER.phrase()), Some(PERSIST.phrase()));
            Story::new(SUMMARY.phrase())
                .evidence(OFF.fill(&[("name", &name)]), "sysctl", &["sysctl", &name])
                .counter(counter, counted)
                .fix(on)
        });
    Some(if refused > 0 { culprit.meter(refused, Count::Exact, counter) } else { culprit })
}

/// True for a flow that suffers and has to be forwarded here: on, and not back to where it came from.
fn is_transit(off: &Off<'_>, flow: &Flow<'_>) -> bool {
    let Off { space, v6, link, .. } = *off;
    let on = |(incoming, from, to): (u32, IpAddr, IpAddr)| {
        let out = match lookup_from(space, to, Some(from), Some(incoming)) {
            Lookup::Via(_, hop) => hop.link,
            _ => None,
        };
        to.is_ipv6() == v6
            && out.is_some_and(|out| out != incoming)
            && link.is_none_or(|link| link == incoming)
    };
    flow.suffers() && flow.is_forwarded_by(space) && flow.arrivals(space).into_iter().any(on)
}

/// One place of two functions, ip_error() and ip6_forward().
fn takes(off: &Off<'_>, loss: &Loss<'_>) -> Fit {
    let Off { space, v6, link, .. } = *off;
    if loss.kind == Kind::Imagined {
        let name = link.map(|link| space.after.link_name(link));
        let came = |packet: &Packet| name.is_none() || packet.in_interface == name;
        let of_family = |packet: &Packet| packet.destination.is_some_and(|ip| ip.is_ipv6() == v6);
        let forwarded = loss.is_in(space) && loss.hook == Some(Hook::Forward);
        return match &loss.frame {
            Some(Frame::Ip(Some(packet))) => sure(forwarded && of_family(packet) && came(packet)),
            _ => Fit::No,
        };
    }
    let of_family = loss.count.is_some_and(|count| count.function.starts_with("ip6") == v6);
    let here = loss.is_in(space) && link.is_none_or(|link| loss.is_at(space, link));
    sure(here && loss.is_of(CAUSE.id) && of_family)
}
