//! `path.remote_loss`: the packets left this machine and are lost beyond it.

use crate::case::{Case, Space};
use crate::coverage::Source;
use crate::fate::Death;
use crate::ledger::{BY_PROBES, harms};
use crate::rule::{Suspect, manual};
use crate::traced;
use crate::way::Way;
use std::net::IpAddr;
use whydrop_facts::Class;
use whydrop_model::{Cause, Text, text};

/// What has to be seen before a loss may be blamed on others.
const SIGHT: &[Source] = &[Source::Links, Source::Qdiscs, Source::Nftables, Source::IptablesLegacy];

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "path.remote_loss",
    title: text!("The packets left this machine and are lost beyond it", "包已离开本机，在更远处丢失"),
    meaning: text!(
        "Probes left the observed namespaces and no answer came back: they, or their answers, die somewhere on the network or at the far end.",
        "探测包已离开所观察的命名空间，却没有应答返回：它们或其应答在网络途中或对端丢失。"
    ),
    seen_by: text!(
        "A probe whose way leads out of the observed namespaces was lost, and no counter, rule, queue or drop event on this side accounts for it.",
        "途经被观察命名空间之外的探测丢失，而本侧没有任何计数器、规则、队列或丢包事件能解释。"
    ),
    why_lost: text!(
        "A cable, a router, a firewall, a cloud filter or the remote machine drops them.",
        "线路、路由器、防火墙、云平台过滤或远端机器丢弃了它们。"
    ),
    what_to_do: text!(
        "Run whydrop on the far machine, too, or whydrop probe path://ADDRESS to see how far packets get.",
        "在远端机器上也运行 whydrop，或用 whydrop probe path://ADDRESS 查看包能到多远。"
    ),
    when_wrong: text!(
        "When a place on this machine is out of sight: see what could not be looked at.",
        "本机上有无法查看之处时：参见检查范围。"
    ),
};

const SUMMARY: Text = text!(
    "{n} of {sent} probes to {address} left this machine and were not answered.",
    "发往 {address} 的 {sent} 个探测包中有 {n} 个离开本机后没有应答。"
);
const LEFT: Text = text!("nothing on this side dropped them", "本侧没有任何环节丢弃它们");
const ICMP: Text = text!("a router answered: {error}", "路由器应答：{error}");
const ASK: Text = text!(
    "look at the far end: run whydrop there, or whydrop probe path://ADDRESS from here",
    "检查对端：在那里运行 whydrop，或在本机运行 whydrop probe path://ADDRESS"
);

/// Nothing on this side is a weak witness: only what was looked at can be excluded.
const BY_EXCLUSION: f64 = 0.8;

/// What known causes on the way leave over is blamed on others only from this number and share of the probes on:
/// counters and probes are read at slightly different moments.
const LEFT_OVER: u64 = 3;
const LEFT_OVER_SHARE: f64 = 0.1;

/// Judges the probes that nothing on this side explains. Comes after all rules, and is no rule of one namespace.
pub fn judge(case: Case<'_>, suspects: &[Suspect]) -> Vec<Suspect> {
    let mut out: Vec<Suspect> = vec![];
    for way in case.ways.iter().filter(|way| way.lost() > 0 && way.leaves_sight()) {
        let lost = unexplained(case, way, suspects);
        let Some((address, space)) = way.probe.address.zip(case.space(&way.probe.from)) else { continue };
        let blind = |space| SIGHT.iter().any(|source| source.hidden(space));
        if lost == 0 || case.spaces().any(|space| way.visits(space) && blind(space)) {
            continue;
        }
        let subject = format!("path to {address}");
        match out.iter_mut().find(|s| s.finding.subject == subject && s.finding.target == space.target().id) {
            Some(known) => {
                known.touches.push(way.index);
                *known.finding.packets_lost.get_or_insert(0) += lost;
            }
            None => out.push(suspect(space, way, (address, subject), lost)),
        }
    }
    out
}

/// Lost probes of a way that no cause accounts for.
fn unexplained(case: Case<'_>, way: &Way<'_>, suspects: &[Suspect]) -> u64 {
    // What the kernel saw die here did not leave.
    let here = |death: &Death<'_>| death.place.class != Class::Benign;
    let seen = traced::of_lost(case, way).iter().filter(|death| here(death)).count() as u64;
    let lost = way.probe.lost;
    let tunnelled = way.is_tunnelled(case);
    let holds = |s: &&Suspect| s.touches.contains(&way.index) || (tunnelled && harms(case, way, s));
    let mut known = suspects.iter().filter(holds).peekable();
    if known.peek().is_none() {
        // A target that the way could not be followed into, and that loses packets, holds the answer.
        let astray = !case.spaces().any(|space| space.is_target() && way.visits(space));
        let elsewhere = suspects.iter().any(|s| s.finding.packets_lost.is_some_and(|n| n >= lost));
        return if astray && elsewhere { 0 } else { lost.saturating_sub(seen) };
    }
    let counted = known
        .map(|s| s.finding.packets_lost.filter(|_| !s.loses_more).map(|_| s.counted()))
        .sum::<Option<u64>>();
    let left = counted.map_or(0, |n| lost.saturating_sub(n.max(seen)));
    let enough = left >= LEFT_OVER && left as f64 >= way.probe.transmitted as f64 * LEFT_OVER_SHARE;
    if enough { left } else { 0 }
}

fn suspect(space: Space<'_>, way: &Way<'_>, (address, subject): (IpAddr, String), lost: u64) -> Suspect {
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("n", &lost), ("sent", &way.probe.transmitted), ("address", &address)];
    let summary = SUMMARY.fill(&words);
    let mut suspect = Suspect::new(space, &CAUSE, "path", subject, summary)
        .packets(lost, BY_PROBES)
        .evidence(LEFT.phrase(), "counters", &[])
        .touches(vec![way.index])
        .at_most(BY_EXCLUSION)
        .fix(manual(ASK));
    for error in way.probe.icmp_errors.keys() {
        suspect = suspect.evidence(ICMP.fill(&[("error", error)]), "icmp", &[]);
    }
    suspect
}
