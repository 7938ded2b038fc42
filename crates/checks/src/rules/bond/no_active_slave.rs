//! `bond.no_active_slave`: a bond without an active member.

use super::{bonds, detail, members, passed_on, proc_file};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::fixes::{by_hand, manual};
use crate::rule::{Judgement, Rule};
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "bond.no_active_slave",
    title: text!("A bond has no active member", "bond 没有活动成员"),
    meaning: text!(
        "None of the interfaces that a bond is made of can carry its frames, or it has none at all.",
        "组成 bond 的接口都无法传送帧，或者 bond 根本没有成员。"
    ),
    seen_by: text!(
        "The bond is switched on, and each of its members is down, without carrier, or called down by its monitor.",
        "bond 已启用，而其每个成员都被关闭、没有载波，或被其监控判定为 down。"
    ),
    why_lost: text!(
        "A bond sends by its members only. Without one it has no carrier and throws away what it is given.",
        "bond 只通过成员发送。没有可用成员时它没有载波，会丢弃交给它的包。"
    ),
    what_to_do: text!(
        "Bring one member back: switch it on, look at its cable and switch port, and at what the bond monitors (an ARP target that does not answer makes every member down).",
        "恢复一个成员：启用它，检查线缆和交换机端口，并检查 bond 的监控方式（ARP 目标不应答会使所有成员变为 down）。"
    ),
    when_wrong: text!("A bond that is not in use yet needs no member.", "尚未使用的 bond 不需要成员。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

const SUMMARY: Text = text!("The bond {dev} has no member that works.", "bond {dev} 没有可用的成员。");
const EMPTY: Text = text!("{dev} has no members", "{dev} 没有成员");
const STATE: Text = text!("its member {member} is {state}", "其成员 {member} 状态为 {state}");
const ADD: Text = text!(
    "give the bond a member: ip link set DEV down; ip link set DEV master {dev}",
    "为 bond 添加成员：ip link set 接口 down；ip link set 接口 master {dev}"
);
const REVIVE: Text = text!(
    "bring a member back (cable, switch port, ip link set MEMBER up), or mend what the bond monitors: an ARP target that answers, or miimon instead",
    "恢复一个成员（线缆、交换机端口、ip link set 成员 up），或修正 bond 的监控：使用会应答的 ARP 目标，或改用 miimon"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let dead = bonds(space).filter(|bond| !members(space, bond).any(works));
    dead.map(|bond| culprit(space, bond)).collect::<Vec<_>>().into()
}

fn works(member: &Link) -> bool {
    member.up && member.lower_up && detail(member, "mii_status") != Some("down")
}

fn state(member: &Link) -> &'static str {
    match (member.up, member.lower_up) {
        (false, _) => "switched off",
        (_, false) => "without carrier",
        _ => "down (bond monitor)",
    }
}

fn culprit<'a>(space: Space<'a>, bond: &'a Link) -> Culprit<'a> {
    let below = move |link: Option<u32>| {
        link == Some(bond.index) || members(space, bond).any(|member| link == Some(member.index))
    };
    let addressed = space.after.addresses.iter().any(|a| a.link == bond.index);
    Culprit::new(space, &CAUSE, "link.transmit", Scope::Link, bond.name.clone())
        .direction(Direction::Transmit)
        .on(bond.index)
        .by_itself(addressed)
        .misses(members(space, bond).flat_map(|member| passed_on(space, member)).collect())
        .names_roots()
        .takes(move |loss| sure(loss.is_in(space) && below(loss.link)))
        .harms_via(bond.index)
        .tell(move |_| {
            let show = proc_file(bond);
            let words = [("dev", &bond.name as &dyn std::fmt::Display)];
            let story = Story::new(SUMMARY.fill(&words));
            let mut all = members(space, bond).peekable();
            if all.peek().is_none() {
                let claim = EMPTY.fill(&words);
                return story.evidence(claim, "links", &["cat", &show]).fix(by_hand(ADD.fill(&words)));
            }
            let story = all.fold(story, |story, member| {
                let claim = STATE.fill(&[("member", &member.name), ("state", &state(member))]);
                story.evidence(claim, "links", &["cat", &show])
            });
            story.fix(manual(REVIVE))
        })
}
