//! `cgroup.cpu_throttled`: a processor quota holds back the program that should read.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::program::{self, Program, Waiting, waiting};
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use crate::rules::app::{holds, number, serves_nobody, tell_of_queue};
use std::collections::BTreeMap;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::{Cgroup, CpuUse};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "cgroup.cpu_throttled",
    title: text!(
        "A processor quota holds back the program that should read",
        "CPU 配额限制了应当读取数据的程序"
    ),
    meaning: text!(
        "The cgroup of the program may use little processor time (cpu.max, a container's CPU limit) and is held back for much of each period; its buffers overflow meanwhile.",
        "程序所在的 cgroup 只能使用少量 CPU 时间（cpu.max、容器的 CPU 限制），每个周期的大部分时间都被限制运行；其间缓冲区溢出。"
    ),
    seen_by: text!(
        "In most periods of the window the cgroup was throttled (cpu.stat), and a queue of one of its sockets overflowed or stood.",
        "窗口内的大多数周期中该 cgroup 都被限流（cpu.stat），且其某个套接字的队列溢出或没有减少。"
    ),
    why_lost: text!(
        "While it is held back nobody reads: datagrams find no room, connections wait, and the average use of the processor still looks low.",
        "被限制运行时无人读取：数据报放不下，连接等待，而 CPU 的平均使用率看起来仍然很低。"
    ),
    what_to_do: text!(
        "Raise or remove the quota (systemctl set-property UNIT CPUQuota=, docker update --cpus), or make bursts shorter.",
        "提高或取消配额（systemctl set-property UNIT CPUQuota=、docker update --cpus），或缩短突发。"
    ),
    when_wrong: text!(
        "Throttling by itself delays and loses nothing; where the machine has no processor to spare, a higher quota does not help.",
        "限流本身只是延迟，并不丢包；机器没有空闲 CPU 时，提高配额没有帮助。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets, Source::Processes], judge };

/// Longest cgroup path shown.
const MAX_PATH: usize = 120;

const SUMMARY: Text = text!(
    "The processor quota of the cgroup {path} holds back {program}: it reads too late.",
    "cgroup {path} 的 CPU 配额限制了 {program}：它来不及读取。"
);
const THROTTLED: Text = text!(
    "{path} was throttled in {throttled} of {periods} periods, for {ms} ms in all; it may use {quota} of {period} us",
    "{path} 在 {periods} 个周期中有 {throttled} 个被限流，共 {ms} 毫秒；配额为每 {period} 微秒 {quota} 微秒"
);
const RAISE: Text = text!(
    "raise or remove the quota of {path}: systemctl set-property UNIT CPUQuota=, docker update --cpus, or cpu.max (version 1: cpu.cfs_quota_us)",
    "提高或取消 {path} 的配额：systemctl set-property UNIT CPUQuota=、docker update --cpus，或 cpu.max（版本 1：cpu.cfs_quota_us）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut found: BTreeMap<&str, (&Cgroup, Program<'_>)> = BTreeMap::new();
    let processes = space.after.processes.get().map(|all| all.list.as_slice()).unwrap_or(&[]);
    for program in processes.iter().filter_map(|process| program::program(space, process.pid)) {
        if let Some(cgroup) = program.throttled(space) {
            found.entry(&cgroup.path).or_insert((cgroup, program));
        }
    }
    found.into_values().map(|(cgroup, program)| culprit(space, cgroup, program)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, cgroup: &'a Cgroup, program: Program<'a>) -> Culprit<'a> {
    let held: Vec<u32> = space
        .after
        .processes
        .get()
        .into_iter()
        .flat_map(|all| &all.list)
        .filter(|process| cgroup.holds(process))
        .map(|process| process.pid)
        .collect();
    let owned = |pids: &[u32]| !pids.is_empty() && pids.iter().all(|pid| held.contains(pid));
    let sockets = space
        .after
        .sockets
        .iter()
        .filter(|socket| owned(&socket.owners.iter().map(|owner| owner.pid).collect::<Vec<_>>()));
    let ends = sockets.filter_map(|socket| Some((number(socket)?, socket.local.port()))).collect();
    // A queue that is read late is no harm by itself; one of which nothing was taken is.
    let stood: Vec<Waiting<'a>> = waiting(space)
        .filter(|w| owned(&w.owners.iter().map(|o| o.process.pid).collect::<Vec<_>>()) && w.untouched())
        .collect();
    let subject = format!("cgroup {}", sanitize(&cgroup.path, MAX_PATH));
    let culprit = Culprit::new(space, &CAUSE, "socket.receive_queue", Scope::Socket, subject);
    let culprit = if stood.is_empty() { culprit } else { holds(culprit, &stood) };
    serves_nobody(culprit, ends)
        .direction(Direction::Receive)
        .tell(move |_| story(space, cgroup, &program, &stood))
}

fn story(space: Space<'_>, cgroup: &Cgroup, program: &Program<'_>, stood: &[Waiting<'_>]) -> Story {
    let old = space.before.processes.get().into_iter().flat_map(|all| &all.cgroups);
    let before = old
        .filter(|old| (&old.hierarchy, &old.path) == (&cgroup.hierarchy, &cgroup.path))
        .find_map(|old| old.cpu.get());
    let Some((before, after)) = before.zip(cgroup.cpu.get()) else { return Story::default() };
    let rise = |of: fn(&CpuUse) -> u64| of(after).saturating_sub(of(before));
    let path = sanitize(&cgroup.path, MAX_PATH);
    let words: [(&str, &dyn std::fmt::Display); 7] = [
        ("path", &path),
        ("program", &program.name()),
        ("throttled", &rise(|cpu| cpu.throttled)),
        ("periods", &rise(|cpu| cpu.periods)),
        ("ms", &(rise(|cpu| cpu.throttled_us) / 1000)),
        ("quota", &after.quota_us.unwrap_or(0)),
        ("period", &after.period_us),
    ];
    let story = Story::new(SUMMARY.fill(&words)).evidence(THROTTLED.fill(&words), "cgroups", &[]);
    stood.iter().fold(story, tell_of_queue).fix(by_hand(RAISE.fill(&words)))
}
