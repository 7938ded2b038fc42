//! `dns.server_unreachable`: the configured resolver does not answer.
//!
//! A question waits in a connected UDP socket of its own, which a resolver that is well empties within milliseconds: one
//! that is the same at both ends of the window, or one at each end while no datagram at all came in, tells of silence.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::program;
use crate::fixes::by_hand;
use crate::loss::missing::Frame;
use crate::loss::{Loss, missing};
use crate::rule::{Judgement, Rule};
use crate::rules::tcp::name;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::snapshot::{Protocol, Snapshot, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "dns.server_unreachable",
    title: text!("The configured resolver does not answer", "所配置的 DNS 服务器没有应答"),
    meaning: text!(
        "Programs ask a name server for addresses, and no answer comes: it is gone, or another address is meant.",
        "程序向域名服务器查询地址，却得不到应答：它已不在，或地址写错。"
    ),
    seen_by: text!(
        "A UDP socket to port 53 of the server waits at both ends of the window without an answer, and no packet to or from the server was seen to die at a known place on this machine.",
        "在观察窗口的两端，都有通往该服务器 53 端口的 UDP 套接字在等待而没有应答，且未见往返该服务器的包在本机已知位置被丢弃。"
    ),
    why_lost: text!(
        "The resolver of the C library waits five seconds for each try: programs start slowly, or fail with a temporary failure in name resolution.",
        "C 库的解析器每次尝试等待五秒：程序启动缓慢，或报告 temporary failure in name resolution。"
    ),
    what_to_do: text!(
        "Correct the nameserver in resolv.conf (of the container or namespace), or find out why the server does not answer: dig @SERVER . NS, run whydrop there.",
        "修正 resolv.conf（容器或命名空间内）中的 nameserver，或查明服务器为何不应答：dig @SERVER . NS，并在那里运行 whydrop。"
    ),
    when_wrong: text!(
        "A server that answers late, or drops questions of one kind only, looks like this for those who ask them.",
        "应答很慢、或只丢弃某类查询的服务器，对提问者看起来也是如此。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets], judge };

const PORT: u16 = 53;
const UDP: u8 = 17;
/// Stage at which packets wait for a neighbour.
const NEIGHBOUR: &str = "neighbour";
/// A server that nobody in view has may be silent for reasons that stay out of sight.
const BY_SILENCE: f64 = 0.9;

const SUMMARY: Text = text!(
    "The resolver {server} does not answer: {asker} waits for it.",
    "DNS 服务器 {server} 没有应答：{asker} 在等待它。"
);
const WAITS: Text = text!(
    "{n} questions to {server} wait at the end of the window, and {old} waited at its start",
    "窗口结束时有 {n} 个发往 {server} 的查询在等待，窗口开始时有 {old} 个"
);
const CONFIGURED: Text =
    text!("{server} stands in the resolv.conf of {asker}", "{server} 写在 {asker} 的 resolv.conf 中");
const UNRESOLVED: Text =
    text!("nobody on the network has the address {server}", "网络上没有主机拥有地址 {server}");
const DO: Text = text!(
    "see whether {server} is meant: cat /proc/{pid}/root/etc/resolv.conf; ask it: dig @{server} . NS; then correct the nameserver line, or mend the server",
    "确认 {server} 是否正确：cat /proc/{pid}/root/etc/resolv.conf；向它查询：dig @{server} . NS；然后修正 nameserver 行，或修复该服务器"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let asked = questions(space.after).map(server);
    let suffer = space.case.flows.iter().filter(|flow| is_vain(space, flow)).filter_map(|flow| flow.address);
    let servers: BTreeSet<IpAddr> = asked.chain(suffer).collect();
    servers
        .into_iter()
        .filter(|ip| is_silent(space, *ip))
        .map(|ip| culprit(space, ip))
        .collect::<Vec<_>>()
        .into()
}

/// True for a flow of questions from here that get no answer at all.
fn is_vain(space: Space<'_>, flow: &Flow<'_>) -> bool {
    let asks = flow.protocol == UDP && flow.port == Some(PORT) && flow.starts_in(space);
    asks && flow.suffers() && flow.succeeded == 0 && !flow.refused() && flow.trouble.unsent == 0
}

/// Sockets of programs that wait for an answer of a name server.
fn questions(snapshot: &Snapshot) -> impl Iterator<Item = &Socket> {
    snapshot.sockets.iter().filter(|socket| {
        socket.protocol == Protocol::Udp
            && socket.remote.port() == PORT
            && socket.receive_queue == 0
            && !socket.owners.is_empty()
    })
}

fn server(socket: &Socket) -> IpAddr {
    socket.remote.ip().to_canonical()
}

/// True if questions wait and nothing comes back, and nothing in view says why.
fn is_silent(space: Space<'_>, ip: IpAddr) -> bool {
    let mut waited = questions(space.after)
        .filter(|socket| server(socket) == ip)
        .filter(|socket| program::before(space, socket).is_some_and(|old| old.receive_queue == 0));
    let asked_before = questions(space.before).any(|socket| server(socket) == ip);
    let came = space.mib("Udp.InDatagrams") + space.mib6("Udp6InDatagrams");
    let suffers = || space.case.flows.iter().any(|flow| flow.address == Some(ip) && is_vain(space, flow));
    // The socket of a question and that of a forwarder, which stays open, look alike: it is a question only if something
    // was sent, and silence only if nothing at all came.
    let sent = space.mib("Udp.OutDatagrams") + space.mib6("Udp6OutDatagrams");
    let silent = suffers() || sent > 0 && came == 0 && (waited.next().is_some() || asked_before);
    silent && !has_reason(space, ip)
}

/// True if a packet to or from the server died at a place that says why, or the server is in view.
fn has_reason(space: Space<'_>, ip: IpAddr) -> bool {
    let of_server = |at: Option<SocketAddr>| at == Some(SocketAddr::new(ip, PORT));
    let events = space.case.drop_log().map(|log| log.sampled.as_slice()).unwrap_or(&[]);
    let died = events.iter().any(|event| {
        let touches = of_server(event.source) || of_server(event.destination);
        let place = whydrop_facts::place::of_event(event);
        touches && !place.stage.starts_with(NEIGHBOUR)
    });
    // An answer from elsewhere finds no socket.
    let astray = events.iter().any(|event| {
        let here = event.netns_inode == Some(space.inode()) && event.protocol == Some(UDP);
        let answer = event.source.is_some_and(|from| from.port() == PORT && from.ip() != ip);
        here && answer && questions(space.after).chain(questions(space.before)).any(|s| server(s) == ip)
    });
    // Of a server in view it is known what keeps it from answering, or it is looked for there.
    let in_view = space.case.owners(ip).next().is_some();
    // What the next hop's silence stops is more than questions.
    let own_network = || space.unresolved().any(|(_, neighbour)| neighbour == ip);
    let far_hop = !own_network() && space.unresolved().next().is_some() && died_at_neighbour(space, ip);
    died || astray || in_view || far_hop
}

fn died_at_neighbour(space: Space<'_>, ip: IpAddr) -> bool {
    space.losses().any(|loss| takes(space, ip, loss))
}

/// True for a question to the server that died for want of a neighbour. Where only the number of drops is known they are
/// questions if they are datagrams, and nobody else on the network is silent.
fn takes(space: Space<'_>, ip: IpAddr, loss: &Loss<'_>) -> bool {
    let question = match loss.event {
        Some(event) => event.destination == Some(SocketAddr::new(ip, PORT)),
        None => {
            loss.count.and_then(|count| count.protocol) == Some(UDP)
                && loss.alike.is_empty()
                && space.unresolved().any(|(_, silent)| silent == ip)
                && space.unresolved().all(|(_, silent)| silent == ip)
        }
    };
    loss.is_in(space) && loss.is_at_stage(NEIGHBOUR) && question
}

fn culprit(space: Space<'_>, ip: IpAddr) -> Culprit<'_> {
    // Whoever knows only that nobody has the address speaks of the same.
    let silent = space.unresolved().filter(|(_, silent)| *silent == ip);
    let missing = silent.map(|(link, _)| {
        let question = Packet { protocol: UDP, destination: Some(ip), ..Packet::default() };
        missing::at(space, link, Frame::Ip(Some(question)))
    });
    let missing = missing.collect();
    Culprit::new(space, &CAUSE, "socket.transmit", Scope::Socket, ip.to_string())
        .direction(Direction::Transmit)
        .misses(missing)
        .names_roots()
        .at_most(BY_SILENCE)
        .by_itself(true)
        .takes(move |loss| if takes(space, ip, loss) { Fit::Yes } else { Fit::No })
        .harms(move |flow| if flow.address == Some(ip) && is_vain(space, flow) { Fit::Yes } else { Fit::No })
        .tell(move |_| story(space, ip))
}

fn story(space: Space<'_>, ip: IpAddr) -> Story {
    let of = |snapshot| questions(snapshot).filter(|socket| server(socket) == ip);
    let first = of(space.after).chain(of(space.before)).next();
    let pid = first.and_then(|socket| socket.owners.first()).map_or(0, |owner| owner.pid);
    let asker = first.map_or_else(|| space.target().id.clone(), name);
    let words: [(&str, &dyn std::fmt::Display); 5] = [
        ("server", &ip),
        ("asker", &asker),
        ("n", &of(space.after).count()),
        ("old", &of(space.before).count()),
        ("pid", &pid),
    ];
    let mut story = Story::new(SUMMARY.fill(&words))
        .evidence(WAITS.fill(&words), "sockets", &["ss", "-unp"])
        .fix(by_hand(DO.fill(&words)));
    let knows = |socket: &Socket| {
        let programs = socket.owners.iter().filter_map(|owner| program::program(space, owner.pid));
        programs.into_iter().any(|program| program.process.resolvers.contains(&ip))
    };
    if of(space.after).any(knows) {
        story = story.evidence(CONFIGURED.fill(&words), "resolv.conf", &[]);
    }
    if space.unresolved().any(|(_, neighbour)| neighbour == ip) {
        story = story.evidence(UNRESOLVED.fill(&words), "neighbours", &["ip", "neigh"]);
    }
    story
}
