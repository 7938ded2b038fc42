//! `app.io_stall`: the program waits for storage.

use super::{Deaf, deaf, holds, tell_of_queue, tell_of_waits};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::stall::Stall;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::Pressure;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.io_stall",
    title: text!("The program waits for storage", "程序在等待存储"),
    meaning: text!(
        "A thread of the program waits for a disk, a network file system or a frozen file system, and nobody takes what arrives meanwhile.",
        "程序的某个线程在等待磁盘、网络文件系统或被冻结的文件系统，其间到达的内容无人处理。"
    ),
    seen_by: text!(
        "At both ends of the window a thread waits in a kernel function of storage or file systems, and the connections and requests that waited for the program still do.",
        "在观察窗口的两端，有线程在存储或文件系统的内核函数中等待，而等待该程序的连接和请求仍在等待。"
    ),
    why_lost: text!(
        "The kernel still answers the handshake for it, so that clients connect and wait; once its queue is full, they are ignored.",
        "内核仍会替它完成握手，客户端连上后一直等待；队列满后新连接被忽略。"
    ),
    what_to_do: text!(
        "Look at the storage: iostat -x 1, dmesg, the server of an NFS mount, fsfreeze -u for a frozen file system. A signal does not end such a wait.",
        "检查存储：iostat -x 1、dmesg、NFS 的服务器，被冻结的文件系统用 fsfreeze -u 解冻。信号无法结束这种等待。"
    ),
    when_wrong: text!(
        "A backup may freeze a file system for some seconds on purpose.",
        "备份可能会有意将文件系统冻结几秒钟。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets, Source::Processes], judge };

/// Longest path shown.
const MAX_PATH: usize = 120;

const SUMMARY: Text = text!(
    "{program} waits for storage{file} and does not take what waits in {socket}.",
    "{program} 在等待存储{file}，不处理 {socket} 中等待的内容。"
);
const WORKS_ON: Text =
    text!("a thread that cannot be interrupted works on {path}", "有一个无法中断的线程正在操作 {path}");
const STALLED: Text = text!(
    "tasks waited for input and output for {percent} % of the last ten seconds",
    "最近十秒中有 {percent}% 的时间有任务在等待输入输出"
);
const LOOK: Text = text!(
    "look at what {path} lies on: findmnt -T {path}, iostat -x 1, dmesg; fsfreeze -u thaws a file system, a network file system needs its server",
    "检查 {path} 所在的存储：findmnt -T {path}、iostat -x 1、dmesg；fsfreeze -u 可解冻文件系统，网络文件系统需要其服务器"
);
const LOOK_ANY: Text = text!(
    "see what it waits for: cat /proc/{pid}/stack, ls -l /proc/{pid}/fd, iostat -x 1, dmesg",
    "查看它在等什么：cat /proc/{pid}/stack、ls -l /proc/{pid}/fd、iostat -x 1、dmesg"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let deaf = deaf(space, |why| matches!(why, Stall::Storage));
    deaf.into_iter().map(|deaf| culprit(space, deaf)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, deaf: Deaf<'a>) -> Culprit<'a> {
    let subject = deaf.program.name();
    let culprit = Culprit::new(space, &CAUSE, "socket.receive_queue", Scope::Socket, subject);
    holds(culprit, &deaf.waiting).direction(Direction::Receive).tell(move |_| story(space, &deaf))
}

fn story(space: Space<'_>, deaf: &Deaf<'_>) -> Story {
    let Deaf { program, waiting, .. } = deaf;
    let socket = waiting.first().map_or_else(String::new, |waiting| waiting.socket.local.to_string());
    let path = program.process.works_on.as_ref().map(|path| sanitize(path, MAX_PATH));
    let file = path.as_ref().map_or_else(String::new, |path| format!(" ({path})"));
    let words: [(&str, &dyn std::fmt::Display); 5] = [
        ("program", &program.name()),
        ("socket", &socket),
        ("file", &file),
        ("pid", &program.process.pid),
        ("path", &path.as_deref().unwrap_or("")),
    ];
    let mut story = tell_of_waits(Story::new(SUMMARY.fill(&words)), program);
    if path.is_some() {
        story = story.evidence(WORKS_ON.fill(&words), "system call", &[]);
    }
    let [_, machine] = &space.case.observation.machine;
    let io: Option<&Pressure> = machine.pressure.get().and_then(|all| all.get("io"));
    if let Some(io) = io.filter(|io| io.some_avg10 >= 1.0) {
        let claim = STALLED.fill(&[("percent", &io.some_avg10.round())]);
        story = story.evidence(claim, "pressure", &["cat", "/proc/pressure/io"]);
    }
    let advice = if path.is_some() { LOOK } else { LOOK_ANY };
    waiting.iter().fold(story, tell_of_queue).fix(by_hand(advice.fill(&words)))
}
