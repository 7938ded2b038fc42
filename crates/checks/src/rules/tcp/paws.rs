//! `tcp.paws`: segments are refused for old time stamps.

use super::TCP;
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use crate::rules::events::{Events, by_events};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tcp.paws",
    title: text!("Segments are refused for old time stamps", "报文段因时间戳过旧被拒绝"),
    meaning: text!(
        "The TCP time stamp of a segment is older than one that the same connection, or the one before with the same ports, showed earlier (PAWS).",
        "报文段的 TCP 时间戳早于同一连接（或此前使用相同端口的连接）先前出现的时间戳（PAWS）。"
    ),
    seen_by: text!(
        "TcpExt.PAWSEstab, PAWSActive, PAWSPassive or PAWSTimewait rose in the window.",
        "TcpExt.PAWSEstab、PAWSActive、PAWSPassive 或 PAWSTimewait 在窗口内增加。"
    ),
    why_lost: text!(
        "The kernel takes such a segment for an old duplicate and discards it: several machines behind one address, or one that rewrites time stamps, cannot go on.",
        "内核将其视为旧的重复报文段并丢弃：同一地址后的多台机器，或改写时间戳的中间设备，都会因此无法继续。"
    ),
    what_to_do: text!(
        "Find out who shares the address (NAT, a load balancer, an anycast address) or rewrites time stamps; on the client net.ipv4.tcp_timestamps=0 avoids it at the cost of PAWS and RTT.",
        "查明谁共用该地址（NAT、负载均衡、任播地址）或改写时间戳；在客户端设置 net.ipv4.tcp_timestamps=0 可避免，代价是失去 PAWS 和 RTT 测量。"
    ),
    when_wrong: text!(
        "A few late duplicates on a path that reorders are what PAWS is for.",
        "在会乱序的路径上出现少量迟到的重复报文段，正是 PAWS 要处理的。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib], judge };

const SUMMARY: Text = text!(
    "TCP segments have older time stamps than those before them, and are discarded.",
    "TCP 报文段的时间戳早于先前的报文段，已被丢弃。"
);
const DO: Text = text!(
    "find who shares the source address or rewrites time stamps on the way; meanwhile sysctl -w net.ipv4.tcp_timestamps=0 on the client avoids it",
    "查明途中谁共用源地址或改写时间戳；在此之前，可在客户端执行 sysctl -w net.ipv4.tcp_timestamps=0 规避"
);

const LATE: Text = text!(
    "{n} {n|segment|segments} with an old time stamp came late: {n|a repeat|repeats} that nobody misses",
    "{n} 个时间戳过旧的报文段迟到：是无人需要的重传"
);
const COUNTERS: [&str; 4] =
    ["TcpExt.PAWSEstab", "TcpExt.PAWSActive", "TcpExt.PAWSPassive", "TcpExt.PAWSTimewait"];
/// Fewer that are of nobody's flow are late ones that a closed connection still gets.
const FEW: u64 = 3;

fn judge(space: Space<'_>) -> Judgement<'_> {
    // A segment that a slow machine repeats late is old as well, and nobody misses it: the counter alone is no complaint.
    let died = || space.losses().filter(|loss| loss.is_of(CAUSE.id));
    if died().next().is_none() && !space.flows_through().any(|flow| flow.suffers()) {
        return Judgement::default();
    }
    let seen = Events {
        stage: "tcp.receive",
        counters: &COUNTERS,
        protocol: Some(TCP),
        summary: SUMMARY,
        advice: DO,
    };
    let refused = COUNTERS.iter().map(|name| space.mib(name)).sum::<u64>();
    let few = refused.max(died().map(|loss| loss.packets).sum()) < FEW;
    let culprit = by_events(space, &CAUSE, seen);
    culprit.map(|culprit| if few { culprit.innocent().duty(LATE) } else { culprit }).into()
}
