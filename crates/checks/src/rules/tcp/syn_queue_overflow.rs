//! `tcp.syn_queue_overflow`: the queue of half-open connections is full.

use super::TCP;
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Missing, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::fixes::{fix, manual};
use crate::loss::missing;
use crate::rule::{Judgement, Rule};
use whydrop_model::action::Action;
use whydrop_model::{Cause, Direction, Text, text};

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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib], judge };

/// Handshakes of so many flows are followed.
const MOST_FLOWS: usize = 16;
/// The flag of TCP that the first packet of a connection does not have.
const ACK: u8 = 16;

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

fn judge(space: Space<'_>) -> Judgement<'_> {
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
    let counter = if full > 0 { "TcpExt.TCPReqQFullDrop" } else { "TcpExt.ListenDrops" };
    let culprit = Culprit::new(space, &CAUSE, "tcp.syn_queue", Scope::Netns, "SYN queue".to_owned())
        .direction(Direction::Receive)
        .meter(lost, Count::Exact, counter)
        .misses(handshakes(space, lost))
        .takes(move |loss| {
            let refused = loss.is_at_stage("tcp.receive") && loss.place.is_some_and(|p| p.cause.is_none());
            let opens = loss.count.and_then(|count| count.tcp_flags).is_none_or(|flags| flags & ACK == 0);
            if loss.is_in(space) && refused && opens { Fit::Maybe } else { Fit::No }
        })
        .harms(move |flow| sure(flow.suffers() && arrives(space, flow)))
        .tell(move |_| {
            let story = Story::new(SUMMARY.phrase()).counter(counter, lost);
            let story = if cookies_off { switch_on(space, story) } else { story };
            story.fix(manual(FIND))
        });
    Some(culprit).into()
}

fn switch_on(space: Space<'_>, story: Story) -> Story {
    let name = "net.ipv4.tcp_syncookies";
    let action = Action::Sysctl { name: name.into(), value: "1".into(), was: "0".into() };
    let mut on = fix(space, ON.phrase(), vec![action]);
    on.persist = Some(PERSIST.phrase());
    story.evidence(OFF.phrase(), "sysctl", &["sysctl", name]).fix(on)
}

fn arrives(space: Space<'_>, flow: &Flow<'_>) -> bool {
    flow.protocol == TCP && flow.destination(space.case).is_some_and(|d| d.same(space))
}

/// The rest of the handshakes of flows in trouble, if so few SYNs found no room that those can have filled the queue.
fn handshakes(space: Space<'_>, lost: u64) -> Missing<'_> {
    let waiting = || space.case.flows.iter().filter(|flow| flow.suffers() && arrives(space, flow));
    let own: u64 = waiting().map(|flow| flow.attempts).sum();
    if lost > own {
        return vec![];
    }
    waiting().take(MOST_FLOWS).flat_map(|flow| missing::on_way(space.case, flow, |_| true)).collect()
}
