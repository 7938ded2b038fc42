//! `qdisc.queue_limit`: the queue's length limit is too short.

use super::drops::{Class, judge_class};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "qdisc.queue_limit",
    title: text!("The queue's length limit is too short", "队列长度上限过小"),
    meaning: text!(
        "A transmit queue holds fewer packets than arrive at once.",
        "发送队列能容纳的包少于同时到达的包。"
    ),
    seen_by: text!(
        "The drop counter of a fifo-like qdisc rose in the window.",
        "fifo 类队列规则的丢弃计数在窗口内增加。"
    ),
    why_lost: text!("Bursts longer than the queue lose their tail.", "突发超过队列长度时，尾部的包被丢弃。"),
    what_to_do: text!(
        "Raise the limit (limit of the qdisc, or txqueuelen), or take the short queue away.",
        "提高上限（队列规则的 limit 或 txqueuelen），或移除过短的队列。"
    ),
    when_wrong: text!(
        "When the link behind it is the bottleneck, a longer queue only adds delay.",
        "瓶颈在后面的链路时，加长队列只会增加延迟。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Qdiscs], judge };

const SUMMARY: Text = text!(
    "The queue of {dev} ({kind}) is too short and drops what does not fit.",
    "{dev} 的队列（{kind}）过短，放不下的包被丢弃。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_class(space, &CAUSE, Class::Limit, SUMMARY)
}
