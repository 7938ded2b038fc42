//! `tcp.defer_accept`: TCP_DEFER_ACCEPT holds back connections whose client waits for the server to speak.

use super::{TCP, name};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use whydrop_model::snapshot::{Protocol, Snapshot, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tcp.defer_accept",
    title: text!(
        "TCP_DEFER_ACCEPT holds back connections whose client waits for the server to speak",
        "TCP_DEFER_ACCEPT 扣住了等待服务器先发言的连接"
    ),
    meaning: text!(
        "The listener has TCP_DEFER_ACCEPT: the kernel hands over a connection only when its client has sent data, and this client waits for a greeting.",
        "监听套接字设置了 TCP_DEFER_ACCEPT：客户端发送数据后内核才交出连接，而该客户端在等待服务器的问候。"
    ),
    seen_by: text!(
        "TcpExt.TCPDeferAcceptDrop rose in the window, and connections stay half open here whose client is through with the handshake, or that stay so for the whole window.",
        "TcpExt.TCPDeferAcceptDrop 在窗口内增加，且有连接在本机一直处于半开状态：其客户端已完成握手，或整个窗口都如此。"
    ),
    why_lost: text!(
        "The last ACK of the handshake is ignored until data comes; the server repeats its SYN-ACK, and both sides wait for each other.",
        "在数据到来之前，握手的最后一个 ACK 被忽略；服务器重复发送 SYN-ACK，双方互相等待。"
    ),
    what_to_do: text!(
        "Do not use TCP_DEFER_ACCEPT where the server speaks first (SMTP, FTP, SSH, MySQL): nginx `deferred`, Apache AcceptFilter, HAProxy `defer-accept`.",
        "在服务器先发言的协议（SMTP、FTP、SSH、MySQL）上不要使用 TCP_DEFER_ACCEPT：nginx 的 deferred、Apache 的 AcceptFilter、HAProxy 的 defer-accept。"
    ),
    when_wrong: text!(
        "Clients that connect early and send later (a browser's spare connections) are held back, too, and miss nothing.",
        "提前建立连接、稍后才发送的客户端（浏览器的备用连接）也会被扣住，但并不缺什么。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib, Source::Sockets], judge };

const COUNTER: &str = "TcpExt.TCPDeferAcceptDrop";
/// The flag of TCP that the last packet of a handshake has alone.
const ACK: u8 = 16;

const SUMMARY: Text = text!(
    "{n} connections to {listener} are held back until their clients send data (TCP_DEFER_ACCEPT).",
    "到 {listener} 的 {n} 个连接被扣住，直到其客户端发送数据（TCP_DEFER_ACCEPT）。"
);
const HALF: Text = text!(
    "{n} connections are half open here, and established at their clients, or have been so for the whole window",
    "有 {n} 个连接在本机处于半开状态，而客户端认为已建立，或整个窗口都如此"
);
const WITHOUT: Text = text!(
    "let {listener} listen without TCP_DEFER_ACCEPT (nginx: no `deferred`; Apache: AcceptFilter none; HAProxy: no `defer-accept`)",
    "让 {listener} 在监听时不使用 TCP_DEFER_ACCEPT（nginx：去掉 deferred；Apache：AcceptFilter none；HAProxy：去掉 defer-accept）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let lost = space.mib(COUNTER);
    if lost == 0 {
        return Judgement::default();
    }
    let mut ports: BTreeMap<u16, Vec<&Socket>> = BTreeMap::new();
    for socket in held_back(space) {
        ports.entry(socket.local.port()).or_default().push(socket);
    }
    ports.into_iter().map(|(port, held)| culprit(space, port, held, lost)).collect::<Vec<_>>().into()
}

/// Half-open connections whose clients are through with the handshake, at the end of the window or else at its start: a
/// client that gives up and tries again has none for moments.
fn held_back<'a>(space: Space<'a>) -> Vec<&'a Socket> {
    let half = |socket: &&Socket| socket.protocol == Protocol::Tcp && socket.state == "syn_recv";
    let ends = |socket: &Socket| (plain(socket.local), plain(socket.remote));
    let all = |s: &Snapshot| s.sockets.iter().filter(half).map(ends).collect::<BTreeSet<_>>();
    let (old, new) = (all(space.before), all(space.after));
    let made = |s: &Snapshot, socket: &Socket| {
        let mut all = s.sockets.iter().filter(|s| s.protocol == Protocol::Tcp && s.state == "established");
        all.any(|other| (plain(other.remote), plain(other.local)) == ends(socket))
    };
    let at = |moment: fn(Space<'a>) -> &'a Snapshot| -> Vec<&'a Socket> {
        let is_held = |socket: &&'a Socket| {
            let is_there = |there: &Space<'_>| there.after.owns(socket.remote.ip().to_canonical());
            // Where the client can be looked at, it tells; a flood of SYNs is half open for long, too.
            match space.case.spaces().find(is_there) {
                Some(client) => made(moment(client), socket),
                None => old.contains(&ends(socket)) && new.contains(&ends(socket)),
            }
        };
        moment(space).sockets.iter().filter(half).filter(is_held).collect()
    };
    let now = at(|space| space.after);
    if now.is_empty() { at(|space| space.before) } else { now }
}

fn plain(at: SocketAddr) -> (IpAddr, u16) {
    (at.ip().to_canonical(), at.port())
}

fn culprit<'a>(space: Space<'a>, port: u16, held: Vec<&'a Socket>, lost: u64) -> Culprit<'a> {
    let asked = |ip: IpAddr| space.case.spaces().any(|there| there.is_target() && there.after.owns(ip));
    let waits = held.iter().any(|socket| asked(socket.remote.ip().to_canonical()));
    let n = held.len();
    Culprit::new(space, &CAUSE, "tcp.syn_queue", Scope::Socket, format!("tcp port {port}"))
        .direction(Direction::Receive)
        // An ACK that is ignored until data comes is not lost.
        .meter(0, Count::AtMost, "")
        .by_itself(true)
        .concerns(waits)
        .takes(move |loss| {
            let to = loss.event.and_then(|event| event.destination).map(|to| to.port());
            let flags = loss.count.and_then(|count| count.tcp_flags);
            let mine = loss.is_at_stage("tcp.receive") && loss.place.is_some_and(|p| p.cause.is_none());
            let last = to.is_none_or(|to| to == port) && flags == Some(ACK);
            if loss.is_in(space) && mine && last { Fit::Maybe } else { Fit::No }
        })
        .harms(move |flow| {
            let there = flow.destination(space.case).is_some_and(|there| there.same(space));
            let mine = flow.in_trouble() && flow.protocol == TCP && flow.port == Some(port) && there;
            if mine { Fit::Maybe } else { Fit::No }
        })
        .tell(move |_| {
            let listener = space.listeners(Protocol::Tcp, port).next();
            let listener = listener.map_or_else(|| format!("tcp port {port}"), name);
            let words: [(&str, &dyn std::fmt::Display); 2] = [("n", &n), ("listener", &listener)];
            Story::new(SUMMARY.fill(&words))
                .counter(COUNTER, lost)
                .evidence(HALF.fill(&words), "sockets", &["ss", "-nt", "state", "syn-recv"])
                .fix(by_hand(WITHOUT.fill(&words)))
        })
}
