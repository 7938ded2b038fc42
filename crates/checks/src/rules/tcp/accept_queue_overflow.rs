//! `tcp.accept_queue_overflow`: the accept queue of a listener is full.

use super::{TCP, name, socket_drops};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::{Loss, missing};
use crate::rule::{Judgement, Rule};
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tcp.accept_queue_overflow",
    title: text!("The accept queue of a listener is full", "监听套接字的全连接队列（accept queue）已满"),
    meaning: text!(
        "Connections are complete faster than the program accepts them, or it does not accept at all.",
        "连接建立的速度超过程序 accept 的速度，或程序根本不再 accept。"
    ),
    seen_by: text!(
        "TcpExt.ListenOverflows rose in the window; a listener holds more connections than its backlog. ListenDrops contains these drops and is not added.",
        "TcpExt.ListenOverflows 在窗口内增加；某个监听套接字中的连接数超过其 backlog。ListenDrops 已包含这些丢弃，不再相加。"
    ),
    why_lost: text!(
        "The kernel ignores SYNs and last ACKs for a full queue: clients wait and try again after a second.",
        "队列满时内核忽略 SYN 和最后的 ACK：客户端等待一秒后重试。"
    ),
    what_to_do: text!(
        "Make the program accept (is it hung?), give it more workers, or let it listen with a longer backlog; net.core.somaxconn is the upper limit.",
        "让程序恢复 accept（是否挂起？），增加工作进程，或以更大的 backlog 监听；net.core.somaxconn 是上限。"
    ),
    when_wrong: text!("One short burst at start-up needs no change.", "启动时的一次短暂突发无需处理。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib, Source::Sockets], judge };

const SUMMARY: Text = text!(
    "The accept queue of {listener} is full: new connections are ignored.",
    "{listener} 的全连接队列（accept queue）已满：新连接被忽略。"
);
const SUMMARY_ANY: Text = text!(
    "The accept queue of a listener ran over: new connections were ignored.",
    "某个监听套接字的全连接队列（accept queue）溢出：新连接被忽略。"
);
const FULL: Text = text!(
    "{listener} has {waiting} connections waiting in a queue of {limit}",
    "{listener} 的队列上限为 {limit}，有 {waiting} 个连接在等待"
);
const DROPS: Text = text!("the listener itself counted {n} drops", "该监听套接字自身计数丢弃 {n} 个");
const ACCEPT: Text = text!(
    "make {owner} accept connections: see if it hangs, add workers, or raise its listen backlog (now {limit}, at most net.core.somaxconn = {max})",
    "让 {owner} 接受连接：检查是否挂起，增加工作进程，或提高其 listen backlog（当前 {limit}，上限 net.core.somaxconn = {max}）"
);

/// The counter of these drops.
const COUNTER: &str = "TcpExt.ListenOverflows";

fn judge(space: Space<'_>) -> Judgement<'_> {
    let lost = space.mib(COUNTER);
    (lost > 0).then(|| culprit(space, lost)).into()
}

fn culprit(space: Space<'_>, lost: u64) -> Culprit<'_> {
    let listeners: Vec<&Socket> = full_listeners(space);
    let subject = listeners.first().map_or_else(|| "TCP listener".to_owned(), |s| s.local.to_string());
    let ports: Vec<u16> = listeners.iter().map(|s| s.local.port()).collect();
    let meant = ports.clone();
    // Connections that the program should have accepted.
    let accepted = ports.iter().map(|port| missing::read_from(space, TCP, *port)).collect();
    Culprit::new(space, &CAUSE, "tcp.accept_queue", Scope::Socket, subject)
        .direction(Direction::Receive)
        .meter(lost, Count::Exact, COUNTER)
        .misses(accepted)
        .takes(move |loss| takes(space, &ports, loss))
        .harms(move |flow| {
            let to_port = flow.port.is_some_and(|port| meant.is_empty() || meant.contains(&port));
            let here = || flow.destination(space.case).is_some_and(|d| d.same(space));
            sure(flow.suffers() && flow.protocol == TCP && to_port && here())
        })
        .tell(move |_| story(space, &listeners, lost))
}

/// Kernels that do not name the reason drop a SYN or a last ACK in functions that serve other ends, too.
fn takes(space: Space<'_>, ports: &[u16], loss: &Loss<'_>) -> Fit {
    let to_port = match loss.event.and_then(|event| event.destination) {
        Some(to) => ports.is_empty() || ports.contains(&to.port()),
        None => true,
    };
    match loss.is_in(space) && to_port {
        true if loss.is_of(CAUSE.id) => Fit::Yes,
        true if loss.is_at_stage("tcp.receive") && loss.place.is_some_and(|p| p.cause.is_none()) => {
            Fit::Maybe
        }
        _ => Fit::No,
    }
}

fn story(space: Space<'_>, listeners: &[&Socket], lost: u64) -> Story {
    let summary = match listeners.first() {
        Some(s) => SUMMARY.fill(&[("listener", &name(s))]),
        None => SUMMARY_ANY.phrase(),
    };
    let mut story = Story::new(summary).counter(COUNTER, lost);
    for socket in listeners {
        let words: [(&str, &dyn std::fmt::Display); 3] =
            [("listener", &name(socket)), ("waiting", &socket.receive_queue), ("limit", &socket.send_queue)];
        if is_full(socket) {
            story = story.evidence(FULL.fill(&words), "sockets", &["ss", "-lnt"]);
        }
        let drops = socket_drops(space, socket);
        if drops > 0 {
            story = story.evidence(DROPS.fill(&[("n", &drops)]), "socket drops", &["ss", "-lntm"]);
        }
    }
    let owner = listeners.first().map_or_else(|| "the program".to_owned(), |s| name(s));
    let limit = listeners.first().map_or_else(|| "?".to_owned(), |s| s.send_queue.to_string());
    let max = space.after.sysctl("net.core.somaxconn").map_or_else(|| "?".to_owned(), |n| n.to_string());
    let mut accept = manual(ACCEPT);
    accept.title = ACCEPT.fill(&[("owner", &owner), ("limit", &limit), ("max", &max)]);
    story.fix(accept)
}

/// Listeners at fault: those that are full now, else those whose own drop counter rose.
fn full_listeners(space: Space<'_>) -> Vec<&Socket> {
    let listeners =
        || space.after.sockets.iter().filter(|s| s.protocol == Protocol::Tcp && s.state == "listen");
    let full: Vec<&Socket> = listeners().filter(|s| is_full(s)).collect();
    if !full.is_empty() {
        return full;
    }
    listeners().filter(|s| socket_drops(space, s) > 0).collect()
}

/// sk_acceptq_is_full: more connections than the limit, which is therefore exceeded by one.
fn is_full(socket: &Socket) -> bool {
    socket.receive_queue > socket.send_queue
}
