//! `qdisc.netem_loss`: netem drops packets on purpose.

use super::drops::{Class, judge_class};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "qdisc.netem_loss",
    title: text!("netem drops packets on purpose", "netem 有意丢弃数据包"),
    meaning: text!(
        "The qdisc netem, made to imitate bad networks in tests, is attached to an interface.",
        "接口上挂有 netem 队列规则，它是用来在测试中模拟劣质网络的。"
    ),
    seen_by: text!(
        "The drop counter of a netem qdisc rose in the window, and its options name a loss.",
        "netem 队列规则的丢弃计数在窗口内增加，且其选项中设置了丢包。"
    ),
    why_lost: text!(
        "netem throws away the configured share of what the interface sends. Neither netstat -i nor ethtool shows it.",
        "netem 按设定比例丢弃接口发送的包，netstat -i 和 ethtool 都看不到。"
    ),
    what_to_do: text!(
        "Delete the qdisc. Find the test tool or chaos experiment that left it behind.",
        "删除该队列规则，并查找遗留它的测试工具或混沌实验。"
    ),
    when_wrong: text!("During a test that is meant to lose packets.", "正在进行有意丢包的测试时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Qdiscs], judge };

const SUMMARY: Text = text!(
    "The queue of {dev} throws away {share}of what it sends (netem, a test tool).",
    "{dev} 的队列规则（netem，测试工具）丢弃{share}待发包。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_class(space, &CAUSE, Class::Netem, SUMMARY)
}
