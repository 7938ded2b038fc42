//! `cpu.softirq_starved`: programs leave a processor no time for its packets.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::starved::Starved;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Direction, TargetKind, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "cpu.softirq_starved",
    title: text!("A processor has no time for its packets", "CPU 没有时间处理它的包"),
    meaning: text!(
        "Programs or the hypervisor take all of a processor's time; the soft interrupts that work off its packets hardly run.",
        "程序或虚拟机监控器占用了某个 CPU 的全部时间，负责处理包的软中断几乎得不到运行。"
    ),
    seen_by: text!(
        "A processor without idle time, with a small share for interrupts, on which the backlog overflowed (softnet_stat, second column) or packets wait while none is processed.",
        "某个 CPU 没有空闲时间、中断所占份额很小，同时其积压队列溢出（softnet_stat 第二列），或有包在等待却没有任何包被处理。"
    ),
    why_lost: text!(
        "Packets wait in ring and backlog until both are full. ksoftirqd is an ordinary task: a real-time task (SCHED_FIFO, SCHED_RR) is never interrupted for it.",
        "包在接收环和积压队列中等待，直到两者都满。ksoftirqd 是普通任务，实时任务（SCHED_FIFO、SCHED_RR）从不为它让出 CPU。"
    ),
    what_to_do: text!(
        "Move the program or the interrupts to another processor (taskset, /proc/irq/N/smp_affinity), take its real-time priority away (chrt -o -p 0 PID), or give the virtual machine more of its host.",
        "把程序或中断移到其他 CPU（taskset、/proc/irq/N/smp_affinity），取消其实时优先级（chrt -o -p 0 PID），或为虚拟机分配更多宿主机 CPU。"
    ),
    when_wrong: text!(
        "A processor that is busy with packets themselves spends its time in soft interrupts: that is a full backlog, not starvation.",
        "忙于处理包的 CPU 的时间花在软中断上：那是积压队列已满，而不是软中断得不到运行。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Softnet, Source::CpuTimes], judge };

/// The stage at which packets wait for their processor.
const BACKLOG: &str = "softnet";
/// From this share on the hypervisor is named.
const STOLEN: f64 = 0.3;

const SUMMARY: Text = text!(
    "Programs take all of the time of CPU {cpu}: packets wait there and are thrown away.",
    "程序占用了 CPU {cpu} 的全部时间：包在那里等待并被丢弃。"
);
const SUMMARY_STOLEN: Text = text!(
    "The hypervisor takes the time of CPU {cpu}: packets wait there and are thrown away.",
    "虚拟机监控器占用了 CPU {cpu} 的时间：包在那里等待并被丢弃。"
);
const SHARES: Text = text!(
    "of the time of CPU {cpu} programs took {programs} %, interrupts of both kinds {interrupts} %, the hypervisor {stolen} %",
    "CPU {cpu} 的时间中，程序占 {programs}%，软硬中断占 {interrupts}%，虚拟机监控器占 {stolen}%"
);
const PILED: Text = text!(
    "the backlog of CPU {cpu} dropped {dropped} packets; {waiting} wait in it now",
    "CPU {cpu} 的积压队列丢弃了 {dropped} 个包；现有 {waiting} 个在等待"
);
const DO: Text = text!(
    "find the task that keeps CPU {cpu} busy (ps -eLo pid,psr,cls,rtprio,pcpu,comm --sort=-pcpu), and take its real-time priority away (chrt -o -p 0 PID) or move it to another processor (taskset -pc OTHERS PID)",
    "找出占用 CPU {cpu} 的任务（ps -eLo pid,psr,cls,rtprio,pcpu,comm --sort=-pcpu），取消其实时优先级（chrt -o -p 0 PID），或把它移到其他 CPU（taskset -pc OTHERS PID）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let events = space.losses().any(|loss| loss.is_at_stage(BACKLOG));
    let namespaced = space.case.drop_log().is_some_and(|log| log.knows_namespaces());
    // The counters are those of the machine: a container is charged only with what the kernel itself assigns to it.
    let counted = space.target().kind == TargetKind::Host && !namespaced;
    let worst = space.case.starved_cpus().into_iter().max_by_key(|cpu| (cpu.dropped, cpu.waiting));
    // What only waits belongs to no namespace: it is told once.
    let first = || space.case.spaces().find(|there| there.is_target()).is_some_and(|there| there.same(space));
    let Some(worst) = worst.filter(|_| if events { space.case.starves() } else { counted || first() }) else {
        return Judgement::default();
    };
    let culprit = Culprit::new(space, &CAUSE, "softnet.backlog", Scope::Netns, format!("CPU {}", worst.cpu))
        .direction(Direction::Receive)
        .takes(move |loss: &Loss<'_>| Fit::sure(loss.is_in(space) && loss.is_at_stage(BACKLOG)))
        .harms(move |flow| match flow.suffers() && flow.visits(space) {
            true => Fit::Maybe,
            false => Fit::No,
        })
        .tell(move |_| story(worst));
    match counted && worst.dropped > 0 {
        true => vec![culprit.meter(space.case.backlog_drops(), Count::Exact, "softnet_stat")].into(),
        false => vec![culprit].into(),
    }
}

fn story(Starved { cpu, dropped, waiting, programs, interrupts, stolen }: Starved) -> Story {
    let percent = |share: f64| format!("{:.0}", share * 100.0);
    let words: [(&str, &dyn std::fmt::Display); 6] = [
        ("cpu", &cpu),
        ("dropped", &dropped),
        ("waiting", &waiting),
        ("programs", &percent(programs)),
        ("interrupts", &percent(interrupts)),
        ("stolen", &percent(stolen)),
    ];
    let summary = if stolen >= STOLEN { SUMMARY_STOLEN } else { SUMMARY };
    Story::new(summary.fill(&words))
        .evidence(SHARES.fill(&words), "cpu_times", &["cat", "/proc/stat"])
        .evidence(PILED.fill(&words), "softnet_stat", &["cat", "/proc/net/softnet_stat"])
        .fix(by_hand(DO.fill(&words)))
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::snapshot::{CpuTimes, SoftnetCpu};
    use whydrop_model::{Reading, Verdict};

    /// CPU 1 drops `dropped` packets of the server; of its 300 ticks so many go to programs and soft interrupts.
    fn busy(dropped: u64, user: u64, softirq: u64) -> World {
        let mut world = World::pair();
        if dropped > 0 {
            world.drops(SERVER, "CPU_BACKLOG", "enqueue_to_backlog", dropped);
        }
        let times = |user, softirq, idle| CpuTimes {
            cpu: 1,
            user,
            system: 0,
            idle,
            iowait: 0,
            irq: 0,
            softirq,
            steal: 0,
        };
        let row = |dropped| SoftnetCpu {
            cpu: 1,
            processed: 7,
            dropped,
            time_squeeze: 0,
            flow_limit: 0,
            received_rps: Some(0),
            backlog: Some(1000),
        };
        let [before, after] = &mut world.observation.machine;
        before.cpu_times = Reading::Present(vec![times(0, 0, 0)]);
        after.cpu_times = Reading::Present(vec![times(user, softirq, 300 - user - softirq)]);
        before.softnet = Reading::Present(vec![row(0)]);
        after.softnet = Reading::Present(vec![row(dropped)]);
        world
    }

    const FULL: &str = "softnet.backlog_overflow @ netns:server: net.core.netdev_max_backlog";

    #[test]
    fn a_processor_that_programs_have_starves_its_packets() {
        let world = busy(40, 295, 5);
        assert_eq!(world.found(), ["cpu.softirq_starved @ netns:server: CPU 1"]);
        assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (40, 0));
    }

    #[test]
    fn one_that_is_busy_with_packets_or_idles_between_bursts_has_a_full_backlog() {
        assert_eq!(busy(40, 100, 200).found(), [FULL]);
        assert_eq!(busy(40, 100, 20).found(), [FULL]);
    }

    #[test]
    fn a_busy_processor_on_which_nothing_is_lost_is_none() {
        assert_eq!(busy(0, 295, 5).report().verdict, Verdict::Clear);
    }

    #[test]
    fn packets_that_only_wait_harm_who_waits_for_them() {
        let mut world = busy(0, 299, 1);
        world.probe("tcp://10.0.0.2:80", 20, 20);
        assert_eq!(world.found(), ["cpu.softirq_starved @ netns:server: CPU 1"]);
    }
}
