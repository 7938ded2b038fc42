//! `app.slow_clients`: connections whose requests never end hold all workers of a service.

use super::{Deaf, deaf, holds, tell_of_queue, tell_of_waits};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::program;
use crate::evidence::stall::Stall;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.slow_clients",
    title: text!(
        "Connections whose requests never end hold all workers of a service",
        "请求始终不结束的连接占住了服务的所有工作者"
    ),
    meaning: text!(
        "Every worker of the program waits for the rest of a request that its client does not send; others wait to be accepted.",
        "程序的每个工作者都在等待客户端不再发送的请求剩余部分，其他连接则在等待 accept。"
    ),
    seen_by: text!(
        "The connections that waited to be accepted still do at the end of the window, while the program waits in reading from connections that it held all the time, on which it said nothing and has nothing left to read; or while it holds a crowd of such connections it resets the others before they get an answer.",
        "窗口开始时等待 accept 的连接到窗口结束仍在等待，而程序在读取它一直持有的连接：在这些连接上它没有发送任何内容，也没有未读数据；或它持有大量这样的连接，并在应答之前重置其他连接。"
    ),
    why_lost: text!(
        "The kernel still answers the handshake for it, so that clients connect and wait; once its queue is full, they are ignored.",
        "内核仍会替它完成握手，客户端连上后一直等待；队列满后新连接被忽略。"
    ),
    what_to_do: text!(
        "Limit how long a request may take and how many connections one client may have; put a proxy that reads whole requests in front of the service; give it more workers.",
        "限制一个请求的最长时间和每个客户端的连接数；在服务前放置会先读完整个请求的代理；增加工作者。"
    ),
    when_wrong: text!(
        "A program may hold a few connections by design (a terminal, a long poll) and accept no more than those.",
        "程序可能有意只持有少数连接（终端、长轮询），不再 accept 更多。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets, Source::Processes], judge };

const SUMMARY: Text = text!(
    "{program} waits for {held} clients of {socket} that do not end their requests, and accepts nobody else.",
    "{program} 在等待 {socket} 的 {held} 个不结束请求的客户端，不再 accept 其他连接。"
);
const HELD: Text = text!(
    "{held} connections were held all the time without an answer, most of them ({most}) by {client}",
    "有 {held} 个连接一直被持有且没有应答，其中最多的（{most} 个）来自 {client}"
);
const LIMIT: Text = text!(
    "give {program} a time limit for requests and more workers, or limit the connections of {client}",
    "为 {program} 设置请求时限并增加工作者，或限制 {client} 的连接数"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let deaf = deaf(space, |why| matches!(why, Stall::SlowClients));
    deaf.into_iter().map(|deaf| culprit(space, deaf)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, deaf: Deaf<'a>) -> Culprit<'a> {
    let subject = deaf.program.name();
    let culprit = Culprit::new(space, &CAUSE, "tcp.accept_queue", Scope::Socket, subject);
    holds(culprit, &deaf.waiting).direction(Direction::Receive).tell(move |_| story(space, &deaf))
}

fn story(space: Space<'_>, deaf: &Deaf<'_>) -> Story {
    let Deaf { program, waiting, .. } = deaf;
    let listener = waiting.first().map(|waiting| waiting.socket);
    let socket = listener.map_or_else(String::new, |socket| socket.local.to_string());
    let port = listener.map_or(0, |socket| socket.local.port());
    let mut clients: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for socket in space.after.sockets.iter().filter(|socket| is_held(space, socket, port)) {
        *clients.entry(socket.remote.ip().to_canonical()).or_insert(0) += 1;
    }
    let held: usize = clients.values().sum();
    let (client, most) = clients
        .iter()
        .max_by_key(|(_, n)| **n)
        .map_or_else(|| (String::new(), 0), |(client, n)| (client.to_string(), *n));
    let words: [(&str, &dyn std::fmt::Display); 5] = [
        ("program", &program.name()),
        ("socket", &socket),
        ("held", &held),
        ("client", &client),
        ("most", &most),
    ];
    let story = Story::new(SUMMARY.fill(&words)).evidence(HELD.fill(&words), "connections", &["ss", "-ntp"]);
    waiting.iter().fold(tell_of_waits(story, program), tell_of_queue).fix(by_hand(LIMIT.fill(&words)))
}

/// True for a connection at this port that a process held all the time, with nothing to be read.
fn is_held(space: Space<'_>, socket: &Socket, port: u16) -> bool {
    socket.protocol == Protocol::Tcp
        && socket.state == "established"
        && socket.inode != 0
        && socket.local.port() == port
        && socket.receive_queue == 0
        && program::before(space, socket).is_some()
}
