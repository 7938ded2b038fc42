//! `app.fd_exhausted`: the program has no file descriptor left.

use super::{Deaf, deaf, holds, tell_of_queue};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::program::{Program, Waiting};
use crate::evidence::stall::{Stall, failed_for_descriptors};
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.fd_exhausted",
    title: text!("The program has no file descriptor left", "程序的文件描述符已用完"),
    meaning: text!(
        "The program has as many files and sockets open as it may, and connections wait that it cannot accept.",
        "程序打开的文件和套接字数已达上限，有连接在等待而它无法 accept。"
    ),
    seen_by: text!(
        "The open descriptors of the process reach its limit (RLIMIT_NOFILE), and the queue of its listener stands; or its calls failed with EMFILE.",
        "进程打开的描述符达到其上限（RLIMIT_NOFILE），且其监听套接字的队列没有减少；或其系统调用以 EMFILE 失败。"
    ),
    why_lost: text!(
        "accept() fails with EMFILE: clients are connected by the kernel and get no answer.",
        "accept() 返回 EMFILE：客户端已由内核建立连接，却得不到应答。"
    ),
    what_to_do: text!(
        "Raise the limit (LimitNOFILE of the unit, ulimit -n), and look for descriptors that are never closed: ls /proc/PID/fd.",
        "提高上限（单元的 LimitNOFILE、ulimit -n），并查找从不关闭的描述符：ls /proc/PID/fd。"
    ),
    when_wrong: text!(
        "A program may use all its descriptors by design, and accept again when one is free.",
        "程序可能有意用完全部描述符，并在有空闲时再 accept。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets, Source::Processes], judge };

const SUMMARY: Text = text!(
    "{program} has no file descriptor left: it cannot accept connections.",
    "{program} 的文件描述符已用完：无法 accept 连接。"
);
const CLOSES: Text = text!(
    "{program} has no file descriptor left: it closes connections without an answer.",
    "{program} 的文件描述符已用完：未作应答就关闭连接。"
);
const OPEN: Text = text!("{open} descriptors of {limit} are open", "已打开 {open} 个描述符，上限 {limit}");
const FAILED: Text = text!("{n} calls failed with EMFILE", "有 {n} 次调用以 EMFILE 失败");
const RAISE: Text = text!(
    "raise the limit (prlimit --pid {pid} --nofile=N, LimitNOFILE of its unit), and see what it never closes: ls -l /proc/{pid}/fd",
    "提高上限（prlimit --pid {pid} --nofile=N，或其单元的 LimitNOFILE），并查看它从不关闭什么：ls -l /proc/{pid}/fd"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let deaf = deaf(space, |why| matches!(why, Stall::NoDescriptors));
    deaf.into_iter().map(|deaf| culprit(space, deaf)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, deaf: Deaf<'a>) -> Culprit<'a> {
    let culprit = Culprit::new(space, &CAUSE, "tcp.accept_queue", Scope::Socket, deaf.program.name());
    holds(culprit, &deaf.waiting)
        .direction(Direction::Receive)
        .tell(move |_| story(space, &deaf.program, &deaf.waiting))
}

fn story(space: Space<'_>, program: &Program<'_>, waiting: &[Waiting<'_>]) -> Story {
    let (open, limit) = program.process.descriptors.get().map_or((0, 0), |d| (d.open, d.limit.unwrap_or(0)));
    let failed = failed_for_descriptors(space, program);
    let words: [(&str, &dyn std::fmt::Display); 5] = [
        ("program", &program.name()),
        ("pid", &program.process.pid),
        ("open", &open),
        ("limit", &limit),
        ("n", &failed),
    ];
    let show = format!("/proc/{}/limits", program.process.pid);
    // It still accepts, and has none for what the answer needs.
    let accepts = waiting.iter().all(|waiting| waiting.listens() && waiting.socket.receive_queue == 0);
    let summary = if accepts { CLOSES } else { SUMMARY };
    let mut story =
        Story::new(summary.fill(&words)).evidence(OPEN.fill(&words), "processes", &["cat", &show]);
    if failed > 0 {
        story = story.evidence(FAILED.fill(&words), "system calls", &[]);
    }
    waiting.iter().fold(story, tell_of_queue).fix(by_hand(RAISE.fill(&words)))
}
