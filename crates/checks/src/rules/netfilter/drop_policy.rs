//! `netfilter.drop_policy`: A chain's default policy drops.

use super::drops::{REASON, direction, events};
use super::judge::{list_argv, title, way_of};
use super::policy::{Policy, policies};
use crate::case::Space;
use crate::coverage::NETFILTER;
use crate::packet::{Fit, Packet};
use crate::rule::{Judgement, Rule as CheckRule, Suspect, fill_words, fix};
use whydrop_model::action::{Action, ChainRef, RuleRef};
use whydrop_model::netfilter::{Match, Rule, RuleVerdict, Tool};
use whydrop_model::{Applicability, Cause, Fix, NoteStatus, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.drop_policy",
    title: text!("A chain's default policy drops", "链的默认策略丢弃数据包"),
    meaning: text!(
        "A base chain ends with policy DROP: what no rule accepts is thrown away.",
        "基础链的默认策略是 DROP：没有规则放行的包都会被丢弃。"
    ),
    seen_by: text!(
        "The policy's counter rose, or where nft has none, netfilter drops that no rule explains and a packet that no rule accepts.",
        "策略计数增加；nft 没有策略计数时，则看没有规则能解释的 netfilter 丢弃以及没有规则放行的包。"
    ),
    why_lost: text!(
        "Traffic that nobody thought of when the rules were written is dropped silently.",
        "编写规则时没有考虑到的流量会被静默丢弃。"
    ),
    what_to_do: text!(
        "Insert a rule that accepts the wanted traffic. With two back ends or two tables, every one of them has to accept.",
        "插入一条放行所需流量的规则。存在两种后端或多张表时，每一处都必须放行。"
    ),
    when_wrong: text!("When the traffic should be blocked.", "该流量本来就应被阻止时。"),
};

/// The rule.
pub const RULE: CheckRule = CheckRule { cause: &CAUSE, needs: NETFILTER, consequence_of: &[], judge };

/// A policy that fits only perhaps what was lost is no more than probable.
const PERHAPS: f64 = 0.6;

const SUMMARY: Text = text!(
    "The policy of a chain drops the {way} packets that no rule accepts.",
    "链的默认策略丢弃没有规则放行的{way}包。"
);
const ROSE: Text = text!("the policy's counter rose by {n}", "策略计数 +{n}");
const FALLS: Text =
    text!("the policy is DROP and no rule accepts what was lost", "默认策略为 DROP，且没有规则放行丢失的包");
const OTHERS: Text = text!(
    "the policy dropped {n} packets of other traffic than the probes, as it should",
    "默认策略丢弃了 {n} 个与探测无关的包，属正常"
);
const IDLE: Text =
    text!("the policy is DROP and cost nothing in the window", "默认策略为 DROP，窗口内没有造成丢包");
const OPEN_PORT: Text =
    text!("accept the probed traffic before the policy", "在默认策略之前放行被探测的流量");
const OPEN_ALL: Text = text!("set the policy to ACCEPT", "把默认策略改为 ACCEPT");
const OPENS: Text = text!(
    "everything that no rule drops becomes reachable: an accept rule for the wanted traffic is better",
    "没有规则丢弃的访问都将放行：更好的做法是只放行需要的流量"
);
const OPENS_PORT: Text = text!("the port becomes reachable for everybody", "该端口将对所有来源开放");

fn judge(space: Space<'_>) -> Judgement {
    judge_policies(space, &CAUSE, |policy| policy.gate.is_none())
}

