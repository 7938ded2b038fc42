//! `netfilter.nfqueue_overflow`: the program behind an NFQUEUE reads too slowly.

use super::queued;
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::rule::{Judgement, Rule};
use whydrop_model::delta::Change;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::NfQueue;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.nfqueue_overflow",
    title: text!("The program behind an NFQUEUE is too slow", "NFQUEUE 背后的程序太慢"),
    meaning: text!(
        "A rule hands packets to a program in user space, which does not give its verdicts as fast as packets come.",
        "规则把包交给用户态程序，而该程序给出裁决的速度跟不上包到达的速度。"
    ),
    seen_by: text!(
        "/proc/net/netfilter/nfnetlink_queue: the queue is open, and its counters of packets dropped because the queue or the socket of the program was full rose in the window.",
        "/proc/net/netfilter/nfnetlink_queue：队列已打开，且窗口内因队列或程序套接字已满而丢弃的包计数上升。"
    ),
    why_lost: text!(
        "A queue holds 1024 packets by default; what comes while it is full is dropped, or passes unseen if the program asked for that.",
        "队列默认容纳 1024 个包；队列已满时到达的包被丢弃，若程序要求则不经检查直接放行。"
    ),
    what_to_do: text!(
        "Give the program more CPU or more queues (--queue-balance), a longer queue, or hand it fewer packets; let packets pass when it is full (NFQA_CFG_F_FAIL_OPEN).",
        "给程序更多 CPU 或更多队列（--queue-balance）、加长队列，或减少送入的包；或让队列满时直接放行（NFQA_CFG_F_FAIL_OPEN）。"
    ),
    when_wrong: text!(
        "A short burst that the program caught up with: then a longer queue is enough.",
        "只是程序随后赶上的短暂突发：那么加长队列即可。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::NfQueues], judge };

/// Longer names are cut in what people read.
const MAX_NAME: usize = 32;

const SUMMARY: Text = text!(
    "{program} does not read NFQUEUE {number} as fast as packets come.",
    "{program} 读取 NFQUEUE {number} 的速度跟不上包到达的速度。"
);
const ROSE: Text = text!(
    "{full} packets found the queue full, {user} the socket of the program; {waiting} wait for a verdict",
    "{full} 个包遇到队列已满，{user} 个遇到程序的套接字已满；{waiting} 个正在等待裁决"
);
const DO: Text = text!(
    "make the program faster or its queue longer, spread the packets over several queues, or hand it fewer packets",
    "提高程序的速度或加长其队列，把包分散到多个队列，或减少送入的包"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let open = space.after.nf_queues.iter().filter(|queue| queue.port_id != 0);
    open.filter_map(|queue| culprit(space, queue)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, queue: &'a NfQueue) -> Option<Culprit<'a>> {
    let old = space.before.nf_queues.iter().find(|q| (q.number, q.port_id) == (queue.number, queue.port_id));
    // One that was opened in the window counted everything in it, if it is known that it was not open before.
    let known = old.is_some() || !space.before.nf_queues.is_hidden();
    let rise = |of: fn(&NfQueue) -> u32| match Change::of_u32(old.map(of), Some(of(queue))) {
        Change::Rose(n) | Change::Appeared(n) if known => n,
        _ => 0,
    };
    let (full, user) = (rise(|queue| queue.queue_dropped), rise(|queue| queue.user_dropped));
    let number = queue.number;
    let culprit = queued::culprit(space, &CAUSE, number, Fit::Maybe, move |_| {
        let owner = queue.owners.first();
        let port = || format!("port id {}", queue.port_id);
        let program =
            owner.map_or_else(port, |owner| format!("{} ({})", sanitize(&owner.comm, MAX_NAME), owner.pid));
        let summary = SUMMARY.fill(&[("program", &program), ("number", &number)]);
        let claim = ROSE.fill(&[("full", &full), ("user", &user), ("waiting", &queue.waiting)]);
        let list = ["cat", "/proc/net/netfilter/nfnetlink_queue"];
        let story = Story::new(summary).evidence(claim, "nfnetlink_queue", &list);
        queued::shown(space, number, story, DO)
    });
    let lost = full.saturating_add(user);
    (lost > 0).then(|| culprit.meter(lost, Count::Exact, "nfnetlink_queue"))
}
