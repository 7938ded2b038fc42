//! `app.slow_reader`: the program does not read, and its peer may send no more.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::program;
use crate::fixes::by_hand;
use crate::loss::missing;
use crate::rule::{Judgement, Rule};
use crate::rules::tcp::name;
use crate::tell::BY_EVENTS;
use std::net::IpAddr;
use whydrop_model::snapshot::{Protocol, Socket, TcpInfo, Timer};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.slow_reader",
    title: text!(
        "The program does not read, and its peer may send no more",
        "程序不读取数据，对端无法继续发送"
    ),
    meaning: text!(
        "The receive buffer of a connection is full, so that its window is zero: the sender waits.",
        "连接的接收缓冲区已满，窗口为零：发送方只能等待。"
    ),
    seen_by: text!(
        "At both ends of the window the sender's kernel asks about a zero window, and nothing more was acknowledged; in the receiver data waits unread.",
        "在观察窗口的两端，发送方内核都在探测零窗口，且没有新的确认；接收方有数据未读。"
    ),
    why_lost: text!(
        "Nothing is lost: the data waits in the sender, and its program waits with it.",
        "没有丢包：数据在发送方等待，其程序也随之等待。"
    ),
    what_to_do: text!(
        "Find out why the receiving program does not read: is it busy, does it wait for something else?",
        "查明接收程序为什么不读取：是否忙碌，是否在等待别的事情？"
    ),
    when_wrong: text!(
        "A program that passes data on reads no faster than it can write: look at its other side first.",
        "转发数据的程序不会读得比写得快：先检查它的另一侧。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets], judge };

/// IPPROTO_TCP.
const TCP: u8 = 6;

const SUMMARY: Text = text!(
    "{reader} does not read: {sender} may send no more (zero window).",
    "{reader} 不读取数据：{sender} 无法继续发送（零窗口）。"
);
const SUMMARY_ANY: Text = text!(
    "A program does not read: segments came for which its window has no room.",
    "某个程序不读取数据：到达的报文段超出其接收窗口。"
);
const WAITS: Text = text!(
    "{sender} asks about the zero window of {reader}; {n} bytes wait to be sent or acknowledged",
    "{sender} 正在探测 {reader} 的零窗口；有 {n} 字节等待发送或确认"
);
const UNREAD: Text = text!("{n} bytes wait unread in {reader}", "{reader} 中有 {n} 字节未读");
const READ: Text = text!(
    "find out why {reader} does not read, or what it waits for",
    "查明 {reader} 为什么不读取，或在等待什么"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let senders = space.after.sockets.iter().filter(|socket| is_shut_out(space, socket));
    let mut culprits: Vec<Culprit<'_>> = senders.map(|sender| culprit(space, sender)).collect();
    if space.losses().any(|loss| loss.is_of(CAUSE.id)) && !culprits.iter().any(|c| c.space.same(space)) {
        let subject = "TCP receive window".to_owned();
        let any = Culprit::at_place(space, &CAUSE, "tcp.receive", Scope::Netns, subject);
        culprits.push(any.direction(Direction::Receive).tell(|_| Story::new(SUMMARY_ANY.phrase())));
    }
    culprits.into()
}

/// True if the peer's window of a connection was zero at both ends of the window of observation, and nothing moved. The
/// same timer runs where the own queue refused a segment (tcp_send_probe0 in net/ipv4/tcp_output.c), with a window open.
fn is_shut_out(space: Space<'_>, socket: &Socket) -> bool {
    let shut =
        |tcp: &&TcpInfo| tcp.timer == Timer::ZeroWindowProbe && tcp.snd_wnd.is_none_or(|open| open == 0);
    let asks = |s: &Socket| s.tcp.as_ref().filter(shut).map(|tcp| tcp.bytes_acked);
    let before = program::before(space, socket).and_then(asks);
    socket.protocol == Protocol::Tcp && before.is_some() && before == asks(socket)
}

/// The other end of a connection, if it is in view.
fn peer<'a>(space: Space<'a>, socket: &Socket) -> Option<(Space<'a>, &'a Socket)> {
    let ends = |s: &Socket| {
        let plain = |at: std::net::SocketAddr| (at.ip().to_canonical(), at.port());
        (plain(s.local), plain(s.remote))
    };
    let (local, remote) = ends(socket);
    space.case.spaces().find_map(|there| {
        let mut sockets = there.after.sockets.iter().filter(|s| s.protocol == Protocol::Tcp);
        sockets.find(|s| ends(s) == (remote, local)).map(|s| (there, s))
    })
}

