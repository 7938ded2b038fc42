//! `tcp.syn_queue_overflow`: the queue of half-open connections is full.

use super::TCP;
use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, fix, manual};
use whydrop_model::action::Action;
use whydrop_model::{Applicability, Cause, Direction, Text, text};

/// Losses that keep handshakes from ending.
const LOSSES: &[&str] = &[
    "netfilter.drop_rule",
    "netfilter.drop_policy",
    "netfilter.rate_limit",
    "qdisc.netem_loss",
    "qdisc.shaper_drop",
    "qdisc.queue_limit",
    "qdisc.blackhole",
    "route.no_return_route",
    "route.blackhole",
    "neigh.unresolved",
    "neigh.wrong_lladdr",
    "link.admin_down",
    "link.no_carrier",
    "tc.action_drop",
    "tc.bpf_drop",
];

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tcp.syn_queue_overflow",
    title: text!("The queue of half-open connections is full", "半连接队列（SYN queue）已满"),
    meaning: text!(
        "More SYNs wait for the last ACK of the handshake than the listener may hold, and SYN cookies are off.",
        "等待握手最后一个 ACK 的 SYN 超过监听套接字的容量，且 SYN cookie 已关闭。"
    ),
    seen_by: text!(
        "TcpExt.TCPReqQFullDrop rose, or with tcp_syncookies=0 TcpExt.ListenDrops rose for no other reason.",
        "TcpExt.TCPReqQFullDrop 增加，或在 tcp_syncookies=0 时 TcpExt.ListenDrops 增加而无其他原因。"
    ),
    why_lost: text!(
        "Further SYNs are ignored until some of the waiting ones end or expire.",
        "在等待中的连接完成或超时之前，新的 SYN 被忽略。"
    ),
    what_to_do: text!(
        "Switch SYN cookies on (net.ipv4.tcp_syncookies=1), raise net.ipv4.tcp_max_syn_backlog and the listen backlog; find out who leaves connections half open.",
        "启用 SYN cookie（net.ipv4.tcp_syncookies=1），提高 net.ipv4.tcp_max_syn_backlog 和 listen backlog；查明是谁留下了半开连接。"
    ),
    when_wrong: text!(
        "Loss between client and server leaves connections half open, too: then the queue is only a consequence.",
        "客户端与服务器之间的丢包也会留下半开连接：此时队列只是结果。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib], consequence_of: &[], judge };

const SUMMARY: Text = text!(
    "The queue of half-open connections is full and SYN cookies are off: SYNs are ignored.",
    "半连接队列（SYN queue）已满且 SYN cookie 已关闭：SYN 被忽略。"
);
const OFF: Text = text!("net.ipv4.tcp_syncookies is 0", "net.ipv4.tcp_syncookies 为 0");
const ON: Text = text!("switch SYN cookies on", "启用 SYN cookie");
const FIND: Text = text!(
    "raise net.ipv4.tcp_max_syn_backlog and the listen backlog, and find out who leaves connections half open",
    "提高 net.ipv4.tcp_max_syn_backlog 和 listen backlog，并查明是谁留下了半开连接"
);
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");

fn judge(space: Space<'_>) -> Judgement {
    let cookies_off = space.after.sysctl("net.ipv4.tcp_syncookies") == Some(0);
    let full = space.mib("TcpExt.TCPReqQFullDrop");
    // Without cookies the last quarter of tcp_max_syn_backlog is kept for proven peers; that drop counts in
    // ListenDrops alone, where overflows of the accept queue and SYNs without a way back are counted, too.
    let other = space.mib("TcpExt.ListenOverflows") + full + space.mib("Ip.OutNoRoutes");
    let reserved = if cookies_off { space.mib("TcpExt.ListenDrops").saturating_sub(other) } else { 0 };
    let lost = full + reserved;
    if lost == 0 {
        return Judgement::default();
    }
    let ways = || {
        space
            .case
            .ways
            .iter()
            .filter(|w| w.protocol == TCP && w.destination(space.case).is_some_and(|d| d.same(space)))
    };
    let mut suspect = Suspect::new(space, &CAUSE, "tcp.syn_queue", "SYN queue".to_owned(), SUMMARY.phrase())
        .direction(Direction::Receive)
        .packets(lost, if full > 0 { "TcpExt.TCPReqQFullDrop" } else { "TcpExt.ListenDrops" })
        .counter(if full > 0 { "TcpExt.TCPReqQFullDrop" } else { "TcpExt.ListenDrops" }, lost)
        .touches(ways().map(|way| way.index).collect());
    if cookies_off {
        let name = "net.ipv4.tcp_syncookies";
        let action = Action::Sysctl { name: name.into(), value: "1".into(), was: "0".into() };
        let mut on = fix(space, ON.phrase(), Applicability::Safe, vec![action]);
        on.persist = Some(PERSIST.phrase());
        suspect = suspect.evidence(OFF.phrase(), "sysctl", &["sysctl", name]).fix(on);
    }
    // So few that whydrop's own SYNs, whose handshakes a loss kept from ending, can have filled the queue.
    let own: u64 = ways().map(|way| way.probe.transmitted).sum();
    if lost <= own {
        suspect = suspect.follows(LOSSES);
    }
    vec![suspect.fix(manual(FIND))].into()
}
