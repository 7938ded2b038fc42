//! `tcp.memory`: the memory for all TCP sockets is used up.

use super::{TCP, pages};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::loss::missing::Frame;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tcp.memory",
    title: text!("The memory for all TCP sockets is used up", "所有 TCP 套接字共用的内存已用完"),
    meaning: text!(
        "The queues of all TCP sockets of the machine together hold as many pages as net.ipv4.tcp_mem allows.",
        "本机所有 TCP 套接字的队列合计占用的页数已达到 net.ipv4.tcp_mem 的上限。"
    ),
    seen_by: text!(
        "TCP mem in /proc/net/sockstat reaches net.ipv4.tcp_mem, and TcpExt.TCPRcvQDrop, RcvPruned or TCPAbortOnMemory rose, or segments were dropped for want of memory.",
        "/proc/net/sockstat 的 TCP mem 达到 net.ipv4.tcp_mem，且 TcpExt.TCPRcvQDrop、RcvPruned 或 TCPAbortOnMemory 增加，或有报文段因内存不足被丢弃。"
    ),
    why_lost: text!(
        "Segments find no room even where their own socket has some, windows shrink, senders wait, and connections are reset.",
        "即使套接字自身还有空间，报文段也放不下；窗口缩小，发送方等待，连接被重置。"
    ),
    what_to_do: text!(
        "Find the program whose sockets hold it (ss -ntmp, large Recv-Q or Send-Q) and let it read or close; else raise net.ipv4.tcp_mem.",
        "找出占用内存的程序（ss -ntmp，Recv-Q 或 Send-Q 很大者），让它读取或关闭连接；否则提高 net.ipv4.tcp_mem。"
    ),
    when_wrong: text!(
        "Above the second number of tcp_mem the kernel saves memory without losing anything yet.",
        "超过 tcp_mem 的第二个值时，内核只是节省内存，尚未丢包。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib], judge };

/// Counters of what is thrown away or cut off (net/ipv4/tcp_input.c, tcp_timer.c).
const COUNTERS: [&str; 3] = ["TcpExt.TCPRcvQDrop", "TcpExt.RcvPruned", "TcpExt.TCPAbortOnMemory"];
/// The sum is read before and after the window: it need not stand at the limit just then.
const NEAR_PERCENT: u64 = 90;

const SUMMARY: Text = text!(
    "All TCP sockets of the machine use {used} of {max} pages: segments find no room.",
    "本机所有 TCP 套接字已使用 {max} 页中的 {used} 页：报文段放不下。"
);
const USED: Text = text!(
    "TCP uses {used} pages; net.ipv4.tcp_mem is {low} {pressure} {max}",
    "TCP 使用了 {used} 页；net.ipv4.tcp_mem 为 {low} {pressure} {max}"
);
const RAISE: Text = text!(
    "find whose sockets hold it: ss -ntmp; or raise the limit on the host: sysctl -w net.ipv4.tcp_mem='LOW PRESSURE MAX' (now {low} {pressure} {max})",
    "查明内存被谁的套接字占用：ss -ntmp；或在主机上提高上限：sysctl -w net.ipv4.tcp_mem='LOW PRESSURE MAX'（当前 {low} {pressure} {max}）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let Some((used, limits)) = pages(space) else { return Judgement::default() };
    let [_, pressure, max] = limits;
    let short = |space: Space<'_>, loss: &Loss<'_>| {
        loss.is_in(space) && loss.reason() == Some("PROTO_MEM") && protocol(loss) == Some(TCP)
    };
    let lost = COUNTERS.iter().any(|name| space.mib(name) > 0) || space.losses().any(|l| short(space, l));
    let full = used * 100 >= max * NEAR_PERCENT;
    if !(full || used >= pressure && lost) {
        return Judgement::default();
    }
    let counted: u64 = space.mib("TcpExt.TCPRcvQDrop");
    let culprit = Culprit::new(space, &CAUSE, "socket.receive_queue", Scope::Machine, "tcp_mem".to_owned())
        .direction(Direction::Receive)
        .meter(counted, Count::AtLeast, "TcpExt.TCPRcvQDrop")
        .by_itself(full && lost)
        .takes(move |loss| match &loss.frame {
            Some(Frame::Read { protocol: TCP, .. }) if loss.is_in(space) && full => Fit::Yes,
            _ if short(space, loss) => Fit::Yes,
            _ => Fit::No,
        })
        .harms(move |flow| match flow.suffers() && flow.protocol == TCP && flow.visits(space) {
            true => Fit::Maybe,
            false => Fit::No,
        })
        .tell(move |_| story(space, used, limits));
    Some(culprit).into()
}

fn protocol(loss: &Loss<'_>) -> Option<u8> {
    let counted = loss.count.and_then(|count| count.protocol);
    counted.or_else(|| loss.event.and_then(|event| event.protocol))
}

fn story(space: Space<'_>, used: u64, [low, pressure, max]: [u64; 3]) -> Story {
    let words: [(&str, &dyn std::fmt::Display); 4] =
        [("used", &used), ("low", &low), ("pressure", &pressure), ("max", &max)];
    let story = Story::new(SUMMARY.fill(&words))
        .evidence(USED.fill(&words), "sockstat", &["cat", "/proc/net/sockstat"])
        .fix(by_hand(RAISE.fill(&words)));
    COUNTERS.iter().fold(story, |story, name| story.counter(name, space.mib(name)))
}
