//! `path.remote_loss`: the packets left this machine and are lost beyond it.

use super::{SIGHT, far_end, is_home};
use crate::culprit::{Culprit, Scope, Share, Story};
use crate::evidence::case::{Case, Space};
use crate::evidence::flow::{Flow, Why};
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::Kind;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::report::Repeats;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "path.remote_loss",
    title: text!("The packets left this machine and are lost beyond it", "包已离开本机，在更远处丢失"),
    meaning: text!(
        "Packets left the observed namespaces and no answer came back: they, or their answers, die somewhere on the network or at the far end.",
        "包已离开所观察的命名空间，却没有应答返回：它们或其应答在网络途中或对端丢失。"
    ),
    seen_by: text!(
        "A flow whose way leads out of the observed namespaces lost packets, and no counter, rule, queue or drop event on this side accounts for them.",
        "某个流途经被观察命名空间之外并丢包，而本侧没有任何计数器、规则、队列或丢包事件能解释。"
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

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: SIGHT, judge };

const SUMMARY: Text = text!(
    "{n} of {sent} probes to {address} left this machine and were not answered.",
    "发往 {address} 的 {sent} 个探测包中有 {n} 个离开本机后没有应答。"
);
const SUMMARY_PROGRAMS: Text = text!(
    "{n} {n|packet|packets} to or from {address} {n|is|are} lost beyond this machine.",
    "与 {address} 之间有 {n} 个包在本机之外丢失。"
);
const SUMMARY_SILENT: Text = text!(
    "Nothing that is sent to {address} is acknowledged: it is lost beyond this machine.",
    "发往 {address} 的数据没有任何确认：在本机之外丢失。"
);
const LEFT: Text = text!("nothing on this side dropped them", "本侧没有任何环节丢弃它们");
const AGAIN: Text = text!(
    "of {n} segments sent again {here} had died on this machine, {beyond} had left what is in view, {needless} were there already, {unmatched} could not be matched",
    "重传的 {n} 个段中，{here} 个此前在本机丢失，{beyond} 个已离开可见范围，{needless} 个对端其实已收到，{unmatched} 个无法对应"
);
const THERE: Text = text!("what is sent does not arrive", "发出的数据未到达");
const BACK: Text = text!(
    "what is sent arrives, the answers are lost on the way back",
    "发出的数据已到达，应答在返回途中丢失"
);
const ICMP: Text = text!("a router answered: {error}", "路由器应答：{error}");
const ASK: Text = text!(
    "look at the far end: run whydrop there, or whydrop probe path://ADDRESS from here",
    "检查对端：在那里运行 whydrop，或在本机运行 whydrop probe path://ADDRESS"
);

/// Nothing on this side is a weak witness: only what was looked at can be excluded.
const BY_EXCLUSION: f64 = 0.8;

fn judge(space: Space<'_>) -> Judgement<'_> {
    let flows = space.case.flows.iter().filter(|flow| is_home(space, flow) && leaves(space, flow));
    let addresses: BTreeSet<IpAddr> = flows.filter_map(far_end).collect();
    addresses.into_iter().map(|address| culprit(space, address)).collect::<Vec<_>>().into()
}

fn culprit(space: Space<'_>, address: IpAddr) -> Culprit<'_> {
    Culprit::new(space, &CAUSE, "path", Scope::Machine, format!("path to {address}"))
        .at_most(BY_EXCLUSION)
        .direction(heading(space, address))
        .harms(move |flow| {
            let meant = is_home(space, flow) && far_end(flow) == Some(address);
            if meant && leaves(space, flow) { Fit::Maybe } else { Fit::No }
        })
        .tell(move |share| story(space.case, share, address))
}

/// Which way the packets of all flows to an address are lost, as far as what they sent again tells the same of each.
fn heading(space: Space<'_>, address: IpAddr) -> Option<Direction> {
    let case = space.case;
    let flows = case.flows.iter().filter(|flow| is_home(space, flow) && far_end(flow) == Some(address));
    let mut told = flows.filter_map(|flow| case.again?.get(&flow.id)?.direction);
    told.next().filter(|first| told.all(|other| other == *first))
}

fn story(case: Case<'_>, share: &Share<'_, '_>, address: IpAddr) -> Story {
    let probes: Vec<_> = share.flows.iter().filter_map(|flow| flow.probe()).collect();
    let summary = match share.packets {
        None | Some(0) => SUMMARY_SILENT,
        Some(_) if probes.len() == share.flows.len() => SUMMARY,
        Some(_) => SUMMARY_PROGRAMS,
    };
    let (n, sent) = (share.packets.unwrap_or(0), share.flows.iter().map(|flow| flow.attempts).sum::<u64>());
    let words: [(&str, &dyn std::fmt::Display); 3] = [("n", &n), ("sent", &sent), ("address", &address)];
    let mut story =
        Story::new(summary.fill(&words)).evidence(LEFT.phrase(), "counters", &[]).fix(manual(ASK));
    for account in share.flows.iter().filter_map(|flow| case.again?.get(&flow.id)) {
        let Repeats { here, beyond, needless, ref unmatched, direction } = *account;
        let unmatched = unmatched.total();
        let n = here + beyond + needless + unmatched;
        let words: [(&str, &dyn std::fmt::Display); 5] = [
            ("n", &n),
            ("here", &here),
            ("beyond", &beyond),
            ("needless", &needless),
            ("unmatched", &unmatched),
        ];
        story = story.evidence(AGAIN.fill(&words), "tcp:tcp_retransmit_skb", &[]);
        let way = match direction {
            Some(Direction::Transmit) => Some(THERE),
            Some(Direction::Receive) => Some(BACK),
            _ => None,
        };
        story = way.into_iter().fold(story, |story, way| story.evidence(way.phrase(), "tcp_info", &[]));
    }
    let errors: BTreeSet<&String> = probes.iter().flat_map(|probe| probe.icmp_errors.keys()).collect();
    errors.into_iter().fold(story, |story, error| story.evidence(ICMP.fill(&[("error", error)]), "icmp", &[]))
}

/// True if the flow lost packets, and may have lost them where nobody looks. A place on its way that could not be
/// looked at is not "beyond".
pub(super) fn leaves(space: Space<'_>, flow: &Flow<'_>) -> bool {
    let case = space.case;
    let blind = |space: Space<'_>| SIGHT.iter().any(|source| source.hidden(space));
    (flow.lost() > 0 || flow.trouble.waits_for == Some(Why::Unacknowledged))
        && flow.leaves_sight()
        && !case.spaces().any(|there| flow.visits(there) && blind(there))
        && !is_hidden(space, flow)
}

/// True if packets that this machine lost can be the flow's without carrying its addresses: those of a tunnel that it
/// passes, or those in a target that its way could not be followed into.
fn is_hidden(space: Space<'_>, flow: &Flow<'_>) -> bool {
    let case = space.case;
    let lost_in = |there: Space<'_>| -> u64 {
        let events = there.losses().filter(|loss| matches!(loss.kind, Kind::Drop | Kind::Frames));
        let queues = there.after.qdiscs.iter().map(|qdisc| there.qdisc_drops(qdisc));
        events.map(|loss| loss.packets).sum::<u64>().max(queues.sum())
    };
    let astray = !case.spaces().any(|there| there.is_target() && flow.visits(there));
    case.spaces().any(|there| match flow.visits(there) {
        true => flow.is_tunnelled(case) && lost_in(there) > 0,
        false => astray && there.is_target() && lost_in(there) >= flow.lost(),
    })
}
