//! `softnet.backlog_overflow`: the backlog of a CPU is full.

use crate::case::{Case, Space};
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, fix, manual};
use whydrop_model::action::Action;
use whydrop_model::delta::Change;
use whydrop_model::snapshot::SoftnetCpu;
use whydrop_model::{Applicability, Cause, Direction, TargetKind, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "softnet.backlog_overflow",
    title: text!("The backlog of a CPU is full", "CPU 的积压队列（backlog）已满"),
    meaning: text!(
        "Packets wait per CPU for the stack, and the queue holds no more.",
        "每个 CPU 都有等待协议栈处理的包队列，该队列已放不下。"
    ),
    seen_by: text!(
        "The second column of softnet_stat rose in the window, or the kernel reported CPU_BACKLOG drops in this namespace. softnet_stat belongs to the whole machine and is never blamed on a container alone.",
        "softnet_stat 第二列在窗口内增加，或内核报告了该命名空间的 CPU_BACKLOG 丢弃。softnet_stat 属于整台机器，不会单独归咎于某个容器。"
    ),
    why_lost: text!(
        "A burst on veth, loopback or with RPS exceeds net.core.netdev_max_backlog while the CPU is busy.",
        "veth、回环或 RPS 上的突发流量在 CPU 繁忙时超过 net.core.netdev_max_backlog。"
    ),
    what_to_do: text!(
        "Raise net.core.netdev_max_backlog, spread the load over CPUs.",
        "提高 net.core.netdev_max_backlog，把负载分散到多个 CPU。"
    ),
    when_wrong: text!("time_squeeze alone is no loss.", "仅 time_squeeze 增加不算丢包。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Softnet], consequence_of: &[], judge };

/// The kernel's name for these drops.
const REASON: &str = "CPU_BACKLOG";
const SETTING: &str = "net.core.netdev_max_backlog";

const SUMMARY: Text = text!(
    "The per-CPU backlog is full: packets are thrown away before the stack sees them.",
    "CPU 积压队列（backlog）已满：包在协议栈处理之前就被丢弃。"
);
const ROSE: Text = text!("softnet dropped rose by {n} on this machine", "本机 softnet dropped +{n}");
const RAISE: Text = text!("raise net.core.netdev_max_backlog", "提高 net.core.netdev_max_backlog");
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");

/// Doubling is the usual first step; the queue costs memory only while it is full.
const FACTOR: i64 = 2;

fn judge(space: Space<'_>) -> Judgement {
    let events = space.drops_because(&[REASON]);
    let machine = dropped(space.case);
    let is_host = space.target().kind == TargetKind::Host;
    // A container is charged only with what the kernel itself assigns to it.
    let lost = match (is_host, space.case.drop_log()) {
        (true, None) => machine,
        (true, Some(log)) if !log.knows_namespaces() => machine,
        _ => events,
    };
    if lost == 0 {
        return Judgement::default();
    }
    let mut suspect = Suspect::new(space, &CAUSE, "softnet.backlog", SETTING.to_owned(), SUMMARY.phrase())
        .direction(Direction::Receive)
        .packets(lost, if events > 0 { "drop events" } else { "softnet_stat" })
        .drop_events(events, REASON)
        .touches(space.probes_through());
    if machine > 0 {
        suspect = suspect.evidence(
            ROSE.fill(&[("n", &machine)]),
            "softnet_stat",
            &["cat", "/proc/net/softnet_stat"],
        );
    }
    suspect = match space.after.sysctl(SETTING) {
        Some(was) => {
            let value = was.saturating_mul(FACTOR).to_string();
            let action = Action::Sysctl { name: SETTING.into(), value, was: was.to_string() };
            let mut raise = fix(space, RAISE.phrase(), Applicability::Safe, vec![action]);
            raise.persist = Some(PERSIST.phrase());
            suspect.fix(raise)
        }
        None => suspect.fix(manual(RAISE)),
    };
    vec![suspect].into()
}

/// Rise of the second column over all CPUs.
pub fn dropped(case: Case<'_>) -> u64 {
    let [before, after] = &case.observation.machine;
    let rise = |cpu: &SoftnetCpu| {
        let old = before.softnet.iter().find(|c| c.cpu == cpu.cpu).map(|c| c.dropped);
        Change::of(old, Some(cpu.dropped)).risen()
    };
    after.softnet.iter().map(rise).sum()
}