/// Judges the policies of one kind.
pub fn judge_policies(space: Space<'_>, cause: &'static Cause, mine: fn(&Policy<'_>) -> bool) -> Judgement {
    let mut judgement = Judgement::default();
    for policy in policies(space).into_iter().filter(mine) {
        let subject = format!("{}, policy", title(policy.chain));
        let lost = policy.dropped.or(policy.events).filter(|n| *n > 0);
        let touches = policy.touches(space);
        let ways = space.case.ways;
        let hurts = touches.iter().filter_map(|i| ways.get(*i)).any(|way| way.troubled());
        let neighbours = policy.neighbour_messages(space);
        match lost {
            // A policy is no fault while the traffic under study passes.
            Some(n) if !hurts && !ways.is_empty() && neighbours.is_empty() => {
                judgement.note(space, cause, NoteStatus::Benign, &subject, OTHERS.fill(&[("n", &n)]));
                judgement.excuse(space, &format!("netfilter.{}", policy.hook.word()), n);
            }
            None if policy.fit == Fit::No || !hurts => {
                judgement.note(space, cause, NoteStatus::Latent, &subject, IDLE.phrase());
            }
            lost => {
                let direction = direction(policy.hook);
                let summary = fill_words(SUMMARY, &[("way", &way_of(Some(direction)))]);
                let stage = format!("netfilter.{}", policy.hook.word());
                let list = list_argv(policy.chain);
                let list: Vec<&str> = list.iter().map(String::as_str).collect();
                let mut suspect = Suspect::new(space, cause, &stage, subject, summary).direction(direction);
                suspect = match (policy.dropped.filter(|n| *n > 0), lost) {
                    (Some(n), _) => suspect
                        .packets(n, "policy counter")
                        .evidence(ROSE.fill(&[("n", &n)]), "policy counter", &list)
                        .drop_events(events(space, &[policy.hook]), REASON),
                    (None, Some(n)) => suspect
                        .packets(n, "drop events")
                        .evidence(FALLS.phrase(), "rules", &list)
                        .drop_events(n.min(events(space, &[policy.hook])), REASON),
                    (None, None) => suspect.evidence(FALLS.phrase(), "rules", &list).needs_probe(),
                };
                if policy.dropped.is_none() && policy.fit != Fit::Yes {
                    suspect = suspect.at_most(PERHAPS);
                }
                for fix in fixes(space, &policy, &touches, neighbours) {
                    suspect = suspect.fix(fix);
                }
                judgement.suspects.push(suspect.touches(touches));
            }
        }
    }
    judgement
}

fn fixes(space: Space<'_>, policy: &Policy<'_>, touches: &[usize], neighbours: Vec<Packet>) -> Vec<Fix> {
    let mut out = vec![];
    let chain = ChainRef::from(policy.chain);
    let accept = accept_rules(space, policy, touches, neighbours);
    // The handle of a new nft rule is not known before it is made: nothing could take such a rule back.
    if chain.tool != Tool::Nft && !accept.is_empty() {
        let insert =
            |rule| Action::RuleInsert(RuleRef { chain: chain.clone(), rule, unique: true, gone_before: 0 });
        let actions = accept.into_iter().map(insert).collect();
        let mut open = fix(space, OPEN_PORT.phrase(), Applicability::Safe, actions);
        open.caution = Some(OPENS_PORT.phrase());
        out.push(open);
    }
    let action = Action::ChainPolicy { chain, policy: RuleVerdict::Accept, was: RuleVerdict::Drop };
    let mut all = fix(space, OPEN_ALL.phrase(), Applicability::Safe, vec![action]);
    all.caution = Some(OPENS.phrase());
    out.push(all);
    out
}

/// Rules that let pass what falls to the policy of the probes that were hurt: where both directions meet one chain,
/// the requests and the answers; and what neighbours say.
fn accept_rules(
    space: Space<'_>,
    policy: &Policy<'_>,
    touches: &[usize],
    neighbours: Vec<Packet>,
) -> Vec<Rule> {
    let hurt = touches.iter().filter_map(|i| space.case.ways.get(*i)).filter(|way| way.troubled());
    let packets = hurt.flat_map(|way| way.packets_at(space, policy.hook));
    let packets = packets.chain(policy.fallen(space).flat_map(|(_, packet)| [packet.answer(), packet]));
    let packets = packets.chain(neighbours);
    let mut rules: Vec<Rule> = vec![];
    for rule in packets.filter(|p| policy.takes(space, p)).filter_map(|p| accept_rule(&p)) {
        if rules.iter().all(|known| known.text != rule.text) {
            rules.push(rule);
        }
    }
    rules
}

/// The narrowest rule that lets a probe's packet pass: its port, or that it answers. Accepting an answer by its source
/// port instead would let in everybody who sends from that port.
fn accept_rule(packet: &Packet) -> Option<Rule> {
    let protocol = match packet.protocol {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "ipv6-icmp",
        _ => return None,
    };
    let mut matches = vec![Match::L4Proto(packet.protocol)];
    let condition = match packet.destination_port {
        _ if packet.reply => {
            let states = ["RELATED", "ESTABLISHED"];
            matches = vec![Match::CtState(states.map(String::from).into())];
            format!("-m conntrack --ctstate {}", states.join(","))
        }
        Some(port) => {
            matches.push(Match::DestinationPorts(port, port));
            format!("-p {protocol} -m {protocol} --dport {port}")
        }
        None => format!("-p {protocol}"),
    };
    Some(Rule {
        position: 1,
        handle: None,
        packets: None,
        bytes: None,
        verdict: RuleVerdict::Accept,
        matches,
        comment: None,
        text: format!("{condition} -j ACCEPT"),
    })
}
