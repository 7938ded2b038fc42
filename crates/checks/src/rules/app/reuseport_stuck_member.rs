//! `app.reuseport_stuck_member`: one member of a SO_REUSEPORT group does not serve its share.

use super::{Deaf, deaf, holds, leads, tell_of_queue, tell_of_waits};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::datagrams_sent;
use crate::evidence::stall::Stall;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.reuseport_stuck_member",
    title: text!(
        "One member of a SO_REUSEPORT group does not serve its share",
        "SO_REUSEPORT 组中有一个成员不处理它那一份"
    ),
    meaning: text!(
        "Several sockets share one address and port, and the kernel spreads clients over them by a hash; the program behind one of them takes nothing.",
        "多个套接字共用同一地址和端口，内核按哈希把客户端分给它们；其中一个背后的程序什么也不取。"
    ),
    seen_by: text!(
        "What waits in one socket of the group stands during the window, while others of it are empty or get shorter.",
        "组中一个套接字里等待的内容在窗口内没有减少，而其他套接字为空或在减少。"
    ),
    why_lost: text!(
        "The hash sends the same clients to the same socket again and again: a share of them waits or is lost, the others notice nothing.",
        "哈希总把同样的客户端分给同一个套接字：其中一部分一直等待或丢失，其他的毫无察觉。"
    ),
    what_to_do: text!(
        "Restart the member that hangs, or close its socket: the kernel then spreads its share over the others.",
        "重启卡住的成员，或关闭它的套接字：内核随后会把它那一份分给其他成员。"
    ),
    when_wrong: text!(
        "A program that steers clients by itself (SO_ATTACH_REUSEPORT_EBPF) may leave one of its sockets idle.",
        "自行分派客户端的程序（SO_ATTACH_REUSEPORT_EBPF）可能有意闲置其中一个套接字。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets, Source::Processes], judge };

const SUMMARY: Text = text!(
    "One of {members} sockets that share {socket} is not served: {program} takes nothing out of it.",
    "共用 {socket} 的 {members} 个套接字中有一个无人处理：{program} 不从中取走任何内容。"
);
const OTHERS: Text = text!(
    "the other sockets at {socket} are served: at most {most} wait in one of them",
    "{socket} 上的其他套接字得到了处理：其中最多只有 {most} 个在等待"
);
const RESTART: Text = text!(
    "see what {program} waits for (cat /proc/{pid}/stack; kill -CONT {pid} if it was stopped), or restart it: the others then serve its share",
    "查看 {program} 在等什么（cat /proc/{pid}/stack；若被停止则 kill -CONT {pid}），或重启它：其份额随后由其他成员处理"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let deaf = deaf(space, |why| matches!(why, Stall::Member));
    deaf.into_iter().map(|deaf| culprit(space, deaf)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, deaf: Deaf<'a>) -> Culprit<'a> {
    let socket = deaf.waiting.first().map_or_else(String::new, |waiting| waiting.socket.local.to_string());
    let subject = format!("{} at {socket}", deaf.program.name());
    let culprit = Culprit::new(space, &CAUSE, "socket.receive_queue", Scope::Socket, subject);
    let asked = deaf.waiting.iter().any(|waiting| is_asked_by_target(space, waiting.socket));
    let culprit = holds(culprit, &deaf.waiting).direction(Direction::Receive);
    let concerns = culprit.concerns || asked;
    culprit.concerns(concerns).tell(move |_| story(space, &deaf))
}

/// True if a target sends datagrams to the group: a share of them comes to each member. A datagram socket does not know
/// whom it hears, but who waits for its answer does, or who alone sends at all.
fn is_asked_by_target(space: Space<'_>, socket: &Socket) -> bool {
    let is_sender = |there: &Space<'_>| !there.same(space) && datagrams_sent(*there) > 0;
    let asks = |there: Space<'_>| {
        let mut sockets = there.after.sockets.iter().chain(there.before.sockets.iter());
        let to = |s: &Socket| s.remote.port() == socket.local.port() && space.after.owns(s.remote.ip());
        sockets.any(|s| s.protocol == Protocol::Udp && to(s))
    };
    let senders: Vec<Space<'_>> = space.case.spaces().filter(is_sender).collect();
    let alone = |there: Space<'_>| senders.iter().all(|other| other.same(there)) && leads(there, space);
    socket.protocol == Protocol::Udp
        && senders.iter().any(|there| there.is_target() && (asks(*there) || alone(*there)))
}

fn story(space: Space<'_>, deaf: &Deaf<'_>) -> Story {
    let Deaf { program, waiting, .. } = deaf;
    let Some(stuck) = waiting.first().map(|waiting| waiting.socket) else { return Story::default() };
    let shares = |other: &&Socket| {
        (other.protocol, other.local, &other.state) == (stuck.protocol, stuck.local, &stuck.state)
    };
    let others: Vec<&Socket> =
        space.after.sockets.iter().filter(shares).filter(|other| other.cookie != stuck.cookie).collect();
    let most = others.iter().map(|other| other.receive_queue).max().unwrap_or(0);
    let words: [(&str, &dyn std::fmt::Display); 5] = [
        ("program", &program.name()),
        ("pid", &program.process.pid),
        ("socket", &stuck.local),
        ("members", &(others.len() + 1)),
        ("most", &most),
    ];
    let story =
        Story::new(SUMMARY.fill(&words)).evidence(OTHERS.fill(&words), "other members", &["ss", "-lnp"]);
    waiting.iter().fold(tell_of_waits(story, program), tell_of_queue).fix(by_hand(RESTART.fill(&words)))
}
