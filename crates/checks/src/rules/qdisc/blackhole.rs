//! `qdisc.blackhole`: A blackhole qdisc swallows everything.

use super::drops::{Class, judge_class};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "qdisc.blackhole",
    title: text!("A blackhole qdisc swallows everything", "blackhole 队列规则吞掉所有包"),
    meaning: text!(
        "The interface's queue is of kind blackhole: it drops each packet that is sent.",
        "接口的队列规则类型为 blackhole：发送的每个包都被丢弃。"
    ),
    seen_by: text!("The drop counter of the qdisc rose in the window.", "该队列规则的丢弃计数在窗口内增加。"),
    why_lost: text!("Nothing leaves through this interface.", "没有任何包能从该接口发出。"),
    what_to_do: text!("Delete the qdisc.", "删除该队列规则。"),
    when_wrong: text!("When the interface was silenced on purpose.", "有意让该接口静默时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Qdiscs], judge };

const SUMMARY: Text = text!(
    "The queue of {dev} is a blackhole and drops everything that it should send.",
    "{dev} 的队列规则是 blackhole，丢弃所有待发包。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_class(space, &CAUSE, Class::Blackhole, SUMMARY)
}
