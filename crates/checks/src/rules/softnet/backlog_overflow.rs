//! `softnet.backlog_overflow`: the backlog of a CPU is full.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::{fix, manual};
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::action::Action;
use whydrop_model::{Cause, Direction, Fix, TargetKind, Text, text};

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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Softnet], judge };

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

fn judge(space: Space<'_>) -> Judgement<'_> {
    let machine = space.case.backlog_drops();
    let events = space.losses().any(|loss| loss.is_of(CAUSE.id));
    let namespaced = space.case.drop_log().is_some_and(|log| log.knows_namespaces());
    // A container is charged only with what the kernel itself assigns to it.
    let counted = (space.target().kind == TargetKind::Host && !namespaced).then_some(machine);
    if space.case.limits_flows() || space.case.starves() || (!events && counted.unwrap_or(0) == 0) {
        return Judgement::default();
    }
    let culprit = Culprit::new(space, &CAUSE, "softnet.backlog", Scope::Netns, SETTING.to_owned())
        .direction(Direction::Receive)
        .takes(move |loss: &Loss<'_>| sure(loss.is_in(space) && loss.is_of(CAUSE.id)))
        .harms(move |flow| if flow.suffers() && flow.visits(space) { Fit::Maybe } else { Fit::No })
        .tell(move |_| {
            let story = Story::new(SUMMARY.phrase()).fix(raise(space));
            match machine {
                0 => story,
                n => story.evidence(
                    ROSE.fill(&[("n", &n)]),
                    "softnet_stat",
                    &["cat", "/proc/net/softnet_stat"],
                ),
            }
        });
    match counted {
        Some(counted) => vec![culprit.meter(counted, Count::Exact, "softnet_stat")].into(),
        None => vec![culprit].into(),
    }
}

fn raise(space: Space<'_>) -> Fix {
    let Some(was) = space.after.sysctl(SETTING) else { return manual(RAISE) };
    let value = was.saturating_mul(FACTOR).to_string();
    let action = Action::Sysctl { name: SETTING.into(), value, was: was.to_string() };
    let mut raise = fix(space, RAISE.phrase(), vec![action]);
    raise.persist = Some(PERSIST.phrase());
    raise
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::Verdict;
    use whydrop_model::snapshot::SoftnetCpu;

    #[test]
    fn a_namespace_is_charged_with_its_own_drops_only() {
        let mut world = World::pair();
        world.drops(SERVER, "CPU_BACKLOG", "enqueue_to_backlog", 6);
        assert_eq!(world.found(), ["softnet.backlog_overflow @ netns:server: net.core.netdev_max_backlog"]);
        assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (6, 0));

        let mut world = World::pair();
        world.observation.machine[1].softnet = whydrop_model::Reading::Present(vec![softnet(9)]);
        world.observation.machine[0].softnet = whydrop_model::Reading::Present(vec![softnet(0)]);
        assert_eq!(
            world.report().verdict,
            Verdict::Clear,
            "the machine's counter says nothing of a container"
        );
    }

    fn softnet(dropped: u64) -> whydrop_model::snapshot::SoftnetCpu {
        SoftnetCpu {
            cpu: 0,
            processed: 1,
            dropped,
            time_squeeze: 0,
            flow_limit: 0,
            received_rps: Some(0),
            backlog: Some(0),
        }
    }
}
