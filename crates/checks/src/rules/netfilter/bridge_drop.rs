//! `netfilter.bridge_drop`: the bridge family drops.

use super::drops::Class;
use super::judge::judge_class;
use crate::case::Space;
use crate::coverage::NETFILTER;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.bridge_drop",
    title: text!("The bridge family drops", "bridge 族规则丢弃数据包"),
    meaning: text!(
        "A rule of ebtables or of an nftables table of family bridge drops frames that a bridge passes on.",
        "ebtables 或 nftables bridge 族的规则丢弃网桥转发的帧。"
    ),
    seen_by: text!("The rule's counter rose in the window.", "规则计数在窗口内增加。"),
    why_lost: text!(
        "The frames never reach the other port; the IP firewall does not see them.",
        "帧到不了另一个端口，IP 防火墙也看不到它们。"
    ),
    what_to_do: text!("Delete the rule.", "删除该规则。"),
    when_wrong: text!("When it isolates guests on purpose.", "有意隔离虚拟机时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, consequence_of: &[], judge };

const SUMMARY: Text =
    text!("A rule of the bridge drops {share}{way} frames.", "网桥的一条规则丢弃{share}{way}帧。");

fn judge(space: Space<'_>) -> Judgement {
    judge_class(space, &CAUSE, Class::Bridge, SUMMARY)
}
