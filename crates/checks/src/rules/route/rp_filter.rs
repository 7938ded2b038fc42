//! `route.rp_filter`: reverse path filtering discards packets.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Missing, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::route::{Lookup, lookup};
use crate::fixes::{fix, manual};
use crate::loss::Loss;
use crate::loss::missing::{self, Frame};
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::action::Action;
use whydrop_model::snapshot::{Link, Route};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.rp_filter",
    title: text!("Reverse path filtering discards packets", "反向路径过滤丢弃数据包"),
    meaning: text!(
        "A packet came in on another interface than the route back to its source uses, and rp_filter is strict.",
        "包的入接口与返回其来源的路由所用接口不同，而 rp_filter 为严格模式。"
    ),
    seen_by: text!(
        "TcpExt.IPReversePathFilter rose in the window. The effective setting of an interface is the larger of all and its own.",
        "TcpExt.IPReversePathFilter 在窗口内增加。接口的有效设置取 all 与自身的较大值。"
    ),
    why_lost: text!(
        "The kernel takes such a packet for forged and drops it without an answer and, by default, without a log line.",
        "内核把这样的包视为伪造并丢弃，不作应答，默认也不记录日志。"
    ),
    what_to_do: text!(
        "Make routing symmetric, or set rp_filter of the interface to 2 (loose).",
        "使路由对称，或把该接口的 rp_filter 设为 2（宽松）。"
    ),
    when_wrong: text!(
        "Truly forged packets are discarded, too: then it does its work.",
        "真正伪造的包也会被丢弃：那是它在尽职。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib], judge };

/// The counter of these drops.
const COUNTER: &str = "TcpExt.IPReversePathFilter";
/// net.ipv4.conf.*.rp_filter: 1 is strict, 2 loose.
const STRICT: i64 = 1;

const SUMMARY: Text = text!(
    "Strict reverse path filtering discards what arrives on {dev}.",
    "严格的反向路径过滤丢弃了从 {dev} 到达的包。"
);
const SETTING: Text = text!("rp_filter is strict on {dev}", "{dev} 的 rp_filter 为严格模式");
const LOOSE: Text =
    text!("set rp_filter of the interface to 2 (loose)", "把该接口的 rp_filter 设为 2（宽松）");
const WEAKER: Text = text!(
    "forged source addresses that are routed elsewhere pass this interface then",
    "此后伪造的、路由在别处的源地址可以通过该接口"
);
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let lost = space.mib(COUNTER);
    let met = space.case.flows.iter().any(|flow| is_refused(space, flow));
    if lost == 0 && !met {
        return Judgement::default();
    }
    let (dev, was) = strict_device(space);
    let name = format!("net.ipv4.conf.{dev}.rp_filter");
    let culprit = Culprit::new(space, &CAUSE, "route.input", Scope::Netns, name)
        .direction(Direction::Receive)
        .misses(ways_back(space))
        .takes(move |loss| match &loss.frame {
            Some(Frame::Ip(Some(packet))) => sure(is_ignored(space, loss, packet)),
            _ => sure(loss.is_in(space) && loss.is_of(CAUSE.id)),
        })
        .harms(move |flow| match is_refused(space, flow) {
            true => Fit::Yes,
            false if lost > 0 && flow.suffers() && flow.visits(space) => Fit::Maybe,
            false => Fit::No,
        })
        .tell(move |_| story(space, &dev, was, lost));
    Some(if lost > 0 { culprit.meter(lost, Count::Exact, COUNTER) } else { culprit }).into()
}

fn story(space: Space<'_>, dev: &str, was: Option<i64>, lost: u64) -> Story {
    let story = Story::new(SUMMARY.fill(&[("dev", &dev)])).counter(COUNTER, lost);
    let Some(was) = was else { return story.fix(manual(LOOSE)) };
    let name = format!("net.ipv4.conf.{dev}.rp_filter");
    let action = Action::Sysctl { name: name.clone(), value: "2".into(), was: was.to_string() };
    let mut loose = fix(space, LOOSE.phrase(), vec![action]);
    (loose.caution, loose.persist) = (Some(WEAKER.phrase()), Some(PERSIST.phrase()));
    story.evidence(SETTING.fill(&[("dev", &dev)]), "sysctl", &["sysctl", &name]).fix(loose)
}

/// True for a flow that suffers and comes in on a strict interface which the way back does not use. Its ARP request is
/// refused already, without a counter: arp_process() looks up the route back as well.
fn is_refused(space: Space<'_>, flow: &Flow<'_>) -> bool {
    flow.suffers()
        && flow.port.is_some()
        && flow.arrivals(space).into_iter().any(|(incoming, from, to)| {
            let link = space.after.link(incoming);
            link.is_some_and(|link| is_strict(space, link) && comes_astray(space, link, from, Some(to)))
        })
}

/// True if none of the next hops of the way back leaves by the interface by which it came
/// (net/ipv4/fib_frontend.c:fib_info_nh_uses_dev).
fn comes_astray(space: Space<'_>, link: &Link, from: IpAddr, to: Option<IpAddr>) -> bool {
    let elsewhere = |route: &Route| {
        let mut out = route.next_hops.iter().filter_map(|hop| hop.link).peekable();
        out.peek().is_some() && out.all(|out| out != link.index)
    };
    from.is_ipv4() && matches!(lookup(space, from, to), Lookup::Via(route, _) if elsewhere(route))
}

