//! Guilty culprits as findings, with what the assignment says of each.

use super::{BY_EVENTS, Places, sequence};
use crate::assign::Assignment;
use crate::culprit::{Culprit, Share, Story};
use crate::evidence::case::{Case, Space};
use crate::evidence::flow::Flow;
use crate::loss::death::Leg;
use std::collections::BTreeMap;
use whydrop_model::{Applicability, Evidence, Finding, Phrase, Severity, Text, text};

/// Confidence by the number of witnesses of different kind: one alone can err.
const CONFIDENCE: [f64; 4] = [0.5, 0.8, 0.95, 0.98];
/// What several could equally have done is no surer than this for each of them.
const SHARED: f64 = 0.5;
/// Without a probe, so many lost packets are noticed by users.
const MANY_PACKETS: u64 = 10;
/// From this share of failed attempts on users notice.
const NOTICED_LOSS: f64 = 0.01;

/// Counters that only say that something else lost packets.
const CONSEQUENCES: &[&str] = &[
    "TcpExt.TCPTimeouts",
    "TcpExt.TCPSynRetrans",
    "Tcp.RetransSegs",
    "TcpExt.TCPLostRetransmit",
    "TcpExt.TCPAbortOnTimeout",
    "Tcp.AttemptFails",
];

const EVENTS: Text =
    text!("the kernel reported {n} drops with reason {reason}", "内核报告了 {n} 次丢弃，原因 {reason}");
const REQUESTS: Text = text!("{n} of our probes were traced to it", "我们的 {n} 个探测包被追踪到此处");
const ANSWERS: Text =
    text!("{n} answers to our probes were traced to it", "{n} 个对我们探测的应答被追踪到此处");
const PROGRAMS: Text = text!(
    "{n} {n|packet|packets} of those who suffer {n|was|were} traced to it",
    "受影响者发出的 {n} 个包被追踪到此处"
);
const TO_PROGRAMS: Text =
    text!("{n} answers to those who suffer were traced to it", "发给受影响者的 {n} 个应答被追踪到此处");
const PROBE_LOST: Text = text!("probe {url} lost {percent} %", "探测 {url} 丢失 {percent}%");
const PROBE_LATE: Text = text!("probe {url}: {n} answers came late", "探测 {url}：{n} 个应答迟到");
const PROBE_NOT_SENT: Text =
    text!("probe {url}: {n} could not be sent ({errors})", "探测 {url}：{n} 个无法发出（{errors}）");
const PROBE_REFUSED: Text = text!("probe {url}: {n} refused", "探测 {url}：{n} 个被拒绝");
const PROBE_FAILED: Text = text!("request {url} failed: {error}", "请求 {url} 失败：{error}");

/// The findings, the one that costs most first, and the place of each culprit among them.
pub fn tell<'a>(case: Case<'a>, assignment: &Assignment<'a>) -> (Vec<Finding>, Places) {
    let mut told: Vec<(usize, Finding)> = vec![];
    for index in assignment.roots() {
        if let Some(culprit) = assignment.culprits.get(index) {
            told.push((index, finding(case, assignment, index, culprit)));
        }
    }
    told.sort_by_key(|(_, finding)| {
        (std::cmp::Reverse(finding.severity), std::cmp::Reverse(finding.packets_lost.unwrap_or(0)))
    });
    add_counters(case, assignment, &mut told);
    let places = told.iter().enumerate().map(|(place, (index, _))| (*index, place)).collect();
    let mut findings: Vec<Finding> = told.into_iter().map(|(_, finding)| finding).collect();
    sequence::prepare_undo(&mut findings);
    (findings, places)
}

fn finding<'a>(case: Case<'a>, assignment: &Assignment<'a>, index: usize, culprit: &Culprit<'a>) -> Finding {
    let mut share = assignment.share(index);
    let mut packets = share.packets;
    let Story { summary, exhibit, handle, mut evidence, mut fixes } = culprit.story(&share);
    let mut explains = vec![];
    for symptom in assignment.symptoms_of(index) {
        let Some(other) = assignment.culprits.get(symptom) else { continue };
        let folded = assignment.share(symptom);
        explains.push(other.story(&folded).summary);
        if assignment.root_of(symptom).len() == 1 {
            packets = match (packets, folded.packets) {
                (Some(own), Some(more)) => Some(own + more),
                (own, more) => own.or(more),
            };
        }
        for flow in folded.flows {
            if share.flows.iter().all(|known| known.id != flow.id) {
                share.flows.push(flow);
            }
        }
    }
    evidence.extend(events(&share));
    evidence.extend(traced(case, &share));
    for claim in share.flows.iter().filter_map(|flow| claim_of(flow)) {
        explains.push(claim.clone());
        evidence.push(Evidence {
            claim,
            source: "probe".into(),
            reproduce: vec![],
            target: None,
            supports: true,
        });
    }
    let is_shared = assignment.shares(index);
    if is_shared {
        for fix in fixes.iter_mut().filter(|fix| fix.applicability == Applicability::Safe) {
            fix.applicability = Applicability::Manual;
        }
    }
    Finding {
        cause: culprit.cause.id.to_owned(),
        target: culprit.space.target().id.clone(),
        stage: culprit.stage.clone(),
        direction: culprit.direction,
        subject: culprit.subject.clone(),
        severity: severity(packets, &share.flows),
        confidence: confidence(&evidence).min(culprit.at_most).min(if is_shared { SHARED } else { 1.0 }),
        packets_lost: packets,
        counted_by: assignment.counted_by(index),
        summary,
        explanation: culprit.cause.explanation(),
        exhibit,
        handle,
        evidence,
        explains,
        fixes,
    }
}

