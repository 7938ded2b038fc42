//! `route.rp_filter`: reverse path filtering discards packets.

use crate::case::Space;
use crate::coverage::Source;
use crate::route::{Lookup, lookup};
use crate::rule::{Judgement, Rule, Suspect, fix, manual};
use whydrop_model::action::Action;
use whydrop_model::snapshot::Link;
use whydrop_model::{Applicability, Cause, Direction, Text, text};

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
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[Source::Mib],
    consequence_of: &["route.no_return_route", "route.blackhole", "route.policy_rule", "link.admin_down"],
    judge,
};

/// The kernel's name for these drops.
const REASON: &str = "IP_RPFILTER";
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

fn judge(space: Space<'_>) -> Judgement {
    let lost = space.mib("TcpExt.IPReversePathFilter");
    let unanswered = unanswered(space);
    if lost == 0 && unanswered.is_empty() {
        return Judgement::default();
    }
    let (dev, was) = strict_device(space);
    let name = format!("net.ipv4.conf.{dev}.rp_filter");
    let summary = SUMMARY.fill(&[("dev", &dev)]);
    let mut suspect = Suspect::new(space, &CAUSE, "route.input", name.clone(), summary)
        .direction(Direction::Receive)
        .drop_events(space.drops_because(&[REASON]), REASON)
        .touches(if lost > 0 { space.probes_through() } else { unanswered });
    if lost > 0 {
        suspect =
            suspect.packets(lost, "TcpExt.IPReversePathFilter").counter("TcpExt.IPReversePathFilter", lost);
    }
    if let Some(cause) = refusal_of_sources(space) {
        suspect = suspect.follows(cause);
    }
    if let Some(was) = was {
        let claim = SETTING.fill(&[("dev", &dev)]);
        let action = Action::Sysctl { name: name.clone(), value: "2".into(), was: was.to_string() };
        let mut loose = fix(space, LOOSE.phrase(), Applicability::Safe, vec![action]);
        loose.caution = Some(WEAKER.phrase());
        loose.persist = Some(PERSIST.phrase());
        suspect = suspect.evidence(claim, "sysctl", &["sysctl", &name]).fix(loose);
    } else {
        suspect = suspect.fix(manual(LOOSE));
    }
    vec![suspect].into()
}

/// Lost probes that come in on a strict interface which the way back does not use. Their ARP request is refused
/// already, without a counter: arp_process() looks up the route back as well.
fn unanswered(space: Space<'_>) -> Vec<usize> {
    let ways = space.case.ways.iter().filter(|way| way.lost() > 0 && way.port.is_some());
    let refused = ways.filter(|way| {
        way.arrivals(space).into_iter().any(|(incoming, from, to)| {
            let back = lookup(space, from, Some(to));
            let elsewhere =
                matches!(back, Lookup::Via(_, hop) if hop.link.is_some_and(|out| out != incoming));
            elsewhere && space.after.link(incoming).is_some_and(|link| is_strict(space, link))
        })
    });
    refused.map(|way| way.index).collect()
}

/// What refuses the way back to all sources whose discarded packets were sampled: the filter then only says so first.
fn refusal_of_sources(space: Space<'_>) -> Option<&'static [&'static str]> {
    let inode = Some(space.target().netns_inode);
    let sampled = space.case.drop_log().into_iter().flat_map(|log| &log.sampled);
    let mut causes = sampled
        .filter(|event| event.netns_inode == inode && event.reason == REASON)
        .filter_map(|event| event.source)
        .map(|source| match lookup(space, source.ip(), None) {
            Lookup::Refused(_) => Some(&["route.blackhole"]),
            Lookup::RefusedByRule(_) => Some(&["route.policy_rule"]),
            Lookup::Missing => Some(&["route.no_return_route"]),
            _ => None,
        });
    let first = causes.next()??;
    causes.all(|cause| cause == Some(first)).then_some(first)
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
/// that the way back of a lost probe does not use, else the first strict one.
fn strict_device(space: Space<'_>) -> (String, Option<i64>) {
    let strict: Vec<&Link> = space.links().filter(|link| is_strict(space, link)).collect();
    let named = |link: &Link| space.drop_counts().any(|c| c.reason == REASON && c.link == Some(link.index));
    let astray = |link: &Link| {
        let sources = space.case.ways.iter().filter(|way| way.lost() > 0).filter_map(|way| way.source);
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
