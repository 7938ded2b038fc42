//! `udp.rcvbuf_overflow`: A UDP receive buffer is full.

use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, manual};
use crate::rules::tcp::{name, socket_drops};
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// IPPROTO_UDP.
const UDP: u8 = 17;

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
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Mib, Source::Sockets], consequence_of: &[], judge };

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

/// The kernel's name for these drops.
const REASON: &str = "SOCKET_RCVBUFF";

fn judge(space: Space<'_>) -> Judgement {
    let lost = space.mib("Udp.RcvbufErrors") + space.mib6("Udp6RcvbufErrors");
    if lost == 0 {
        return Judgement::default();
    }
    let udp = space.after.sockets.iter().filter(|s| s.protocol == Protocol::Udp);
    let dropping: Vec<(&Socket, u64)> =
        udp.map(|s| (s, socket_drops(space, s))).filter(|(_, n)| *n > 0).collect();
    let mut left = lost;
    let mut suspects: Vec<Suspect> = vec![];
    for (socket, drops) in dropping {
        // A socket's own counter holds other drops, too: the protocol's counter is the limit.
        let packets = drops.min(left);
        left -= packets;
        if packets == 0 {
            continue;
        }
        let port = socket.local.port();
        let meant = space.case.ways.iter().filter(|way| way.protocol == UDP && way.port == Some(port));
        let summary = SUMMARY.fill(&[("socket", &name(socket))]);
        let mut suspect =
            Suspect::new(space, &CAUSE, "udp.receive_buffer", socket.local.to_string(), summary)
                .touches(meant.filter(|way| way.visits(space)).map(|way| way.index).collect())
                .evidence(DROPS.fill(&[("n", &drops)]), "socket drops", &["ss", "-lunm"]);
        if let Some(limit) = socket.receive_buffer.filter(|limit| socket.receive_queue > limit / 2) {
            let words: [(&str, &dyn std::fmt::Display); 2] =
                [("waiting", &socket.receive_queue), ("limit", &limit)];
            suspect = suspect.evidence(WAITING.fill(&words), "sockets", &["ss", "-lunm"]);
        }
        suspects.push(complete(space, suspect, packets, lost, &name(socket)));
    }
    if left > 0 && suspects.is_empty() {
        let subject = "UDP socket".to_owned();
        let suspect = Suspect::new(space, &CAUSE, "udp.receive_buffer", subject, SUMMARY_ANY.phrase());
        suspects.push(complete(space, suspect, left, lost, "the program"));
    } else if left > 0
        && let Some(first) = suspects.first_mut()
    {
        // Sockets that were closed in the window took their counters with them.
        first.finding.packets_lost = first.finding.packets_lost.map(|n| n + left);
    }
    suspects.into()
}

fn complete(space: Space<'_>, suspect: Suspect, packets: u64, rise: u64, owner: &str) -> Suspect {
    let mut read = manual(READ);
    read.title = READ.fill(&[("owner", &owner)]);
    suspect
        .direction(Direction::Receive)
        .packets(packets, "Udp.RcvbufErrors")
        .counter("Udp.RcvbufErrors", rise)
        .drop_events(space.drops_because(&[REASON]), REASON)
        .fix(read)
}
