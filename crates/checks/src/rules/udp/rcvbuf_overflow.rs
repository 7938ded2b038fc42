//! `udp.rcvbuf_overflow`: A UDP receive buffer is full.

use super::UDP;
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::{Loss, missing};
use crate::rule::{Judgement, Rule};
use crate::rules::tcp::{name, socket_drops};
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "udp.rcvbuf_overflow",
    title: text!("A UDP receive buffer is full", "UDP 接收缓冲区已满"),
    meaning: text!(
        "Datagrams arrive faster than a program reads them.",
        "数据报到达的速度超过程序读取的速度。"
    ),
    seen_by: text!(
        "Udp.RcvbufErrors rose in the window, and the drop counter of a socket with it. Udp.InErrors contains these drops and is not added.",
        "Udp.RcvbufErrors 在窗口内增加，某个套接字的丢弃计数也随之增加。Udp.InErrors 已包含这些丢弃，不再相加。"
    ),
    why_lost: text!(
        "A datagram that does not fit into the socket's buffer is thrown away.",
        "放不进套接字缓冲区的数据报被丢弃。"
    ),
    what_to_do: text!(
        "Let the program read faster, or ask for a larger buffer (SO_RCVBUF, at most net.core.rmem_max). Raising the sysctl alone does not change open sockets.",
        "让程序更快地读取，或申请更大的缓冲区（SO_RCVBUF，上限 net.core.rmem_max）。仅提高 sysctl 不会改变已打开的套接字。"
    ),
    when_wrong: text!("Datagrams that nobody wants to read may be lost.", "无人需要的数据报丢失也无妨。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib, Source::Sockets], judge };

const SUMMARY: Text = text!(
    "The receive buffer of {socket} is full: datagrams are thrown away.",
    "{socket} 的接收缓冲区已满：数据报被丢弃。"
);
const SUMMARY_ANY: Text = text!(
    "The receive buffer of a UDP socket ran over: datagrams were thrown away.",
    "某个 UDP 套接字的接收缓冲区溢出：数据报被丢弃。"
);
const DROPS: Text = text!("the socket itself counted {n} drops", "该套接字自身计数丢弃 {n} 个");
const WAITING: Text = text!(
    "{waiting} bytes wait unread in a buffer of {limit}",
    "上限 {limit} 字节的缓冲区中有 {waiting} 字节未读"
);
const READ: Text = text!(
    "make {owner} read faster or ask for a larger buffer (SO_RCVBUF; at most net.core.rmem_max, which open sockets do not follow)",
    "让 {owner} 更快地读取，或申请更大的缓冲区（SO_RCVBUF；上限 net.core.rmem_max，已打开的套接字不受其影响）"
);

/// The counter of these drops.
const COUNTER: &str = "Udp.RcvbufErrors";

fn judge(space: Space<'_>) -> Judgement<'_> {
    let lost = space.mib(COUNTER) + space.mib6("Udp6RcvbufErrors");
    let udp = space.after.sockets.iter().filter(|s| s.protocol == Protocol::Udp);
    let mut left = lost;
    let mut shares: Vec<(Option<&Socket>, u64)> = vec![];
    for (socket, drops) in udp.map(|s| (s, socket_drops(space, s))) {
        // A socket's own counter holds other drops, too: the protocol's counter is the limit.
        let packets = drops.min(left);
        left -= packets;
        if packets > 0 {
            shares.push((Some(socket), packets));
        }
    }
    match shares.first_mut() {
        // Sockets that were closed in the window took their counters with them.
        Some((_, packets)) => *packets += left,
        None if left > 0 => shares.push((None, left)),
        None => {}
    }
    shares.into_iter().map(|(socket, n)| culprit(space, socket, n, lost)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, socket: Option<&'a Socket>, packets: u64, rise: u64) -> Culprit<'a> {
    let subject = socket.map_or_else(|| "UDP socket".to_owned(), |socket| socket.local.to_string());
    let port = socket.map(|socket| socket.local.port());
    Culprit::new(space, &CAUSE, "udp.receive_buffer", Scope::Socket, subject)
        .direction(Direction::Receive)
        .meter(packets, Count::Exact, COUNTER)
        .misses(port.map(|port| missing::read_from(space, UDP, port)).into_iter().collect())
        .takes(move |loss| takes(space, port, loss))
        .harms(move |flow| {
            let meant = flow.protocol == UDP && port.is_none_or(|port| flow.port == Some(port));
            sure(flow.suffers() && meant && flow.visits(space))
        })
        .tell(move |_| story(space, socket, rise))
}

/// The kernels that do not name the reason have one function for a full buffer and a wrong checksum.
fn takes(space: Space<'_>, port: Option<u16>, loss: &Loss<'_>) -> Fit {
    let to = loss.event.and_then(|event| event.destination).map(|to| to.port());
    let for_socket = port.is_none() || to.is_none() || port == to;
    let udp = loss.count.is_some_and(|count| count.protocol == Some(UDP));
    match loss.is_in(space) && for_socket {
        true if loss.is_of(CAUSE.id) => Fit::Yes,
        true if loss.is_at_stage("socket.receive_queue") && udp => Fit::Maybe,
        _ => Fit::No,
    }
}

fn story(space: Space<'_>, socket: Option<&Socket>, rise: u64) -> Story {
    let owner = socket.map_or_else(|| "the program".to_owned(), name);
    let mut read = manual(READ);
    read.title = READ.fill(&[("owner", &owner)]);
    let Some(socket) = socket else {
        return Story::new(SUMMARY_ANY.phrase()).counter(COUNTER, rise).fix(read);
    };
    let drops = socket_drops(space, socket);
    let mut story = Story::new(SUMMARY.fill(&[("socket", &owner)]))
        .counter(COUNTER, rise)
        .evidence(DROPS.fill(&[("n", &drops)]), "socket drops", &["ss", "-lunm"])
        .fix(read);
    if let Some(limit) = socket.receive_buffer.filter(|limit| socket.receive_queue > limit / 2) {
        let words: [(&str, &dyn std::fmt::Display); 2] =
            [("waiting", &socket.receive_queue), ("limit", &limit)];
        story = story.evidence(WAITING.fill(&words), "sockets", &["ss", "-lunm"]);
    }
    story
}
