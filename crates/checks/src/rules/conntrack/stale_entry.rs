//! `conntrack.stale_entry`: an old connection entry keeps sending packets to a place that is gone.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::tracked;
use crate::evidence::walk::Rules;
use crate::fixes::by_hand;
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, Rule};
use std::net::SocketAddr;
use whydrop_model::snapshot::ConntrackEntry;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "conntrack.stale_entry",
    title: text!(
        "An old connection entry keeps sending packets to a place that is gone",
        "旧的连接条目一直把包送往已不存在的地方"
    ),
    meaning: text!(
        "Connection tracking decided once where this conversation goes, and every packet keeps that decision alive although the rules say something else now.",
        "连接跟踪曾决定该会话的去向，而每个包都使这一决定继续有效，尽管规则现在已不同。"
    ),
    seen_by: text!(
        "An entry that packets kept alive in the window sends them elsewhere than the NAT rules would send its first packet now; nothing was ever answered there, or they die on their way there.",
        "某个在窗口内被包不断续期的条目，把包送往与现有 NAT 规则不同的地方；那里从未应答，或包在途中丢失。"
    ),
    why_lost: text!(
        "NAT rules see the first packet of a connection only; a UDP client that uses one socket for ever never sends a first one again.",
        "NAT 规则只处理连接的第一个包；一直使用同一套接字的 UDP 客户端再也不会发出首包。"
    ),
    what_to_do: text!(
        "Delete the entry with conntrack -D; the next packet meets the rules again.",
        "用 conntrack -D 删除该条目；下一个包会重新经过规则。"
    ),
    when_wrong: text!(
        "When the old place is meant to finish what it began.",
        "旧的目的地仍应处理完已有会话时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[Source::ConntrackEntries, Source::Nftables, Source::IptablesLegacy, Source::Ip6tablesLegacy],
    judge,
};

/// `net.netfilter.nf_conntrack_udp_timeout` where it was not read: the kernel's default.
const UDP_TIMEOUT: u32 = 30;
const UDP_SETTING: &str = "net.netfilter.nf_conntrack_udp_timeout";
/// The same for entries with answers (IPS_ASSURED): `net.netfilter.nf_conntrack_udp_timeout_stream`.
const STREAM_TIMEOUT: u32 = 120;
const STREAM_SETTING: &str = "net.netfilter.nf_conntrack_udp_timeout_stream";
/// IPPROTO_UDP.
const UDP: u8 = 17;
/// Where a packet dies of having been sent to a place that is gone.
const PLACES: [&str; 5] = ["neighbour", "route", "ip.receive", "ip.forward", "socket"];
/// Entries that are told apart; the others of the same pair of places are meant, too.
const MOST: usize = 16;

const SUMMARY: Text = text!(
    "A connection entry from before keeps sending {asked} to {old}; the rules would send it to {now}.",
    "先前的连接条目仍把发往 {asked} 的包送到 {old}；按现有规则应送到 {now}。"
);
const ENTRY: Text =
    text!("the entry of {source} for {asked} leads to {old}", "{source} 访问 {asked} 的条目指向 {old}");
const RULES: Text = text!("the NAT rules lead to {now}", "NAT 规则指向 {now}");
const DELETE: Text = text!(
    "conntrack -D -p {protocol} -s {ip} -d {to} --sport {sport} --dport {dport}",
    "conntrack -D -p {protocol} -s {ip} -d {to} --sport {sport} --dport {dport}（删除该条目）"
);

/// An entry that leads elsewhere than the rules.
#[derive(Clone, Copy)]
struct Stale<'a> {
    entry: &'a ConntrackEntry,
    old: SocketAddr,
    now: SocketAddr,
}

impl Stale<'_> {
    /// True if the old place has answered, once.
    fn is_answered(&self) -> bool {
        self.entry.is("seen_reply")
    }
}

fn judge(space: Space<'_>) -> Judgement<'_> {
    let Some(rules) = rules(space) else { return Judgement::default() };
    let mut found: Vec<Stale<'_>> = vec![];
    for entry in tracked::entries(space).filter(|entry| is_alive(space, entry)) {
        let Some(stale) = stale(space, &rules, entry) else { continue };
        let asked = tracked::to(&entry.original);
        let known = |other: &Stale<'_>| {
            (tracked::to(&other.entry.original), other.old) == (asked, stale.old)
                && other.entry.original.source == entry.original.source
        };
        if found.len() < MOST && !found.iter().any(known) {
            found.push(stale);
        }
    }
    found.into_iter().map(|stale| culprit(space, stale)).collect::<Vec<_>>().into()
}

