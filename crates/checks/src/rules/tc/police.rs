//! `tc.police`: A tc police action drops above its rate.

use super::{Found, judge_filters};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tc.police",
    title: text!("A tc police action drops above its rate", "tc police 动作丢弃超速的包"),
    meaning: text!(
        "A policer lets packets pass up to a rate and drops the rest at once, without a queue.",
        "限速器只放行一定速率以内的包，其余立即丢弃，不排队。"
    ),
    seen_by: text!(
        "The drop counter of a police action rose in the window.",
        "police 动作的丢弃计数在窗口内增加。"
    ),
    why_lost: text!(
        "TCP bursts exceed a small burst size even when the average is far below the rate.",
        "即使平均速率远低于上限，TCP 突发也会超过过小的 burst。"
    ),
    what_to_do: text!("Raise rate and burst, or delete the filter.", "提高 rate 和 burst，或删除该过滤器。"),
    when_wrong: text!("When the limit was sold or agreed.", "限速是约定好的时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Filters, Source::Qdiscs], judge };

const SUMMARY: Text = text!(
    "A policer on {dev} drops {way} packets above its rate.",
    "{dev} 上的限速器（police）丢弃超速的{way}包。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_filters(space, &CAUSE, Found::Police, SUMMARY)
}