/// What the filter would make of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It does not look.
    Off,
    /// Its setting could not be read.
    Unread,
    /// It lets pass.
    Passes,
    /// It discards.
    Discards,
}

/// What the filter of an interface would make of a packet that comes in by it.
pub fn opinion(space: Space<'_>, link: &Link, from: IpAddr, to: Option<IpAddr>) -> Opinion {
    let all = space.after.sysctl("net.ipv4.conf.all.rp_filter");
    match own_setting(space, link).zip(all).map(|(own, all)| own.max(all)) {
        _ if link.loopback => Opinion::Off,
        None => Opinion::Unread,
        Some(0) => Opinion::Off,
        // Even the loose one wants some way back (net/ipv4/fib_frontend.c:__fib_validate_source).
        Some(_) if matches!(lookup(space, from, to), Lookup::Missing | Lookup::Refused(_)) => {
            Opinion::Discards
        }
        Some(STRICT) if comes_astray(space, link, from, to) => Opinion::Discards,
        Some(_) => Opinion::Passes,
    }
}

/// True for a question that arp_process() does not answer: the way back to who asks is not the one by which it came. It
/// moves no counter.
fn is_ignored(space: Space<'_>, loss: &Loss<'_>, packet: &Packet) -> bool {
    let name = packet.in_interface.as_deref();
    let came_by = space.links().find(|link| Some(link.name.as_str()) == name);
    let decided = loss.is_in(space) && loss.hook.is_none() && loss.link.is_none() && packet.protocol == 0;
    decided
        && came_by.filter(|link| is_strict(space, link)).zip(packet.source).is_some_and(|(link, from)| {
            let back = lookup(space, from, packet.destination);
            from.is_ipv4() && matches!(back, Lookup::Via(_, hop) if hop.link != Some(link.index))
        })
}

/// The answers to what was discarded, if none of them has a way: the filter then only says so first.
fn ways_back(space: Space<'_>) -> Missing<'_> {
    let discarded = space.losses().filter(|loss| loss.is_of(CAUSE.id)).filter_map(|loss| loss.event);
    let sampled = discarded
        .filter_map(|event| Some((event.protocol?, event.source?.ip(), event.destination.map(|to| to.ip()))));
    let suffering = space.case.flows.iter().filter(|flow| flow.suffers());
    let arriving = suffering.flat_map(|flow| {
        flow.arrivals(space).into_iter().map(|(_, from, to)| (flow.protocol, from, Some(to)))
    });
    let ends: Vec<(u8, IpAddr, Option<IpAddr>)> = sampled.chain(arriving).collect();
    let has_way = |(_, from, to): &(u8, IpAddr, Option<IpAddr>)| {
        matches!(lookup(space, *from, *to), Lookup::Via(..) | Lookup::Local | Lookup::Unknown)
    };
    // Nobody answers what is sent to a group.
    let to_group = |(.., to): &(u8, IpAddr, Option<IpAddr>)| to.is_some_and(|to| to.is_multicast());
    if ends.iter().any(|end| has_way(end) || to_group(end)) {
        return vec![];
    }
    let answer = |(protocol, from, to): (u8, IpAddr, Option<IpAddr>)| Packet {
        protocol,
        source: to,
        destination: Some(from),
        reply: true,
        ..Packet::default()
    };
    ends.into_iter().map(|ends| missing::at_routing(space, answer(ends))).collect()
}

fn own_setting(space: Space<'_>, link: &Link) -> Option<i64> {
    space.after.sysctl(&format!("net.ipv4.conf.{}.rp_filter", link.name))
}

/// The effective setting is the larger of `all` and the interface's own.
fn is_strict(space: Space<'_>, link: &Link) -> bool {
    let all = space.after.sysctl("net.ipv4.conf.all.rp_filter").unwrap_or(0);
    !link.loopback && link.up && own_setting(space, link).is_some_and(|own| own.max(all) == STRICT)
}

/// The interface that discards, with its own setting: the one that the kernel's drop events name, else the strict one
/// that the way back of a flow that suffers does not use, else the first strict one.
fn strict_device(space: Space<'_>) -> (String, Option<i64>) {
    let strict: Vec<&Link> = space.links().filter(|link| is_strict(space, link)).collect();
    let named = |link: &Link| space.losses().any(|l| l.is_of(CAUSE.id) && l.is_at(space, link.index));
    let astray = |link: &Link| {
        let sources = space.case.flows.iter().filter(|flow| flow.suffers()).filter_map(|flow| flow.source);
        let receives = space.link_rise(link, "rx_packets") > 0;
        receives
            && sources.into_iter().any(
                |ip| !matches!(lookup(space, ip, None), Lookup::Via(_, hop) if hop.link == Some(link.index)),
            )
    };
    let found = strict
        .iter()
        .find(|l| named(l))
        .or_else(|| strict.iter().find(|l| astray(l)))
        .or_else(|| strict.first());
    found.map_or_else(|| ("all".to_owned(), None), |link| (link.name.clone(), own_setting(space, link)))
}
