//! `netfilter.nfqueue_no_listener`: packets go to an NFQUEUE that nobody reads.

use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule};
use crate::rules::events::by_events;
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
        "The kernel reported drops while handing packets to a queue.",
        "内核报告了把包交给队列时的丢弃。"
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
        "A program that reads slowly lets its queue overflow: then it is the program.",
        "程序读取过慢导致队列溢出：那么问题在程序。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents], consequence_of: &[], judge };

const SUMMARY: Text =
    text!("A rule hands packets to an NFQUEUE that nobody reads.", "一条规则把包送往无人读取的 NFQUEUE。");
const DO: Text = text!(
    "start the program that reads the queue, add --queue-bypass to the rule, or delete the rule",
    "启动读取该队列的程序，为规则添加 --queue-bypass，或删除该规则"
);

fn judge(space: Space<'_>) -> Judgement {
    by_events(space, &CAUSE, "netfilter", &[], SUMMARY, DO)
}
