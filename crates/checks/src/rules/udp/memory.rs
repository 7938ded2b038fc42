//! `udp.memory`: the memory for all UDP sockets is used up.

use super::UDP;
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use crate::rules::events::{Events, by_events};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "udp.memory",
    title: text!("The memory for all UDP sockets is used up", "所有 UDP 套接字共用的内存已用完"),
    meaning: text!(
        "The receive queues of all UDP sockets of the machine together hold as many pages as net.ipv4.udp_mem allows.",
        "本机所有 UDP 套接字的接收队列合计占用的页数已达到 net.ipv4.udp_mem 的上限。"
    ),
    seen_by: text!(
        "Udp.MemErrors rose in the window, or the kernel reported drops for want of protocol memory.",
        "Udp.MemErrors 在窗口内增加，或内核报告了因协议内存不足的丢弃。"
    ),
    why_lost: text!(
        "A datagram is thrown away although its own socket has room.",
        "即使套接字自身还有空间，数据报仍被丢弃。"
    ),
    what_to_do: text!(
        "Find the sockets that hold it (ss -uam, large Recv-Q) and let their programs read; else raise net.ipv4.udp_mem on the host.",
        "找出占用内存的套接字（ss -uam，Recv-Q 很大者），让其程序读取；否则在主机上提高 net.ipv4.udp_mem。"
    ),
    when_wrong: text!(
        "A full buffer of a single socket is counted elsewhere (RcvbufErrors).",
        "单个套接字的缓冲区已满由另一个计数器统计（RcvbufErrors）。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib], judge };

const SUMMARY: Text = text!(
    "The memory for all UDP sockets of the machine is used up: datagrams are thrown away.",
    "本机所有 UDP 套接字共用的内存已用完：数据报被丢弃。"
);
const DO: Text = text!(
    "let the programs read whose sockets hold it: ss -uam; or raise net.ipv4.udp_mem on the host",
    "让占用内存的套接字的程序读取：ss -uam；或在主机上提高 net.ipv4.udp_mem"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let seen = Events {
        stage: "socket.receive_queue",
        // net/ipv4/udp.c:__udp_queue_rcv_skb(), since 5.11.
        counters: &["Udp.MemErrors", "Udp6MemErrors"],
        protocol: Some(UDP),
        summary: SUMMARY,
        advice: DO,
    };
    by_events(space, &CAUSE, seen).into()
}
