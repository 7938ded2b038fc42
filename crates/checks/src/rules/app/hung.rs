//! `app.hung`: the program does not take what arrives.

use super::{Deaf, deaf, holds, tell_of_queue, tell_of_waits};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::silent;
use crate::evidence::stall::Stall;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule, fill_words};
use std::collections::BTreeSet;
use whydrop_model::{Cause, Direction, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.hung",
    title: text!("The program does not take what arrives", "程序不处理到达的数据"),
    meaning: text!(
        "Connections or requests wait in the program's sockets, and it is stopped, stuck or busy with something else.",
        "连接或请求在程序的套接字中等待，而程序被停止、卡住或忙于别的事情。"
    ),
    seen_by: text!(
        "The process is stopped or in uninterruptible sleep at both ends of the window, or the connections that waited to be accepted and the requests that waited to be read are still the same at its end; or a client waits for over a second with its request unread; or requests are read, and no connection of the port got a byte of an answer.",
        "在观察窗口的两端，进程都处于停止或不可中断睡眠状态；或窗口开始时等待 accept 的连接和未读的请求到窗口结束时仍然原样等待；或客户端的请求超过一秒未被读取，而客户端在等待；或请求已被读取，而该端口没有任何连接得到一个字节的应答。"
    ),
    why_lost: text!(
        "The kernel still answers the handshake for it, so that clients connect and wait; once its queue is full, they are ignored.",
        "内核仍会替它完成握手，客户端连上后一直等待；队列满后新连接被忽略。"
    ),
    what_to_do: text!(
        "Find out what it waits for: kill -CONT if it was stopped; else its stack (/proc/PID/stack), its locks, what it computes. Restart it if nothing helps.",
        "查明它在等什么：如果被停止，kill -CONT；否则查看它的栈（/proc/PID/stack）、锁和正在进行的计算。无法恢复时重启它。"
    ),
    when_wrong: text!(
        "Somebody may have stopped it on purpose, in a debugger for example.",
        "可能有人有意停止了它，例如在调试器中。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets, Source::Processes], judge };

const SUMMARY: Text =
    text!("{program} does not serve {socket}: {why}.", "{program} 不处理 {socket}：{why}。");
const IS_STOPPED: Text = text!("it is stopped", "它被停止");
const IS_STUCK: Text =
    text!("it waits in the kernel and cannot be interrupted", "它在内核中等待，无法被中断");
const RUNS: Text =
    text!("it runs all the time and accepts no connection", "它一直在运行，却不 accept 任何连接");
const RESTED: Text = text!("it took nothing in the window", "它在观察窗口内没有取走任何内容");
const IS_MUTE: Text = text!(
    "it read what was asked, and no client got a byte of an answer in the window",
    "它读取了请求，但观察窗口内没有客户端得到任何应答字节"
);
const STATE: Text = text!("{program}: {why}", "{program}：{why}");
const CONTINUE: Text = text!("let it go on: kill -CONT {pid}", "让它继续运行：kill -CONT {pid}");
const LOOK: Text = text!(
    "see what it waits for: cat /proc/{pid}/stack; restart it if nothing helps",
    "查看它在等什么：cat /proc/{pid}/stack；无法恢复时重启它"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let hangs = |why: Stall<'_>| {
        matches!(why, Stall::Stopped | Stall::Stuck | Stall::Mute | Stall::Busy | Stall::Rested)
    };
    deaf(space, hangs).into_iter().map(|deaf| culprit(space, deaf)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, deaf: Deaf<'a>) -> Culprit<'a> {
    let subject = deaf.program.name();
    let culprit = Culprit::new(space, &CAUSE, "socket.receive_queue", Scope::Socket, subject);
    let ports: BTreeSet<u16> = deaf.waiting.iter().map(|waiting| waiting.socket.local.port()).collect();
    let swallowed = match deaf.why {
        Stall::Mute => ports.into_iter().map(|port| silent::swallowed(space, port)).sum(),
        _ => 0,
    };
    let culprit = holds(culprit, &deaf.waiting).direction(Direction::Receive);
    // A request that a probe sent and that was read is gone with the answer: no other packet is.
    let culprit =
        if swallowed > 0 { culprit.meter(swallowed, Count::AtMost, "probe answers") } else { culprit };
    culprit.tell(move |_| story(&deaf))
}

fn story(deaf: &Deaf<'_>) -> Story {
    let Deaf { program, why, waiting } = deaf;
    let socket = waiting.first().map_or_else(String::new, |waiting| waiting.socket.local.to_string());
    let text = match why {
        Stall::Stopped => IS_STOPPED,
        Stall::Stuck => IS_STUCK,
        Stall::Busy => RUNS,
        Stall::Mute => IS_MUTE,
        _ => RESTED,
    };
    let words = [
        ("program", Phrase::same(program.name())),
        ("socket", Phrase::same(socket)),
        ("why", text.phrase()),
        ("pid", Phrase::same(program.process.pid.to_string())),
    ];
    let fill = |text| fill_words(text, &words.each_ref().map(|(name, phrase)| (*name, phrase)));
    let show = format!("/proc/{}/status", program.process.pid);
    let story = Story::new(fill(SUMMARY)).evidence(fill(STATE), "processes", &["cat", &show]);
    let advice = if matches!(why, Stall::Stopped) { CONTINUE } else { LOOK };
    waiting.iter().fold(tell_of_waits(story, program), tell_of_queue).fix(by_hand(fill(advice)))
}
