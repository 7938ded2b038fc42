//! `cgroup.memory_oom`: the memory limit of a cgroup killed or stalls the program that should read.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::program::Waiting;
use crate::evidence::stall::Stall;
use crate::fixes::by_hand;
use crate::loss::missing::Frame;
use crate::rule::{Judgement, Rule};
use crate::rules::app::{deaf, holds, number, tell_of_queue, wants};
use std::collections::BTreeSet;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::{Cgroup, MachineSnapshot, Process, Snapshot};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "cgroup.memory_oom",
    title: text!(
        "The memory limit of a cgroup killed or stalls the program that should read",
        "cgroup 的内存限制杀死或卡住了应当读取数据的程序"
    ),
    meaning: text!(
        "The program's cgroup (a container, a unit) reached its memory limit: the kernel killed a process of it, or lets it wait for memory.",
        "程序所在的 cgroup（容器、单元）达到内存上限：内核杀死了其中的进程，或让它等待内存。"
    ),
    seen_by: text!(
        "oom_kill of the cgroup rose in the window (memory.events) and a process that served a port has ended; or the process waits for memory of its cgroup at both ends of the window.",
        "窗口内 cgroup 的 oom_kill 增加（memory.events），且服务端口的进程已结束；或在窗口两端该进程都在等待 cgroup 的内存。"
    ),
    why_lost: text!(
        "The connections of a killed process are reset, and until it is started again its port refuses.",
        "被杀死进程的连接会被重置；在它重新启动之前，其端口拒绝连接。"
    ),
    what_to_do: text!(
        "Raise the limit (systemctl set-property UNIT MemoryMax=, docker update --memory), or find out why the program needs so much.",
        "提高上限（systemctl set-property UNIT MemoryMax=、docker update --memory），或查明程序为何需要这么多内存。"
    ),
    when_wrong: text!(
        "The kernel may have killed another process of the same cgroup, which serves nobody.",
        "内核杀死的可能是同一 cgroup 中另一个不提供服务的进程。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets, Source::Processes], judge };

/// Longest cgroup path shown.
const MAX_PATH: usize = 120;
const KILLED: &str = "oom_kill";

const SUMMARY: Text = text!(
    "The memory limit of the cgroup {path} killed {program}, which served {ports}.",
    "cgroup {path} 的内存限制杀死了提供 {ports} 服务的 {program}。"
);
const KILLS: Text = text!(
    "the kernel killed {n} processes of {path} for want of memory",
    "内核因内存不足杀死了 {path} 中的 {n} 个进程"
);
const ENDED: Text = text!("{program} has ended in the window", "{program} 在观察窗口内已结束");
const STALLS: Text = text!(
    "{program} waits for memory of its cgroup {path} and does not take what waits in {socket}.",
    "{program} 在等待其 cgroup {path} 的内存，不处理 {socket} 中等待的内容。"
);
const USED: Text =
    text!("{path} uses {current} of {max} bytes", "{path} 使用了 {max} 字节中的 {current} 字节");
const RAISE: Text = text!(
    "raise the memory limit of {path}: systemctl set-property UNIT MemoryMax=, docker update --memory, or memory.max (version 1: memory.limit_in_bytes)",
    "提高 {path} 的内存上限：systemctl set-property UNIT MemoryMax=、docker update --memory，或 memory.max（版本 1：memory.limit_in_bytes）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut culprits: Vec<Culprit<'_>> =
        victims(space).into_iter().map(|victim| killed(space, victim)).collect();
    for deaf in deaf(space, |why| matches!(why, Stall::Memory(_))) {
        let Stall::Memory(cgroup) = deaf.why else { continue };
        let path = cgroup.map_or_else(|| "/".to_owned(), |cgroup| sanitize(&cgroup.path, MAX_PATH));
        let (program, waiting) = (deaf.program, deaf.waiting);
        let subject = format!("cgroup {path}");
        let culprit = Culprit::new(space, &CAUSE, "socket.receive_queue", Scope::Socket, subject);
        let culprit = holds(culprit, &waiting).direction(Direction::Receive);
        culprits.push(culprit.tell(move |_| stalls(cgroup, &path, &program.name(), &waiting)));
    }
    culprits.into()
}

/// A process that served ports and was killed with its cgroup's memory used up.
struct Victim<'a> {
    cgroup: &'a Cgroup,
    kills: u64,
    name: String,
    ended: bool,
    ends: Vec<(u8, u16)>,
}

