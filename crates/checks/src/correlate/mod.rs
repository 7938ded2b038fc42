//! Roots and consequences: what merely follows from another cause is folded under it.

#[cfg(test)]
mod tests;

use crate::case::{Case, Space};
use crate::rule::{Besides, Rule, Suspect};
use crate::segment;
use whydrop_model::{Evidence, Finding, Phrase, Severity, Text, text};

/// Confidence by the number of witnesses of different kind: one alone can err.
const CONFIDENCE: [f64; 4] = [0.5, 0.8, 0.95, 0.98];

/// Without a probe, so many lost packets are noticed by users.
const MANY_PACKETS: u64 = 10;

/// From this share of lost probes on users notice.
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

/// Layers whose losses make TCP wait and send again.
const LOSSY_LAYERS: &[&str] =
    &["link", "qdisc", "tc", "xdp", "neigh", "route", "mtu", "netfilter", "conntrack", "softnet", "path"];

/// Causes that hold for some addresses only. Whether they concern another cause's packets, only a probe tells that met
/// both, or the rule of that cause.
const ACT_BY_ADDRESS: &[&str] =
    &["route.blackhole", "route.no_route", "route.no_return_route", "route.policy_rule", "route.rp_filter"];

const PROBE_LOST: Text = text!("probe {url} lost {percent} %", "探测 {url} 丢失 {percent}%");
const PROBE_LATE: Text = text!("probe {url}: {n} answers came late", "探测 {url}：{n} 个应答迟到");
const PROBE_NOT_SENT: Text =
    text!("probe {url}: {n} could not be sent ({errors})", "探测 {url}：{n} 个无法发出（{errors}）");
const PROBE_REFUSED: Text = text!("probe {url}: {n} refused", "探测 {url}：{n} 个被拒绝");
const PROBE_FAILED: Text = text!("request {url} failed: {error}", "请求 {url} 失败：{error}");

/// Folds consequences under their roots and gives back the roots.
pub fn fold(case: Case<'_>, suspects: Vec<(&Rule, Suspect)>) -> Vec<Suspect> {
    let above: Vec<Option<usize>> = (0..suspects.len()).map(|i| cause_of(case, &suspects, i)).collect();
    let root = |mut i: usize| {
        // The relation follows the registry and has no circles; the bound keeps a wrong table from hanging.
        for _ in 0..suspects.len() {
            match above.get(i).copied().flatten() {
                Some(j) => i = j,
                None => break,
            }
        }
        i
    };
    let roots: Vec<usize> = (0..suspects.len()).map(root).collect();
    let mut out: Vec<Suspect> = suspects.into_iter().map(|(_, s)| s).collect();
    for (i, root) in roots.iter().copied().enumerate().filter(|(i, root)| i != root) {
        let Some(folded) = out.get(i).cloned() else { continue };
        let Some(suspect) = out.get_mut(root) else { continue };
        suspect.besides.extend(besides(suspect, &folded));
        suspect.finding.explains.push(folded.finding.summary);
        suspect.loses_more |= folded.loses_more || folded.finding.packets_lost.is_none();
        suspect.touches.extend(folded.touches);
        suspect.touches.sort_unstable();
        suspect.touches.dedup();
        // What belongs to one cause only is how that cause acts: undoing it is the nearest fix.
        if folded.acts_as == Some(suspect.finding.cause.as_str()) {
            suspect.finding.evidence.extend(folded.finding.evidence);
            suspect.finding.fixes.splice(0..0, folded.finding.fixes);
        } else if suspect.finding.packets_lost.is_none() {
            suspect.finding.packets_lost = folded.finding.packets_lost;
            suspect.finding.counted_by = folded.finding.counted_by;
        }
    }
    let keep: Vec<bool> = roots.iter().enumerate().map(|(i, root)| i == *root).collect();
    let mut keep = keep.into_iter();
    out.retain(|_| keep.next().unwrap_or(true));
    out
}

/// The packets that a consequence counted. Where its root may have counted the same ones, with a counter of the same
/// layer, only those that have drop events of their own.
fn besides(root: &Suspect, folded: &Suspect) -> Vec<Besides> {
    let layer = |s: &Suspect| s.finding.cause.split('.').next().map(str::to_owned);
    let is_way_of_acting = folded.acts_as == Some(root.finding.cause.as_str());
    let mut out = folded.besides.clone();
    let counts = |s: &Suspect| s.finding.packets_lost.is_some();
    let packets = match folded.finding.packets_lost {
        Some(all) if is_way_of_acting || (counts(root) && layer(root) != layer(folded)) => all,
        Some(_) if counts(root) => folded.witnessed,
        // The root takes over what it counted.
        _ => 0,
    };
    if packets > 0 {
        let finding = &folded.finding;
        let source = finding.counted_by.clone().unwrap_or_default();
        out.push(Besides { target: finding.target.clone(), stage: finding.stage.clone(), packets, source });
    }
    out
}

