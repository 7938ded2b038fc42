//! `ipv6.dad_failed`: an IPv6 address failed duplicate address detection.

use super::asks_for;
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::segment;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::snapshot::{Address, Link};
use whydrop_model::{Cause, NoteStatus, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "ipv6.dad_failed",
    title: text!("An IPv6 address failed duplicate address detection", "IPv6 地址未通过重复地址检测"),
    meaning: text!(
        "When the address was added somebody else on the network had it already: the kernel keeps it, and does not use it.",
        "添加该地址时网络上已有其他主机拥有它：内核保留该地址但不使用。"
    ),
    seen_by: text!(
        "The address has the flag dadfailed, and a flow in trouble goes to it or should come from it.",
        "该地址带有 dadfailed 标志，且有受影响的流以它为目的或来源。"
    ),
    why_lost: text!(
        "Nobody is told where the address is, and nothing can be sent from it; what is meant for it goes to the other one who has it.",
        "没有人能得知该地址的位置，也无法以它为源发送；发给它的包会到达另一个拥有者。"
    ),
    what_to_do: text!(
        "Find who else has the address and give one of the two another; then delete and add it again, so that it is tried anew.",
        "找出还有谁拥有该地址，为其中之一更换地址；然后删除并重新添加，使其重新检测。"
    ),
    when_wrong: text!(
        "An echo of the own question (a loop in the network, a switch that mirrors) looks like a duplicate.",
        "自己的查询被回显（网络成环、交换机镜像）看起来也像重复地址。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Addresses], judge };

/// The kernel's word for such an address (IFA_F_DADFAILED).
const FAILED: &str = "dadfailed";

const SUMMARY: Text = text!(
    "{ip} on {dev} failed duplicate address detection, so that the kernel does not use it.",
    "{dev} 上的 {ip} 未通过重复地址检测，内核不使用它。"
);
const FLAG: Text = text!("{ip} on {dev} has the flag dadfailed", "{dev} 上的 {ip} 带有 dadfailed 标志");
const TWIN: Text = text!(
    "{there} of {target} is on the same network and has {ip}, too",
    "{target} 的 {there} 在同一网络上，也拥有 {ip}"
);
const LATENT: Text = text!(
    "failed duplicate address detection; nobody in view needs it now",
    "未通过重复地址检测；目前可见范围内无人需要它"
);
const DO: Text = text!(
    "give the other owner another address, then try anew: ip addr del {ip}/{prefix} dev {dev}; ip addr add {ip}/{prefix} dev {dev}",
    "为另一个拥有者更换地址，然后重新检测：ip addr del {ip}/{prefix} dev {dev}; ip addr add {ip}/{prefix} dev {dev}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = Judgement::default();
    for address in space.after.addresses.iter().filter(|a| a.flags.iter().any(|flag| flag == FAILED)) {
        let Some(link) = space.after.link(address.link) else { continue };
        if space.case.flows.iter().any(|flow| needs(space, address, flow)) {
            judgement.culprits.push(culprit(space, link, address));
        } else {
            judgement.note(space, &CAUSE, NoteStatus::Latent, &subject(link, address), LATENT.phrase());
        }
    }
    judgement
}

fn subject(link: &Link, address: &Address) -> String {
    format!("{} dev {}", address.ip, link.name)
}

/// True for a flow in trouble that goes to the address, comes from it, or starts here and has no other to come from.
fn needs(space: Space<'_>, address: &Address, flow: &Flow<'_>) -> bool {
    let ends = [flow.address, flow.source].contains(&Some(address.ip));
    let through =
        || space.case.spaces().any(|there| flow.next_hops(there).iter().any(|(_, ip)| *ip == address.ip));
    let usable = |a: &Address| {
        let global =
            matches!(a.ip, std::net::IpAddr::V6(ip) if !ip.is_unicast_link_local() && !ip.is_loopback());
        global && a.flags.iter().all(|flag| flag != FAILED)
    };
    let sourceless = || {
        flow.starts_in(space)
            && flow.address.is_some_and(|to| to.is_ipv6())
            && !space.after.addresses.iter().any(usable)
    };
    flow.in_trouble() && (ends || through() || sourceless())
}

fn culprit<'a>(space: Space<'a>, link: &'a Link, address: &'a Address) -> Culprit<'a> {
    Culprit::new(space, &CAUSE, "neighbour.receive", Scope::Neighbour, subject(link, address))
        .on(link.index)
        .reaches()
        .takes(move |loss| takes(space, link, address, loss))
        .harms(move |flow| match needs(space, address, flow) {
            true => Fit::Yes,
            false => Fit::No,
        })
        .tell(move |_| story(space, link, address))
}

/// The question for the address, and what came for it although it is not in use.
fn takes<'a>(space: Space<'a>, link: &Link, address: &Address, loss: &Loss<'a>) -> Fit {
    let to = loss.event.and_then(|event| event.destination);
    let came = loss.is_in(space) && loss.is_at_stage("route") && to.is_some_and(|to| to.ip() == address.ip);
    if came { Fit::Yes } else { asks_for(address.ip, loss, &[(space, link.index)]) }
}

fn story(space: Space<'_>, link: &Link, address: &Address) -> Story {
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("ip", &address.ip), ("dev", &link.name), ("prefix", &address.prefix)];
    let show = ["ip", "-6", "addr", "show", "dev", &link.name];
    let story = Story::new(SUMMARY.fill(&words))
        .evidence(FLAG.fill(&words), "addresses", &show)
        .fix(by_hand(DO.fill(&words)));
    let near = segment::reachable(space, link).into_iter().filter(|(there, _)| !there.same(space));
    let mut twins = near.filter(|(there, l)| there.carries(l.index, address.ip));
    let Some((there, device)) = twins.next() else { return story };
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("ip", &address.ip), ("there", &device.name), ("target", &there.target().id)];
    story.evidence(TWIN.fill(&words), "other end", &[])
}
