//! `neigh.table_overflow`: the neighbour table is full.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::delta::Change;
use whydrop_model::machine::MachineSnapshot;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "neigh.table_overflow",
    title: text!("The neighbour table is full", "邻居表已满"),
    meaning: text!(
        "The kernel keeps so many neighbours and makes no entry beyond that: gc_thresh3. All namespaces of the machine share the table.",
        "内核保存的邻居数有上限（gc_thresh3），超过后不再新建。整机所有命名空间共用该表。"
    ),
    seen_by: text!(
        "Packets were dropped because no entry could be made for their next hop, or the machine's table refused entries in the window while a flow in trouble has no entry for its next hop.",
        "有包因无法为下一跳建立邻居项而被丢弃，或窗口内整机邻居表拒绝新建，而受影响流量的下一跳没有邻居项。"
    ),
    why_lost: text!(
        "Without an entry the next hop cannot even be asked for: the packet is dropped, and its sender gets ENOBUFS or EINVAL.",
        "没有邻居项就无法查询下一跳：包被丢弃，发送方得到 ENOBUFS 或 EINVAL。"
    ),
    what_to_do: text!(
        "Raise gc_thresh1, gc_thresh2 and gc_thresh3 on the host; make the networks smaller, and find who asks for so many neighbours.",
        "在主机上调大 gc_thresh1、gc_thresh2、gc_thresh3；缩小网络，并查明谁在查询如此多的邻居。"
    ),
    when_wrong: text!("Entries may be refused for want of memory, too.", "内存不足时也会拒绝新建邻居项。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Neighbours], judge };

/// The kernel's name for a packet for whose next hop it could make no entry.
const NO_ENTRY: &str = "NEIGH_CREATEFAIL";

const SUMMARY: Text = text!(
    "The {family} neighbour table of the machine is full ({limit} entries): no entry can be made for further next hops.",
    "整机的 {family} 邻居表已满（{limit} 项）：无法为新的下一跳建立邻居项。"
);
const FULL: Text = text!("{name} rose by {n}", "{name} 计数 +{n}");
const THRESHOLD: Text = text!("{name} is {limit}", "{name} 为 {limit}");
const DO: Text = text!(
    "raise the thresholds on the host: sysctl -w {one}={first} {two}={second} {three}={third}",
    "在主机上调大阈值：sysctl -w {one}={first} {two}={second} {three}={third}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    [false, true].into_iter().filter_map(|v6| culprit(space, v6)).collect::<Vec<_>>().into()
}

fn culprit(space: Space<'_>, v6: bool) -> Option<Culprit<'_>> {
    let (table, protocol) = if v6 { ("ndisc_cache", "ipv6") } else { ("arp_cache", "ipv4") };
    let name = format!("{table}.table_fulls");
    let [before, after] = &space.case.observation.machine;
    let read = |counters: &MachineSnapshot| counters.neighbour_tables.get()?.get(&name).copied();
    let rise = Change::of(read(before), read(after)).risen();
    let mine = move |loss: &Loss<'_>| {
        let of_family = match loss.event.and_then(|event| event.destination) {
            Some(to) => to.is_ipv6() == v6,
            None => loss.function().is_some_and(|function| function.starts_with("ip6")) == v6,
        };
        loss.is_in(space) && loss.reason() == Some(NO_ENTRY) && of_family
    };
    let harmed = move |flow: &crate::evidence::flow::Flow<'_>| {
        let hops = flow.next_hops(space);
        let mut hops = hops.iter().filter(|(_, ip)| ip.is_ipv6() == v6);
        let unknown = |hop: &(u32, std::net::IpAddr)| super::entry(space.after, *hop).is_none();
        rise > 0 && flow.suffers() && hops.any(unknown)
    };
    if !space.losses().any(mine) && !space.case.flows.iter().any(harmed) {
        return None;
    }
    let culprit =
        Culprit::new(space, &CAUSE, "neighbour.transmit", Scope::Machine, format!("{protocol} gc_thresh3"))
            .direction(Direction::Transmit)
            .takes(move |loss| if mine(loss) { Fit::Yes } else { Fit::No })
            .harms(move |flow| if harmed(flow) { Fit::Yes } else { Fit::No })
            .tell(move |_| story(space, protocol, &name, rise));
    Some(culprit)
}

fn story(space: Space<'_>, protocol: &str, name: &str, rise: u64) -> Story {
    let [_, after] = &space.case.observation.machine;
    let setting = |n: u8| format!("net.{protocol}.neigh.default.gc_thresh{n}");
    let value =
        |n: u8| after.sysctls.get(&setting(n)).and_then(|value| value.get()?.trim().parse::<u64>().ok());
    let shown = |n: u8| value(n).map_or_else(|| "?".to_owned(), |value| value.to_string());
    // The kernel's proportions: 128, 512, 1024.
    let wanted = value(3).unwrap_or(1024).saturating_mul(4).max(4096);
    let words: [(&str, &dyn std::fmt::Display); 8] = [
        ("family", &if protocol == "ipv6" { "IPv6" } else { "IPv4" }),
        ("limit", &shown(3)),
        ("one", &setting(1)),
        ("two", &setting(2)),
        ("three", &setting(3)),
        ("first", &(wanted / 8)),
        ("second", &(wanted / 2)),
        ("third", &wanted),
    ];
    let three = setting(3);
    let story = Story::new(SUMMARY.fill(&words))
        .evidence(THRESHOLD.fill(&[("name", &three), ("limit", &shown(3))]), "sysctl", &["sysctl", &three])
        .fix(by_hand(DO.fill(&words)));
    match rise {
        0 => story,
        n => story.evidence(
            FULL.fill(&[("name", &name), ("n", &n)]),
            "/proc/net/stat",
            &["cat", "/proc/net/stat/arp_cache"],
        ),
    }
}
