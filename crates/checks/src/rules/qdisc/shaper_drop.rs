//! `qdisc.shaper_drop`: A rate limiter drops what exceeds its rate.

use super::drops::{Class, judge_class};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "qdisc.shaper_drop",
    title: text!("A rate limiter drops what exceeds its rate", "限速器丢弃超过速率的包"),
    meaning: text!(
        "A shaping qdisc (tbf, htb, hfsc, fq_codel, cake ...) sends more slowly than packets come, and its queue runs over.",
        "整形队列规则（tbf、htb、hfsc、fq_codel、cake 等）发送速度低于到达速度，队列溢出。"
    ),
    seen_by: text!(
        "The drop counter of the qdisc or of its class rose in the window. Overlimits alone are no loss.",
        "队列规则或其类的丢弃计数在窗口内增加。仅 overlimits 增加不算丢包。"
    ),
    why_lost: text!(
        "What does not fit into the queue while it waits for the rate is dropped.",
        "等待发送期间放不进队列的包被丢弃。"
    ),
    what_to_do: text!(
        "Raise the rate, the burst or the limit, or delete the qdisc.",
        "提高速率、突发值或队列上限，或删除该队列规则。"
    ),
    when_wrong: text!(
        "TCP fills every limiter and loses a few packets at its edge: a small share is how it finds the rate.",
        "TCP 会填满任何限速器并在边界处丢少量包：少量丢失正是它探测速率的方式。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Qdiscs, Source::Classes], judge };

const SUMMARY: Text = text!(
    "The rate limiter of {dev} ({kind}) drops what exceeds its rate.",
    "{dev} 的限速器（{kind}）丢弃超过速率的包。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_class(space, &CAUSE, Class::Shaper, SUMMARY)
}
