//! `conntrack.table_full`: the connection tracking table is full.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::{fix, manual};
use crate::loss::Loss;
use crate::loss::missing::Frame;
use crate::rule::{Judgement, Rule};
use whydrop_model::action::Action;
use whydrop_model::delta::Change;
use whydrop_model::netfilter::Hook;
use whydrop_model::{Cause, TargetKind, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "conntrack.table_full",
    title: text!("The connection tracking table is full", "连接跟踪表已满"),
    meaning: text!(
        "The kernel tracks as many connections as nf_conntrack_max allows, and finds no room for another.",
        "内核跟踪的连接数已达到 nf_conntrack_max，没有空间容纳新的连接。"
    ),
    seen_by: text!(
        "The drop counter of conntrack rose in the window while the table was nearly full.",
        "conntrack 的 drop 计数在窗口内增加，而此时表几乎已满。"
    ),
    why_lost: text!(
        "The first packet of each new connection is dropped; old connections go on.",
        "每个新连接的第一个包被丢弃，已有连接不受影响。"
    ),
    what_to_do: text!(
        "Raise net.netfilter.nf_conntrack_max, shorten the time-outs, or do not track what needs no tracking.",
        "提高 net.netfilter.nf_conntrack_max，缩短超时，或对无需跟踪的流量不做跟踪。"
    ),
    when_wrong: text!(
        "Insert failures with an almost empty table are another matter.",
        "表几乎为空时的插入失败是另一回事。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Conntrack], judge };

const SETTING: &str = "net.netfilter.nf_conntrack_max";

/// The garbage collector takes some entries away while packets are dropped: full means nearly full.
const FULL_SHARE: f64 = 0.9;

/// Doubling is the usual first step; an entry costs about 320 bytes.
const FACTOR: u64 = 2;

const SUMMARY: Text = text!(
    "The connection tracking table is full ({count} of {max}): new connections are dropped.",
    "连接跟踪表已满（{count} / {max}）：新连接被丢弃。"
);
const ROSE: Text = text!("conntrack drop rose by {n}", "conntrack drop 计数 +{n}");
const FULL: Text = text!("{count} of {max} entries are in use", "已使用 {count} / {max} 项");
const RAISE: Text = text!("raise net.netfilter.nf_conntrack_max", "提高 net.netfilter.nf_conntrack_max");
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let (Some(before), Some(after)) = (space.before.conntrack.get(), space.after.conntrack.get()) else {
        return Judgement::default();
    };
    let lost = Change::of(before.stats.get("drop").copied(), after.stats.get("drop").copied()).risen();
    let count = before.count.max(after.count);
    if lost == 0 || (count as f64) < after.max as f64 * FULL_SHARE {
        return Judgement::default();
    }
    let max = after.max;
    let culprit = Culprit::new(space, &CAUSE, "conntrack", Scope::Netns, SETTING.to_owned())
        .meter(lost, Count::Exact, "conntrack drop")
        .takes(move |loss| takes(space, loss))
        .harms(move |flow| if flow.suffers() && flow.visits(space) { Fit::Maybe } else { Fit::No })
        .tell(move |_| story(space, lost, count, max));
    Some(culprit).into()
}

/// Tracking drops at the hooks where a packet is seen first, by the function that drops for rules, too.
fn takes(space: Space<'_>, loss: &Loss<'_>) -> Fit {
    let hook = match loss.hook {
        Some(hook) => matches!(hook, Hook::Prerouting | Hook::Output),
        None => loss.is_at_stage("netfilter") && loss.event.is_none(),
    };
    let answers = matches!(&loss.frame, Some(Frame::Ip(Some(packet))) if packet.reply);
    if loss.is_in(space) && hook && !answers { Fit::Maybe } else { Fit::No }
}

fn story(space: Space<'_>, lost: u64, count: u64, max: u64) -> Story {
    let words: [(&str, &dyn std::fmt::Display); 2] = [("count", &count), ("max", &max)];
    // The limit is one for the whole machine, to be set in the initial namespace only.
    let raise = match space.target().kind {
        TargetKind::Host => {
            let value = max.saturating_mul(FACTOR).to_string();
            let action = Action::Sysctl { name: SETTING.into(), value, was: max.to_string() };
            let mut raise = fix(space, RAISE.phrase(), vec![action]);
            raise.persist = Some(PERSIST.phrase());
            raise
        }
        _ => manual(RAISE),
    };
    Story::new(SUMMARY.fill(&words))
        .evidence(ROSE.fill(&[("n", &lost)]), "conntrack statistics", &["conntrack", "-S"])
        .evidence(FULL.fill(&words), "conntrack size", &["sysctl", SETTING])
        .fix(raise)
}
