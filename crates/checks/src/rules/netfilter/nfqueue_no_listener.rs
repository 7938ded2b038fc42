//! `netfilter.nfqueue_no_listener`: packets go to an NFQUEUE that nobody reads.

use super::queued;
use crate::coverage::Source;
use crate::culprit::{Culprit, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.nfqueue_no_listener",
    title: text!("Packets go to an NFQUEUE that nobody reads", "数据包被送往无人读取的 NFQUEUE"),
    meaning: text!(
        "A rule hands packets to a program in user space, and no program has that queue open.",
        "规则把包交给用户态程序，但没有程序打开该队列。"
    ),
    seen_by: text!(
        "The kernel reported drops while handing packets to a queue, or flows in trouble meet a rule with one, and /proc/net/netfilter/nfnetlink_queue does not list it.",
        "内核报告了把包交给队列时的丢弃，或受影响的流量匹配了送往队列的规则，而 /proc/net/netfilter/nfnetlink_queue 中没有该队列。"
    ),
    why_lost: text!(
        "Without a listener and without queue-bypass the kernel drops what it cannot hand over.",
        "没有监听者且未设置 queue-bypass 时，内核丢弃无法交付的包。"
    ),
    what_to_do: text!(
        "Start the program, add --queue-bypass, or delete the rule.",
        "启动该程序，添加 --queue-bypass，或删除该规则。"
    ),
    when_wrong: text!(
        "The program may have been restarted in the window and have the queue open again.",
        "该程序可能在观察窗口内重启过，队列可能又已打开。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents, Source::NfQueues], judge };

const SUMMARY: Text = text!(
    "A rule hands packets to NFQUEUE {number}, which nobody reads.",
    "一条规则把包送往无人读取的 NFQUEUE {number}。"
);
const CLOSED: Text = text!("no program has queue {number} open", "没有程序打开队列 {number}");
const DO: Text = text!(
    "start the program that reads the queue, add --queue-bypass to the rule, or delete the rule",
    "启动读取该队列的程序，为规则添加 --queue-bypass，或删除该规则"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    // Without the module no program can have a queue open; what could not be read says nothing.
    if space.after.nf_queues.is_hidden() {
        return Judgement::default();
    }
    let closed =
        queued::unbypassed(space).into_iter().filter(|number| queued::open(space, *number).is_none());
    let met = closed.filter(|number| queued::is_met(space, *number));
    met.map(|number| culprit(space, number)).collect::<Vec<_>>().into()
}

fn culprit(space: Space<'_>, number: u16) -> Culprit<'_> {
    queued::culprit(space, &CAUSE, number, Fit::Yes, move |_| {
        let words: [(&str, &dyn std::fmt::Display); 1] = [("number", &number)];
        let list = ["cat", "/proc/net/netfilter/nfnetlink_queue"];
        let story = Story::new(SUMMARY.fill(&words)).evidence(CLOSED.fill(&words), "nfnetlink_queue", &list);
        queued::shown(space, number, story, DO)
    })
}
