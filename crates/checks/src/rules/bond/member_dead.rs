//! `bond.member_dead`: a bond sends by a member that leads nowhere.

use super::{bonds, detail, members, passed_on, proc_file};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule, fill_words};
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "bond.member_dead",
    title: text!("A bond member is dead but still used", "bond 的成员已失效但仍被使用"),
    meaning: text!(
        "A bond sends by a member that has no carrier, or whose other end does not lead where the others do.",
        "bond 通过一个没有载波、或其对端不通向其他成员所通之处的成员发送。"
    ),
    seen_by: text!(
        "The bond takes the member for healthy (it watches its members not at all, or only their carrier), and the member or its other end in view is down or joined with something else.",
        "bond 认为该成员正常（完全不监控成员，或只监控载波），而该成员或其在可见范围内的对端已关闭，或连接到了别处。"
    ),
    why_lost: text!(
        "The share of the traffic that falls to this member is gone: every second packet with balance-rr, some of the flows where a hash chooses, all of it where it is the active one.",
        "分配给该成员的流量会丢失：balance-rr 时为每隔一个包，按哈希选择时为部分流，若它是活动成员则为全部流量。"
    ),
    what_to_do: text!(
        "Let the bond watch its members (miimon for the carrier, ARP monitoring for the way behind it), and mend or remove the member.",
        "让 bond 监控其成员（miimon 监控载波，ARP 监控后面的路径），并修复或移除该成员。"
    ),
    when_wrong: text!(
        "A backup member that is down is only missing once the active one fails.",
        "处于备用状态的成员失效，只有在活动成员失败时才有影响。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

const SUMMARY: Text = text!(
    "The bond {bond} ({mode}) still sends by {member}, which {why}.",
    "bond {bond}（{mode}）仍通过 {member} 发送，而它{why}。"
);
const MEMBER: Text = text!(
    "{member} is {state} to the bond, which watches with miimon {miimon} and arp_interval {arp}",
    "{member} 在 bond 中为 {state}，bond 的监控为 miimon {miimon}、arp_interval {arp}"
);
const WATCH: Text = text!(
    "let the bond watch its members: ip link set {bond} type bond miimon 100",
    "让 bond 监控其成员：ip link set {bond} type bond miimon 100"
);
const REMOVE: Text = text!(
    "take the member out until it is mended: ip link set {member} nomaster",
    "修复之前先移出该成员：ip link set {member} nomaster"
);

/// What is wrong with a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dead {
    Off,
    NoCarrier,
    FarEndOff,
    FarEndElsewhere,
}

impl Dead {
    fn text(self) -> Text {
        match self {
            Self::Off => text!("is switched off", "已被关闭"),
            Self::NoCarrier => text!("has no carrier", "没有载波"),
            Self::FarEndOff => text!("is switched off at its other end", "的对端已被关闭"),
            Self::FarEndElsewhere => text!(
                "ends at an interface that is not joined with those of the others",
                "的对端接口未与其他成员的对端相连"
            ),
        }
    }
}

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut out = vec![];
    for bond in bonds(space) {
        let used = members(space, bond).filter(|member| is_used(bond, member));
        let dead: Vec<(&Link, Dead)> = used.filter_map(|m| Some((m, dead(space, bond, m)?))).collect();
        // Without one that works it is the bond that has no member.
        let works =
            |member: &Link| member.up && member.lower_up && detail(member, "mii_status") != Some("down");
        if members(space, bond).any(works) {
            out.extend(dead.into_iter().map(|(member, dead)| culprit(space, bond, member, dead)));
        }
    }
    out.into()
}

/// True if the bond sends by this member: by the active one alone, or by all that it takes for healthy. Only an active
/// one is used without a carrier (bond_slave_can_tx()).
fn is_used(bond: &Link, member: &Link) -> bool {
    let healthy = detail(member, "mii_status") != Some("down");
    let active = match active(bond) {
        Some(index) => index == member.index,
        None => member.up && member.lower_up && detail(member, "bond_state") != Some("backup"),
    };
    healthy && active
}

/// The one member by which it sends, in the modes that have one.
fn active(bond: &Link) -> Option<u32> {
    detail(bond, "active_port").and_then(|index| index.parse().ok()).filter(|index| *index != 0)
}

fn dead(space: Space<'_>, bond: &Link, member: &Link) -> Option<Dead> {
    if !member.up {
        return Some(Dead::Off);
    }
    if !member.lower_up {
        return Some(Dead::NoCarrier);
    }
    let (there, far) = space.peer(member)?;
    if !far.up {
        return Some(Dead::FarEndOff);
    }
    // Where the others end: in a bridge or a bond, or at an interface with an address.
    let leads = |(there, far): (Space<'_>, &Link)| {
        far.master.is_some() || there.after.addresses.iter().any(|a| a.link == far.index && a.ip.is_ipv4())
    };
    let others = members(space, bond).filter(|other| other.index != member.index);
    let mut ends = others.filter_map(|other| space.peer(other)).filter(|(_, far)| far.up && far.lower_up);
    (!leads((there, far)) && ends.any(leads)).then_some(Dead::FarEndElsewhere)
}

fn culprit<'a>(space: Space<'a>, bond: &'a Link, member: &'a Link, dead: Dead) -> Culprit<'a> {
    Culprit::new(space, &CAUSE, "link.transmit", Scope::Link, format!("{} in {}", member.name, bond.name))
        .direction(Direction::Transmit)
        .on(member.index)
        .misses(passed_on(space, member))
        .names_roots()
        .takes(move |loss| sure(loss.is_at(space, member.index) || loss.is_imagined_at(space, bond.index)))
        .harms(move |flow| sure(flow.suffers() && flow.passes(space, bond.index)))
        .tell(move |_| story(bond, member, dead))
}

fn story(bond: &Link, member: &Link, dead: Dead) -> Story {
    let value = |link: &Link, key: &str, otherwise: &str| detail(link, key).unwrap_or(otherwise).to_owned();
    let mode = value(bond, "mode", "?");
    let summary = fill_words(
        SUMMARY,
        &[
            ("bond", &Phrase::same(bond.name.as_str())),
            ("mode", &Phrase::same(mode)),
            ("member", &Phrase::same(member.name.as_str())),
            ("why", &dead.text().phrase()),
        ],
    );
    let (state, miimon) = (value(member, "mii_status", "up"), value(bond, "miimon_ms", "0"));
    let arp = value(bond, "arp_interval_ms", "0");
    let words: [(&str, &dyn std::fmt::Display); 5] = [
        ("bond", &bond.name),
        ("member", &member.name),
        ("state", &state),
        ("miimon", &miimon),
        ("arp", &arp),
    ];
    let show = proc_file(bond);
    let watch = by_hand(WATCH.fill(&words));
    let remove = by_hand(REMOVE.fill(&words));
    let story = Story::new(summary).evidence(MEMBER.fill(&words), "links", &["cat", &show]);
    // The carrier shows only what happened at this end of the way.
    match dead {
        Dead::Off | Dead::NoCarrier | Dead::FarEndOff => story.fix(watch).fix(remove),
        Dead::FarEndElsewhere => story.fix(remove),
    }
}