/// The suspect of which number `i` is a consequence.
fn cause_of(case: Case<'_>, suspects: &[(&Rule, Suspect)], i: usize) -> Option<usize> {
    let (rule, suspect) = suspects.get(i)?;
    suspects.iter().enumerate().position(|(j, (_, other))| {
        let cause = other.finding.cause.as_str();
        let named = suspect.is_tied_to(cause);
        // Two that met probes, and none of the same, have nothing to do with each other.
        let apart = !suspect.touches.is_empty() && !other.touches.is_empty();
        let by_place = named || !(apart || ACT_BY_ADDRESS.contains(&cause));
        i != j
            && suspect.finding.cause != cause
            && (named || rule.consequence_of.contains(&cause))
            // The specific tie goes before the general one; both at once would be a circle.
            && !other.is_tied_to(&suspect.finding.cause)
            && (share_a_probe(suspect, other) || by_place && are_near(case, suspect, other))
    })
}

fn share_a_probe(a: &Suspect, b: &Suspect) -> bool {
    a.touches.iter().any(|probe| b.touches.contains(probe))
}

/// True if frames of one can meet the other: on one segment if both are about interfaces, else in one namespace or in
/// two that are joined.
fn are_near(case: Case<'_>, a: &Suspect, b: &Suspect) -> bool {
    let (Some(here), Some(there)) = (case.space(&a.finding.target), case.space(&b.finding.target)) else {
        return false;
    };
    match a.device.and_then(|index| here.after.link(index)) {
        Some(link) => segment::of(here, link)
            .into_iter()
            .any(|(space, link)| space.same(there) && b.device.is_none_or(|index| index == link.index)),
        None => {
            here.same(there)
                || here.links().flat_map(|link| segment::of(here, link)).any(|(space, _)| space.same(there))
        }
    }
}

/// Adds the probes as witnesses, what each finding explains, its severity and its confidence; orders by cost.
pub fn settle(case: Case<'_>, suspects: &mut [Suspect]) {
    for suspect in suspects.iter_mut() {
        add_probes(case, suspect);
        let finding = &mut suspect.finding;
        finding.severity = severity(case, finding, &suspect.touches);
        finding.confidence = confidence(&finding.evidence).min(suspect.at_most);
    }
    suspects.sort_by_key(|s| {
        let cost = s.finding.packets_lost.unwrap_or(0);
        (std::cmp::Reverse(s.finding.severity), std::cmp::Reverse(cost))
    });
    let mut told: Vec<&str> = vec![];
    for suspect in suspects.iter_mut() {
        let lossy = suspect.finding.cause.split('.').next().is_some_and(|l| LOSSY_LAYERS.contains(&l));
        let Some(space) = case.space(&suspect.finding.target).filter(|_| lossy) else { continue };
        // The costliest finding of a namespace speaks for its counters; the others share them.
        let id = space.target().id.as_str();
        if !told.contains(&id) {
            told.push(id);
            suspect.finding.explains.extend(consequences(space));
        }
    }
}

fn consequences(space: Space<'_>) -> impl Iterator<Item = Phrase> {
    let rises = CONSEQUENCES.iter().map(move |name| (name, space.mib(name)));
    rises.filter(|(_, n)| *n > 0).map(|(name, n)| Phrase::same(format!("{name} +{n}")))
}

fn add_probes(case: Case<'_>, suspect: &mut Suspect) {
    for way in suspect.touches.iter().filter_map(|i| case.ways.get(*i)) {
        let (probe, url) = (way.probe, &way.probe.url);
        let refusals = way.refused() && is_refusal(&suspect.finding);
        let claim = if probe.lost > 0 && way.lost() > 0 {
            let percent = (probe.lost as f64 * 100.0 / probe.transmitted.max(1) as f64).round();
            PROBE_LOST.fill(&[("url", url), ("percent", &percent)])
        } else if probe.not_sent > 0 {
            let errors = probe.send_errors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            PROBE_NOT_SENT.fill(&[("url", url), ("n", &probe.not_sent), ("errors", &errors)])
        } else if let Some(error) =
            probe.http.as_ref().and_then(|h| h.error.as_ref()).filter(|_| way.failed_request())
        {
            PROBE_FAILED.fill(&[("url", url), ("error", error)])
        } else if probe.late > 0 {
            PROBE_LATE.fill(&[("url", url), ("n", &probe.late)])
        } else if refusals {
            PROBE_REFUSED.fill(&[("url", url), ("n", &probe.refused.max(1))])
        } else {
            continue;
        };
        suspect.finding.explains.push(claim.clone());
        suspect.finding.evidence.push(Evidence {
            claim,
            source: "probe".into(),
            reproduce: vec![],
            supports: true,
        });
    }
}

fn is_refusal(finding: &Finding) -> bool {
    finding.cause.starts_with("app.") || finding.cause.starts_with("netfilter.")
}

fn severity(case: Case<'_>, finding: &Finding, touches: &[usize]) -> Severity {
    let hurt = touches.iter().filter_map(|i| case.ways.get(*i)).any(|way| {
        let sent = (way.probe.transmitted + way.probe.not_sent).max(1) as f64;
        way.lost() as f64 / sent >= NOTICED_LOSS
            || way.failed_request()
            || (way.refused() && is_refusal(finding))
    });
    match hurt || finding.packets_lost.is_some_and(|n| n >= MANY_PACKETS) {
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
