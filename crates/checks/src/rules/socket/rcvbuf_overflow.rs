//! `socket.rcvbuf_overflow`: the receive buffer of a raw socket is full.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::program;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use whydrop_model::delta::Change;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "socket.rcvbuf_overflow",
    title: text!("The receive buffer of a raw socket is full", "原始套接字的接收缓冲区已满"),
    meaning: text!(
        "A program that reads packets through a raw or ping socket does not read them as fast as they arrive.",
        "通过原始套接字或 ping 套接字读取数据包的程序，读取速度跟不上到达速度。"
    ),
    seen_by: text!(
        "The socket's own drop counter rose in the window. No protocol counter and no drop event tells of these.",
        "套接字自身的丢弃计数在窗口内增加。没有协议计数器或丢包事件反映这种丢弃。"
    ),
    why_lost: text!(
        "A packet for which the socket's buffer has no room is thrown away: an answer to a ping looks lost although it came.",
        "套接字缓冲区放不下的包被丢弃：ping 的应答虽已到达，却看起来丢了。"
    ),
    what_to_do: text!(
        "Let the program read faster, or ask for a larger buffer (SO_RCVBUF, at most net.core.rmem_max); a filter on the socket (ICMP_FILTER, SO_ATTACH_FILTER) keeps away what it does not want.",
        "让程序更快地读取，或申请更大的缓冲区（SO_RCVBUF，上限 net.core.rmem_max）；在套接字上设置过滤（ICMP_FILTER、SO_ATTACH_FILTER）可以挡掉不需要的包。"
    ),
    when_wrong: text!(
        "A raw socket gets a copy of every packet of its protocol: a program that wants few of them may not mind. What a capture (a packet socket) misses is lost to the capture only.",
        "原始套接字会收到该协议每个包的副本：只需要其中少数的程序可能并不在意。抓包（packet 套接字）漏掉的包只是没被抓到。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::RawSockets], judge };

/// What counts these drops.
const COUNTER: &str = "socket drops";

const SUMMARY: Text = text!(
    "The receive buffer of a {kind} socket of {owner} is full: packets are thrown away.",
    "{owner} 的 {kind} 套接字接收缓冲区已满：数据包被丢弃。"
);
const DROPS: Text = text!("the socket itself counted {n} drops", "该套接字自身计数丢弃 {n} 个");
const READ: Text = text!(
    "make {owner} read faster, or let it ask for a larger buffer (SO_RCVBUF; at most net.core.rmem_max) or filter what it does not want",
    "让 {owner} 更快地读取，或申请更大的缓冲区（SO_RCVBUF；上限 net.core.rmem_max），或过滤它不需要的包"
);

/// Longest process name shown (TASK_COMM_LEN is 16).
const MAX_COMM: usize = 16;

fn judge(space: Space<'_>) -> Judgement<'_> {
    let copies = |socket: &&Socket| matches!(socket.protocol, Protocol::Raw(_) | Protocol::Ping);
    let sockets = space.after.raw_sockets.iter().filter(copies);
    sockets.filter_map(|socket| culprit(space, socket)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, socket: &'a Socket) -> Option<Culprit<'a>> {
    let drops = drops(space, socket);
    let kind = match socket.protocol {
        Protocol::Raw(number) => format!("raw ({number})"),
        _ => "ping".to_owned(),
    };
    let owner = match socket.owners.first() {
        Some(owner) => format!("{} (pid {})", sanitize(&owner.comm, MAX_COMM), owner.pid),
        None => format!("inode {}", socket.inode),
    };
    let culprit = Culprit::new(
        space,
        &CAUSE,
        "socket.receive_queue",
        Scope::Socket,
        format!("{kind} socket of {owner}"),
    )
    .direction(Direction::Receive)
    .meter(drops, Count::Exact, COUNTER)
    .tell(move |_| {
        let words: [(&str, &dyn std::fmt::Display); 3] = [("kind", &kind), ("owner", &owner), ("n", &drops)];
        Story::new(SUMMARY.fill(&words))
            .evidence(DROPS.fill(&words), COUNTER, &["ss", "-wanm"])
            .fix(by_hand(READ.fill(&words)))
    });
    (drops > 0).then_some(culprit)
}

/// Rise of the socket's drop counter in the window; all of it for one that appeared in it.
fn drops(space: Space<'_>, socket: &Socket) -> u64 {
    let before = program::before(space, socket);
    match Change::of_u32(before.and_then(|old| old.drops), socket.drops) {
        Change::Rose(n) => n,
        Change::Appeared(n) if before.is_none() && space.before.raw_sockets.is_present() => n,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::snapshot::Protocol;
    use whydrop_model::{Reading, Verdict};

    fn dropping(protocol: Protocol) -> World {
        let mut world = World::pair();
        let mut raw = socket(protocol, "0.0.0.0:0");
        (raw.drops, raw.owners[0].comm) = (Some(3), "pinger".into());
        world.both(SERVER, |s| s.raw_sockets = Reading::Present(vec![raw.clone()]));
        raw.drops = Some(700);
        world.after(SERVER, |s| s.raw_sockets = Reading::Present(vec![raw.clone()]));
        world
    }

    #[test]
    fn a_reader_of_answers_that_is_late_is_found_and_a_capture_is_not() {
        let world = dropping(Protocol::Raw(1));
        assert_eq!(
            world.found(),
            ["socket.rcvbuf_overflow @ netns:server: raw (1) socket of pinger (pid 7)"]
        );
        assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (697, 0));
        assert_eq!(dropping(Protocol::Packet(3)).report().verdict, Verdict::Clear);
    }
}
