//! `wire.corruption`: packets arrive damaged.

use crate::coverage::Source;
use crate::culprit::Story;
use crate::evidence::case::Space;
use crate::evidence::damage::{self, Damage};
use crate::fixes::{fix, manual};
use crate::rule::{Judgement, Rule};
use crate::rules::damaged;
use whydrop_model::action::{Action, QdiscSpec};
use whydrop_model::snapshot::{Qdisc, QdiscOptions};
use whydrop_model::{Cause, Fix, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "wire.corruption",
    title: text!("Packets arrive damaged", "包到达时已损坏"),
    meaning: text!(
        "Some packets change on their way: their checksums no longer fit when they arrive.",
        "部分包在途中被改变：到达时校验和不再匹配。"
    ),
    seen_by: text!(
        "Checksum errors of IP, or of several protocols at once, or of some segments of connections whose other segments arrive well; the checksums are not ones that an offload left undone. Or a netem in view is set to corrupt.",
        "IP 校验和错误，或多种协议同时出现校验和错误，或同一连接的部分报文段出错而其余正常；且并非卸载未完成的校验和。或可见范围内的 netem 被设置为损坏包。"
    ),
    why_lost: text!(
        "A damaged packet is discarded by whoever finds out: nothing else is known of it for certain, not even whose it was.",
        "损坏的包会被发现者丢弃：关于它的一切都不可信，包括它属于谁。"
    ),
    what_to_do: text!(
        "Look for the hop that damages: cable, transceiver, memory of a switch or of this machine, a tunnel or a program that passes packets on. What damages without breaking the link's own checksum is behind a device that stores and forwards.",
        "查找造成损坏的一跳：线缆、光模块、交换机或本机的内存、隧道，或转发包的程序。未破坏链路自身校验和的损坏发生在存储转发设备之后。"
    ),
    when_wrong: text!(
        "A sender that makes wrong checksums by itself damages all of its packets, not some.",
        "发送方自己计算错误的校验和时，是全部而不是部分包出错。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib, Source::DropEvents], judge };

const SUMMARY: Text =
    text!("Packets arrive damaged: their checksums do not fit.", "包到达时已损坏：校验和不匹配。");
const SUMMARY_NETEM: Text = text!(
    "netem on {dev} of {target} damages {percent} % of the packets.",
    "{target} 的 {dev} 上的 netem 损坏 {percent}% 的包。"
);
const SET: Text = text!(
    "netem on {dev} of {target} is set to corrupt {percent} %",
    "{target} 的 {dev} 上的 netem 设置了 corrupt {percent}%"
);
const DELETE: Text = text!("delete the qdisc", "删除该队列规则");
const SEARCH: Text = text!(
    "find the hop that damages packets: capture at each (tcpdump -vv shows wrong checksums), then change its cable, transceiver, memory or program",
    "逐跳抓包（tcpdump -vv 会显示错误的校验和）找到损坏包的一跳，再更换其线缆、光模块、内存或程序"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let Some(Damage::Wire(netem)) = damage::of(space) else { return Judgement::default() };
    let Some(all) = damaged::alike(space, |damage| matches!(damage, Damage::Wire(_))) else {
        return Judgement::default();
    };
    let culprit = damaged::culprit(all, space, &CAUSE);
    Some(culprit.tell(move |_| story(space, netem))).into()
}

fn story<'a>(space: Space<'a>, netem: Option<(Space<'a>, &'a Qdisc)>) -> Story {
    let story = match netem {
        None => Story::new(SUMMARY.phrase()),
        Some((there, qdisc)) => {
            let share = match qdisc.options {
                QdiscOptions::Netem { corrupt, .. } => corrupt,
                _ => 0.0,
            };
            let percent = (share * 1000.0).round() / 10.0;
            let dev = there.after.link_name(qdisc.link);
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("dev", &dev), ("target", &there.target().id), ("percent", &percent)];
            Story::new(SUMMARY_NETEM.fill(&words))
                .evidence(SET.fill(&words), "qdisc options", &["tc", "qdisc", "show", "dev", &dev])
                .fix(delete(there, &dev, qdisc))
        }
    };
    damaged::witnesses(space, story).fix(manual(SEARCH))
}

fn delete(there: Space<'_>, dev: &str, qdisc: &Qdisc) -> Fix {
    let spec = QdiscSpec {
        dev: dev.to_owned(),
        kind: qdisc.kind.clone(),
        parent: qdisc.parent,
        handle: qdisc.handle,
        options: qdisc.options.clone(),
    };
    fix(there, DELETE.phrase(), vec![Action::QdiscDelete(spec)])
}
