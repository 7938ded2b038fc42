//! `socket.filter_drop`: a BPF filter on the socket drops.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "socket.filter_drop",
    title: text!("A BPF filter on the socket drops", "套接字上的 BPF 过滤器丢弃数据包"),
    meaning: text!(
        "The program has attached a filter to its socket (SO_ATTACH_FILTER, SO_ATTACH_BPF) which refuses packets meant for it.",
        "程序在其套接字上附加了过滤器（SO_ATTACH_FILTER、SO_ATTACH_BPF），拒绝了本应给它的包。"
    ),
    seen_by: text!(
        "The kernel reported drops with reason SOCKET_FILTER at the socket of a program to whose cgroup no BPF program is attached.",
        "内核在某个程序的套接字处报告了原因为 SOCKET_FILTER 的丢弃，而该程序的 cgroup 上没有挂载 BPF 程序。"
    ),
    why_lost: text!(
        "The packets pass every firewall and die at the socket; no counter but the socket's own shows them.",
        "这些包通过了所有防火墙，却在套接字处被丢弃；只有套接字自身的计数能看到它们。"
    ),
    what_to_do: text!(
        "Look at what the program filters: its configuration, ss --bpf for packet sockets, strace -e setsockopt at its start.",
        "查看程序过滤了什么：其配置、packet 套接字可用 ss --bpf、启动时用 strace -e setsockopt。"
    ),
    when_wrong: text!(
        "A program may keep away on purpose what it does not want.",
        "程序可能有意挡掉它不需要的包。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents], judge };

/// Longest process name shown (TASK_COMM_LEN is 16).
const MAX_COMM: usize = 16;

const SUMMARY: Text = text!(
    "A BPF filter on the socket {socket} refuses packets that are meant for it.",
    "套接字 {socket} 上的 BPF 过滤器拒绝了本应给它的包。"
);
const DO: Text = text!(
    "find out what {socket} filters (SO_ATTACH_FILTER, SO_ATTACH_BPF), and correct the program",
    "查明 {socket} 过滤了什么（SO_ATTACH_FILTER、SO_ATTACH_BPF），并修正程序"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let refused =
        || space.losses().filter(|loss| super::is_filtered(loss) && !super::is_cgroups(space, loss));
    let mut ports: BTreeSet<Option<(u8, u16)>> = refused().map(port).collect();
    if ports.len() > 1 {
        ports.remove(&None);
    }
    ports.into_iter().map(|port| culprit(space, port)).collect::<Vec<_>>().into()
}

fn port(loss: &Loss<'_>) -> Option<(u8, u16)> {
    let event = loss.event?;
    Some((event.protocol?, event.destination?.port()))
}

fn culprit<'a>(space: Space<'a>, at: Option<(u8, u16)>) -> Culprit<'a> {
    let number = |socket: &Socket| match socket.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        _ => 0,
    };
    let mine = |socket: &&Socket| Some((number(socket), socket.local.port())) == at;
    let socket = space.after.sockets.iter().find(mine);
    let subject = match (socket, at) {
        (Some(socket), _) => match socket.owners.first() {
            Some(owner) => format!("{} ({})", socket.local, sanitize(&owner.comm, MAX_COMM)),
            None => socket.local.to_string(),
        },
        (None, Some((_, port))) => format!("port {port}"),
        (None, None) => "socket filter".to_owned(),
    };
    let shown = subject.clone();
    Culprit::new(space, &CAUSE, "socket.filter", Scope::Socket, subject)
        .direction(Direction::Receive)
        .takes(move |loss| match loss.is_in(space) && super::is_filtered(loss) {
            true if super::is_cgroups(space, loss) => Fit::No,
            true if loss.event.is_none() || at.is_none() => Fit::Maybe,
            true if port(loss) == at => Fit::Yes,
            _ => Fit::No,
        })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 1] = [("socket", &shown)];
            Story::new(SUMMARY.fill(&words)).fix(by_hand(DO.fill(&words)))
        })
}