/// Those of a namespace. Of a program that is killed again and again the one that came next may be known only.
fn victims<'a>(space: Space<'a>) -> Vec<Victim<'a>> {
    let cgroups = space.after.processes.get().into_iter().flat_map(|all| &all.cgroups);
    cgroups.filter_map(|cgroup| victim(space, cgroup)).collect()
}

fn victim<'a>(space: Space<'a>, cgroup: &'a Cgroup) -> Option<Victim<'a>> {
    let kills = |cgroup: &Cgroup| cgroup.memory.get()?.events.get(KILLED).copied();
    let known = |s: &'a Snapshot| s.processes.get().map(|all| all.list.as_slice()).unwrap_or(&[]);
    let identity = |process: &Process| (process.pid, process.started);
    let mut old = space.before.processes.get().into_iter().flat_map(|all| &all.cgroups);
    let old = old.find(|old| (&old.hierarchy, &old.path) == (&cgroup.hierarchy, &cgroup.path));
    // The limit that was reached is that of the cgroup itself; those around it count its kills, too.
    cgroup.memory.get()?.max?;
    let now: BTreeSet<(u32, u64)> = known(space.after).iter().map(identity).collect();
    let then: BTreeSet<(u32, u64)> = known(space.before).iter().map(identity).collect();
    let ended = known(space.before).iter().find(|p| cgroup.holds(p) && !now.contains(&identity(p)));
    let began = known(space.after).iter().find(|p| cgroup.holds(p) && !then.contains(&identity(p)));
    let rise = match old {
        Some(old) => kills(cgroup)?.saturating_sub(kills(old)?),
        // Nobody of it was known at the start: some may be old, and no more are new than the machine counted.
        None => {
            let [before, after] = &space.case.observation.machine;
            let counted = |machine: &MachineSnapshot| machine.oom_kills.get().copied();
            kills(cgroup)?.min(counted(after)?.saturating_sub(counted(before)?))
        }
    };
    let process = ended.or(began).filter(|_| rise > 0)?;
    let ends = |s: &'a Snapshot| {
        let own = s.sockets.iter().filter(|s| s.owners.iter().any(|owner| owner.pid == process.pid));
        own.filter_map(|s| Some((number(s)?, s.local.port()))).collect::<Vec<_>>()
    };
    let ends = if ended.is_some() { ends(space.before) } else { ends(space.after) };
    let name = format!("{} (pid {})", sanitize(&process.comm, MAX_PATH), process.pid);
    Some(Victim { cgroup, kills: rise, name, ended: ended.is_some(), ends })
}

fn killed<'a>(space: Space<'a>, victim: Victim<'a>) -> Culprit<'a> {
    let Victim { cgroup, kills, name, ended, ends } = victim;
    let path = sanitize(&cgroup.path, MAX_PATH);
    let listed: BTreeSet<u16> = ends.iter().map(|(_, port)| *port).collect();
    let ports = listed.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let meant = ends.clone();
    Culprit::new(space, &CAUSE, "socket.receive_queue", Scope::Socket, format!("cgroup {path}"))
        .direction(Direction::Receive)
        .by_itself(ended && !ends.is_empty())
        .takes(move |loss| match &loss.frame {
            Some(Frame::Read { protocol, port }) if loss.is_in(space) => {
                sure(ends.contains(&(*protocol, *port)))
            }
            _ => Fit::No,
        })
        .harms(move |flow| {
            let asks =
                wants(space, flow).is_some_and(|(protocol, port, _)| meant.contains(&(protocol, port)));
            sure(asks)
        })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 4] =
                [("path", &path), ("program", &name), ("ports", &ports), ("n", &kills)];
            let mut story =
                Story::new(SUMMARY.fill(&words)).evidence(KILLS.fill(&words), "cgroups", &["dmesg"]);
            if ended {
                story = story.evidence(ENDED.fill(&words), "processes", &[]);
            }
            story.fix(by_hand(RAISE.fill(&words)))
        })
}

fn stalls(cgroup: Option<&Cgroup>, path: &str, program: &str, waiting: &[Waiting<'_>]) -> Story {
    let socket = waiting.first().map_or_else(String::new, |waiting| waiting.socket.local.to_string());
    let memory = cgroup.and_then(|cgroup| cgroup.memory.get());
    let (current, max) = memory.map_or((0, 0), |memory| (memory.current, memory.max.unwrap_or(0)));
    let words: [(&str, &dyn std::fmt::Display); 5] =
        [("path", &path), ("program", &program), ("socket", &socket), ("current", &current), ("max", &max)];
    let story = Story::new(STALLS.fill(&words)).evidence(USED.fill(&words), "cgroups", &[]);
    waiting.iter().fold(story, tell_of_queue).fix(by_hand(RAISE.fill(&words)))
}