fn culprit<'a>(space: Space<'a>, sender: &'a Socket) -> Culprit<'a> {
    let reader = peer(space, sender);
    // Who was asked about hears of it: the reader, or where he was not, the sender.
    let at =
        reader.filter(|(there, _)| there.is_target() || !space.is_target()).map_or(space, |(there, _)| there);
    let drops = reader.into_iter().flat_map(|(there, _)| there.losses()).filter(|loss| loss.is_of(CAUSE.id));
    let refused: u64 = drops.map(|loss| loss.packets).sum();
    let subject = format!("{} of {}", sender.remote, sender.local);
    let culprit = Culprit::new(at, &CAUSE, "socket.receive_queue", Scope::Socket, subject)
        .direction(Direction::Receive)
        .by_itself(true)
        // The data waits: only what was sent in spite of the window is lost.
        .meter(refused, Count::AtMost, BY_EVENTS)
        .takes(move |loss| {
            let to = loss
                .event
                .and_then(|event| event.destination)
                .is_none_or(|to| to.port() == sender.remote.port());
            match reader.is_some_and(|(there, _)| loss.is_in(there)) && loss.is_of(CAUSE.id) && to {
                true => Fit::Yes,
                false => Fit::No,
            }
        })
        .harms(move |flow| sure(is_its(flow, sender)))
        .tell(move |_| story(sender, reader.map(|(_, socket)| socket)));
    // A program that reads nothing at all has a reason of its own.
    match reader {
        Some((there, socket)) => culprit.misses(vec![missing::read_from(there, TCP, socket.local.port())]),
        None => culprit,
    }
}

/// True for the flow that this connection is a part of.
fn is_its(flow: &Flow<'_>, sender: &Socket) -> bool {
    let ip = |at: std::net::SocketAddr| -> IpAddr { at.ip().to_canonical() };
    let ends = (flow.source, flow.address);
    let (local, remote) = (ip(sender.local), ip(sender.remote));
    let forth = ends == (Some(local), Some(remote)) && flow.port == Some(sender.remote.port());
    let back = ends == (Some(remote), Some(local)) && flow.port == Some(sender.local.port());
    flow.in_trouble() && flow.protocol == TCP && (forth || back)
}

fn story(sender: &Socket, reader: Option<&Socket>) -> Story {
    let from = name(sender);
    let to = reader.map_or_else(|| sender.remote.to_string(), name);
    let words = |n: u32| -> [(&'static str, String); 3] {
        [("sender", from.clone()), ("reader", to.clone()), ("n", n.to_string())]
    };
    let fill = |text: Text, n: u32| {
        let words = words(n);
        let words: Vec<(&str, &dyn std::fmt::Display)> =
            words.iter().map(|(name, word)| (*name, word as &dyn std::fmt::Display)).collect();
        text.fill(&words)
    };
    let story = Story::new(fill(SUMMARY, 0))
        .evidence(fill(WAITS, sender.send_queue), "sockets", &["ss", "-nti"])
        .fix(by_hand(fill(READ, 0)));
    match reader.filter(|reader| reader.receive_queue > 0) {
        Some(reader) => story.evidence(fill(UNREAD, reader.receive_queue), "receive queue", &["ss", "-nt"]),
        None => story,
    }
}