/// The drop events that it took, and no others.
fn events(share: &Share<'_, '_>) -> Option<Evidence> {
    let n = share.events();
    let reason = share.most().and_then(|loss| loss.count).map(|count| count.reason.as_str());
    let reason = reason.filter(|reason| !reason.is_empty()).unwrap_or("NOT_SPECIFIED");
    (n > 0).then(|| Evidence {
        claim: EVENTS.fill(&[("n", &n), ("reason", &reason)]),
        source: BY_EVENTS.into(),
        reproduce: vec![],
        target: None,
        supports: true,
    })
}

/// Packets of flows that the kernel saw die there: those of our own probes, and those of programs in trouble.
fn traced(case: Case<'_>, share: &Share<'_, '_>) -> Vec<Evidence> {
    let died = |ours: bool, leg| -> u64 {
        let of_flow = share.losses.iter().filter(|(loss, _)| {
            let flow = loss.flow.and_then(|flow| case.flows.get(flow));
            loss.leg == Some(leg) && flow.is_some_and(|flow| flow.probe().is_some() == ours)
        });
        of_flow.map(|(_, n)| n).sum()
    };
    let legs = [
        (died(true, Leg::Request), REQUESTS, "traced probes"),
        (died(true, Leg::Answer), ANSWERS, "traced probes"),
        (died(false, Leg::Request), PROGRAMS, "traced flows"),
        (died(false, Leg::Answer), TO_PROGRAMS, "traced flows"),
    ];
    let claims = legs.into_iter().filter(|(n, _, _)| *n > 0).map(|(n, text, source)| Evidence {
        claim: text.fill(&[("n", &n)]),
        source: source.into(),
        reproduce: vec![],
        target: None,
        supports: true,
    });
    claims.collect()
}

/// What a flow in trouble says of it.
fn claim_of(flow: &Flow<'_>) -> Option<Phrase> {
    let probe = flow.probe()?;
    let url = &probe.url;
    let failed = probe.http.as_ref().and_then(|http| http.error.as_ref()).filter(|_| flow.trouble.reset > 0);
    if probe.lost > 0 && flow.lost() > 0 {
        let percent = (probe.lost as f64 * 100.0 / probe.transmitted.max(1) as f64).round();
        Some(PROBE_LOST.fill(&[("url", url), ("percent", &percent)]))
    } else if probe.not_sent > 0 {
        let errors = probe.send_errors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Some(PROBE_NOT_SENT.fill(&[("url", url), ("n", &probe.not_sent), ("errors", &errors)]))
    } else if let Some(error) = failed {
        Some(PROBE_FAILED.fill(&[("url", url), ("error", error)]))
    } else if probe.late > 0 {
        Some(PROBE_LATE.fill(&[("url", url), ("n", &probe.late)]))
    } else if flow.refused() {
        Some(PROBE_REFUSED.fill(&[("url", url), ("n", &flow.trouble.refused)]))
    } else {
        None
    }
}

fn severity(packets: Option<u64>, flows: &[&Flow<'_>]) -> Severity {
    let hurt = flows.iter().any(|flow| {
        let failed = flow.trouble.unanswered + flow.trouble.refused + flow.trouble.reset;
        failed as f64 / flow.attempts.max(1) as f64 >= NOTICED_LOSS
    });
    match hurt || packets.is_some_and(|n| n >= MANY_PACKETS) {
        true => Severity::Critical,
        false => Severity::Warning,
    }
}

fn confidence(evidence: &[Evidence]) -> f64 {
    let mut kinds: Vec<&str> = evidence.iter().filter(|e| e.supports).map(|e| e.source.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    CONFIDENCE[kinds.len().min(CONFIDENCE.len() - 1)]
}

/// Counters that only follow: the costliest finding of a namespace that lost packets speaks for them.
fn add_counters(case: Case<'_>, assignment: &Assignment<'_>, told: &mut [(usize, Finding)]) {
    let mut spoken: BTreeMap<u64, ()> = BTreeMap::new();
    for (index, finding) in told.iter_mut() {
        let Some(culprit) = assignment.culprits.get(*index) else { continue };
        let space: Space<'_> = culprit.space;
        let lossy = finding.packets_lost.is_some_and(|n| n > 0);
        if lossy && case.space(&finding.target).is_some() && spoken.insert(space.inode(), ()).is_none() {
            let rises = CONSEQUENCES.iter().map(|name| (name, space.mib(name)));
            finding
                .explains
                .extend(rises.filter(|(_, n)| *n > 0).map(|(name, n)| Phrase::same(format!("{name} +{n}"))));
        }
    }
}
