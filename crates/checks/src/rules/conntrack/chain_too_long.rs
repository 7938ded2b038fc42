//! `conntrack.chain_too_long`: a hash chain of the connection table is too long.

use super::unconfirmed;
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::tracked;
use crate::fixes::{fix, manual};
use crate::rule::{Judgement, Rule};
use whydrop_model::action::Action;
use whydrop_model::{Cause, TargetKind, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "conntrack.chain_too_long",
    title: text!("A hash chain of the connection table is too long", "连接跟踪表的哈希链过长"),
    meaning: text!(
        "The table of connections has too few buckets for its entries, and the kernel refuses to make a chain longer still.",
        "连接跟踪表的桶数相对条目太少，内核拒绝让哈希链继续变长。"
    ),
    seen_by: text!(
        "The counter chainlength (chaintoolong) of conntrack rose in the window.",
        "conntrack 的 chainlength（chaintoolong）计数在窗口内增加。"
    ),
    why_lost: text!(
        "The first packet of a connection whose chain is full is dropped (__nf_conntrack_confirm(), from 5.15 on), although the table is not.",
        "链已满的连接的第一个包被丢弃（__nf_conntrack_confirm()，5.15 起），尽管表并未满。"
    ),
    what_to_do: text!(
        "Raise net.netfilter.nf_conntrack_buckets, to a quarter of nf_conntrack_max or more.",
        "提高 net.netfilter.nf_conntrack_buckets，至少为 nf_conntrack_max 的四分之一。"
    ),
    when_wrong: text!(
        "A flood of connections from one source fills chains, too, and is better stopped.",
        "来自同一来源的连接洪泛也会填满哈希链，应先制止它。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Conntrack], judge };

const SETTING: &str = "net.netfilter.nf_conntrack_buckets";
/// As /proc/net/stat/nf_conntrack and as `conntrack -S` name it.
const COUNTERS: [&str; 2] = ["chainlength", "chaintoolong"];
/// Entries of one bucket in a table that is sized well.
const PER_BUCKET: u64 = 4;

const SUMMARY: Text = text!(
    "Hash chains of the connection table are too long: {n} new connections were dropped.",
    "连接跟踪表的哈希链过长：有 {n} 个新连接被丢弃。"
);
const ROSE: Text = text!("conntrack chainlength rose by {n}", "conntrack chainlength 计数 +{n}");
const RAISE: Text =
    text!("raise net.netfilter.nf_conntrack_buckets", "提高 net.netfilter.nf_conntrack_buckets");
const PERSIST: Text = text!(
    "options nf_conntrack hashsize=N in a file in /etc/modprobe.d",
    "在 /etc/modprobe.d 的文件中写入 options nf_conntrack hashsize=N"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let n = tracked::rise(space, &COUNTERS);
    if n == 0 {
        return Judgement::default();
    }
    let culprit = Culprit::new(space, &CAUSE, "conntrack", Scope::Netns, SETTING.to_owned())
        .meter(n, Count::Exact, "conntrack chainlength")
        .takes(move |loss| unconfirmed(space, loss))
        .harms(move |flow| if flow.suffers() && flow.visits(space) { Fit::Maybe } else { Fit::No })
        .tell(move |_| {
            let max = space.after.conntrack.get().map_or(0, |table| table.max);
            let was = space.after.sysctls.get(SETTING).and_then(|value| value.get());
            // The table is one for the whole machine, to be set in the initial namespace only.
            let raise = match (space.target().kind, was) {
                (TargetKind::Host, Some(was)) if max > 0 => {
                    let value = max.div_ceil(PER_BUCKET).to_string();
                    let action = Action::Sysctl { name: SETTING.into(), value, was: was.clone() };
                    let mut raise = fix(space, RAISE.phrase(), vec![action]);
                    raise.persist = Some(PERSIST.phrase());
                    raise
                }
                _ => manual(RAISE),
            };
            Story::new(SUMMARY.fill(&[("n", &n)]))
                .evidence(ROSE.fill(&[("n", &n)]), "conntrack statistics", &["conntrack", "-S"])
                .fix(raise)
        });
    Some(culprit).into()
}
