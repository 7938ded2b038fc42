//! `conntrack.invalid_drop`: packets that connection tracking calls INVALID are dropped.

use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "conntrack.invalid_drop",
    title: text!(
        "Packets that connection tracking calls INVALID are dropped",
        "连接跟踪判为 INVALID 的包被丢弃"
    ),
    meaning: text!(
        "Connection tracking cannot assign a packet to a connection, and a rule drops what is INVALID.",
        "连接跟踪无法把包归入任何连接，而有规则丢弃 INVALID 的包。"
    ),
    seen_by: text!(
        "The counter of a rule that drops ctstate INVALID rose in the window.",
        "丢弃 ctstate INVALID 的规则计数在窗口内增加。"
    ),
    why_lost: text!(
        "With asymmetric routes, after a restart of tracking or with segments out of the window, packets of living connections are INVALID.",
        "路由不对称、跟踪表重建或报文段超出窗口时，正常连接的包也会被判为 INVALID。"
    ),
    what_to_do: text!(
        "Let both directions pass this machine, set net.netfilter.nf_conntrack_tcp_be_liberal=1, or delete the rule.",
        "让两个方向都经过本机，设置 net.netfilter.nf_conntrack_tcp_be_liberal=1，或删除该规则。"
    ),
    when_wrong: text!(
        "Scans and late packets of closed connections are INVALID, too, and no loss.",
        "扫描和已关闭连接的迟到包也是 INVALID，不算丢包。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text = text!(
    "A rule drops {way} packets that connection tracking calls INVALID.",
    "一条规则丢弃连接跟踪判为 INVALID 的{way}包。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_class(space, &CAUSE, Class::Invalid, SUMMARY)
}
