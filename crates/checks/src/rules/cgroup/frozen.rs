//! `cgroup.frozen`: the program's cgroup is frozen.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::program::{Program, Waiting};
use crate::evidence::stall::Stall;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use crate::rules::app::{deaf, holds, tell_of_queue};
use std::collections::BTreeMap;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::Cgroup;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "cgroup.frozen",
    title: text!("The cgroup of the program is frozen", "程序所在的 cgroup 被冻结"),
    meaning: text!(
        "All processes of the cgroup are held (docker pause, systemctl freeze, a checkpoint), and connections or data wait for one of them.",
        "cgroup 中的所有进程都被冻结（docker pause、systemctl freeze、检查点），而有连接或数据在等待其中的进程。"
    ),
    seen_by: text!(
        "The cgroup says frozen at both ends of the window, and something waits in a socket that only its processes hold.",
        "在观察窗口的两端 cgroup 都处于冻结状态，且只由其进程持有的套接字中有内容在等待。"
    ),
    why_lost: text!(
        "The kernel still answers the handshake, so that clients connect and wait; nobody reads.",
        "内核仍会完成握手，客户端连上后一直等待；没有人读取。"
    ),
    what_to_do: text!(
        "Thaw it: docker unpause, systemctl thaw, or write 0 to cgroup.freeze; find out who froze it.",
        "解冻：docker unpause、systemctl thaw，或向 cgroup.freeze 写入 0；并查明是谁冻结的。"
    ),
    when_wrong: text!(
        "A container that is paused on purpose keeps its clients waiting by design.",
        "有意暂停的容器让客户端等待，属预期行为。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets, Source::Processes], judge };

/// Longest cgroup path shown.
const MAX_PATH: usize = 120;

const SUMMARY: Text = text!(
    "The cgroup {path} is frozen: {program} does not take what waits in {socket}.",
    "cgroup {path} 被冻结：{program} 不处理 {socket} 中等待的内容。"
);
const FROZEN: Text = text!("{path} is frozen", "{path} 处于冻结状态");
const THAW: Text = text!(
    "thaw it: docker unpause CONTAINER, systemctl thaw UNIT, or write 0 to cgroup.freeze of {path} (version 1: THAWED to freezer.state)",
    "解冻：docker unpause 容器、systemctl thaw 单元，或向 {path} 的 cgroup.freeze 写入 0（版本 1：向 freezer.state 写入 THAWED）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut found: BTreeMap<&str, (&Cgroup, Program<'_>, Vec<Waiting<'_>>)> = BTreeMap::new();
    for deaf in deaf(space, |why| matches!(why, Stall::Frozen(_))) {
        let Stall::Frozen(cgroup) = deaf.why else { continue };
        found.entry(&cgroup.path).or_insert_with(|| (cgroup, deaf.program, vec![])).2.extend(deaf.waiting);
    }
    let culprits =
        found.into_values().map(|(cgroup, program, waiting)| culprit(space, cgroup, program, waiting));
    culprits.collect::<Vec<_>>().into()
}

fn culprit<'a>(
    space: Space<'a>,
    cgroup: &'a Cgroup,
    program: Program<'a>,
    waiting: Vec<Waiting<'a>>,
) -> Culprit<'a> {
    let path = sanitize(&cgroup.path, MAX_PATH);
    let culprit =
        Culprit::new(space, &CAUSE, "socket.receive_queue", Scope::Socket, format!("cgroup {path}"));
    holds(culprit, &waiting).direction(Direction::Receive).tell(move |_| {
        let socket = waiting.first().map_or_else(String::new, |waiting| waiting.socket.local.to_string());
        let words: [(&str, &dyn std::fmt::Display); 3] =
            [("path", &path), ("program", &program.name()), ("socket", &socket)];
        let story = Story::new(SUMMARY.fill(&words)).evidence(FROZEN.fill(&words), "cgroups", &[]);
        waiting.iter().fold(story, tell_of_queue).fix(by_hand(THAW.fill(&words)))
    })
}