/// The rule sets, if there are any or all could be read: a namespace that never had NAT has no old entries of it.
fn rules(space: Space<'_>) -> Option<Rules<'_>> {
    let hidden = RULE.needs.iter().any(|source| source.hidden(space));
    (!hidden && tracked::entries(space).next().is_some()).then(|| Rules::of(space.after))
}

/// An entry that packets kept alive in the window: its time-out began anew in it.
fn is_alive(space: Space<'_>, entry: &ConntrackEntry) -> bool {
    if entry.original.protocol != UDP || entry.is("dying") {
        return false;
    }
    let (setting, default) = match entry.is("assured") {
        true => (STREAM_SETTING, STREAM_TIMEOUT),
        false => (UDP_SETTING, UDP_TIMEOUT),
    };
    let set = space.after.sysctls.get(setting).and_then(|value| value.get());
    let full = set.and_then(|value| value.parse().ok()).unwrap_or(default);
    let window = u32::try_from(space.case.observation.window_ns / 1_000_000_000).unwrap_or(u32::MAX);
    entry.timeout_s.is_some_and(|left| left.saturating_add(window).saturating_add(1) >= full)
}

fn stale<'a>(space: Space<'a>, rules: &Rules<'_>, entry: &'a ConntrackEntry) -> Option<Stale<'a>> {
    let old = tracked::from(&entry.reply);
    let now = tracked::sent_now(space, rules, &entry.original)?;
    (old != now).then_some(Stale { entry, old, now })
}

fn culprit<'a>(space: Space<'a>, stale: Stale<'a>) -> Culprit<'a> {
    let asked = tracked::to(&stale.entry.original);
    let subject = format!("{} {asked} to {}", stale.entry.original.source, stale.old);
    Culprit::new(space, &CAUSE, "conntrack", Scope::Rule, subject)
        .direction(Direction::Receive)
        .reaches()
        // What was answered once may be answered still: only what dies tells.
        .by_itself(!stale.is_answered())
        .takes(move |loss| takes(&stale, loss))
        .harms(move |flow| harms(&stale, flow))
        .tell(move |_| story(&stale))
}

/// A packet of the conversation on its way to the old place, wherever it died of that.
fn takes(stale: &Stale<'_>, loss: &Loss<'_>) -> Fit {
    let Some(event) = loss.event.filter(|event| event.protocol == Some(stale.entry.original.protocol)) else {
        return Fit::No;
    };
    let from = [stale.entry.original.source, stale.entry.reply.destination];
    let lost = matches!(loss.kind, Kind::Refused | Kind::MayBeHarm)
        || PLACES.iter().any(|stage| loss.is_at_stage(stage));
    let goes = event.source.is_some_and(|source| from.contains(&source.ip()));
    Fit::sure(lost && goes && event.destination == Some(stale.old))
}

fn harms(stale: &Stale<'_>, flow: &Flow<'_>) -> Fit {
    let original = &stale.entry.original;
    let meant = flow.protocol == original.protocol
        && flow.source.is_none_or(|source| source == original.source)
        && (flow.address, flow.port) == (Some(original.destination), Some(original.destination_port));
    match (meant && flow.in_trouble(), stale.is_answered()) {
        (false, _) => Fit::No,
        (true, true) => Fit::Maybe,
        (true, false) => Fit::Yes,
    }
}

fn story(stale: &Stale<'_>) -> Story {
    let original = &stale.entry.original;
    let (source, asked) = (tracked::from(original), tracked::to(original));
    let (sport, dport) = (original.source_port.to_string(), original.destination_port.to_string());
    let words: [(&str, &dyn std::fmt::Display); 9] = [
        ("source", &source),
        ("asked", &asked),
        ("old", &stale.old),
        ("now", &stale.now),
        ("protocol", &"udp"),
        ("ip", &original.source),
        ("to", &original.destination),
        ("sport", &sport),
        ("dport", &dport),
    ];
    let list = ["conntrack", "-L", "-p", "udp", "--orig-port-dst", &dport];
    Story::new(SUMMARY.fill(&words))
        .evidence(ENTRY.fill(&words), "conntrack entries", &list)
        .evidence(RULES.fill(&words), "rules", &["iptables", "-t", "nat", "-nvL"])
        .fix(by_hand(DELETE.fill(&words)))
}
