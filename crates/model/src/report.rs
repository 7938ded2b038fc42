//! The document that leaves the program.

use crate::change::Change;
use crate::finding::{Direction, Finding, Note, Severity};
use crate::flow::FlowDirection;
use crate::probe::ProbeResult;
use crate::target::Target;
use serde::{Deserialize, Serialize};

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Packets are lost now, and at least one cause or an unexplained loss was seen.
    Loss,
    /// Nothing was lost, and nothing that could hide a loss was out of sight.
    Clear,
    /// Something could not be looked at that may hide the answer.
    Inconclusive,
}

impl Verdict {
    /// Exit status of `diagnose`: 0, 1 or 3.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Clear => 0,
            Self::Loss => 1,
            Self::Inconclusive => 3,
        }
    }
}

/// A place that was charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LedgerEntry {
    /// Cause id.
    pub cause: String,
    /// Target id.
    pub target: String,
    /// Stage.
    pub stage: String,
    /// Packets charged here, and nowhere else.
    pub packets: u64,
    /// Which witness gave the number.
    pub source: String,
    /// Ids of findings (`f1`, `f2`) of which one took the packets, and nothing tells which; absent if one finding is
    /// known to have taken them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    /// Index into [`Report::findings`]; the first of `one_of`.
    #[serde(skip)]
    pub finding: Option<usize>,
}

/// A place where packets were lost and no known cause accounts for them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Unexplained {
    /// Target id.
    pub target: String,
    /// Stage: `tcp.receive`; `unknown` if nobody saw where.
    pub stage: String,
    /// Reason name of the running kernel; empty if the place was not seen by drop events.
    pub reason: String,
    /// Kernel function that dropped; empty as above.
    pub function: String,
    /// Interface, if known.
    pub interface: Option<String>,
    /// Packets lost here, and charged nowhere else.
    pub packets: u64,
    /// Which witness gave the number.
    pub source: String,
    /// The only cause that the place admits, where it admits only one; not confirmed by anything else.
    pub suspected: Option<String>,
}

/// Two witnesses of different kind agree.
const SURE: f64 = 0.8;

/// The id of a finding by its place in the report: `f1` for 0.
pub fn finding_id(index: usize) -> String {
    format!("f{}", index + 1)
}

fn index_of(id: &str) -> Option<usize> {
    id.strip_prefix('f')?.parse::<usize>().ok()?.checked_sub(1)
}

/// Every lost packet, charged once. `lost = explained + unexplained`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Ledger {
    /// Packets lost in the window.
    pub lost: u64,
    /// Of them charged to a cause.
    pub explained: u64,
    /// Of them without a known cause; the sum of `unexplained_at`.
    pub unexplained: u64,
    /// The charges.
    pub entries: Vec<LedgerEntry>,
    /// Where the unexplained ones were lost, the most first.
    pub unexplained_at: Vec<Unexplained>,
    /// Drops of which the tracer kept neither place nor namespace, in none of the numbers above. Above zero, nothing is
    /// clear.
    #[serde(default)]
    pub uncounted: u64,
}

/// A conversation of a program that is in trouble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SufferingFlow {
    /// Target id of the namespace that it was seen in.
    pub target: String,
    /// `tcp`, `udp`, or the number of the IP protocol.
    pub protocol: String,
    /// Address here, with the port if it is that of a service.
    pub local: String,
    /// Address there, with the port if it is that of a service; `*` if there are many.
    pub remote: String,
    /// Who began: `out` if it was begun here.
    pub direction: FlowDirection,
    /// The program, if known.
    pub owner: Option<FlowOwner>,
    /// Attempts: connections, or datagrams that want an answer.
    pub attempts: u64,
    /// Attempts with success.
    pub succeeded: u64,
    /// What goes wrong.
    pub trouble: FlowTrouble,
    /// What became of its packets, or what does this to it.
    pub fate: Vec<FlowFate>,
    /// Where its request passes, as far as observed.
    #[serde(default)]
    pub way: Vec<WayStep>,
    /// Packets of it that died beyond this machine, as far as known; null if it does not leave it.
    pub beyond: Option<u64>,
    /// What became of the segments that it sent again; null if there are none.
    #[serde(default)]
    pub repeats: Option<Repeats>,
}

/// Segments that were sent again, by where the one before went. All numbers together are `trouble.retransmitted`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Repeats {
    /// It, or what would have acknowledged it, was dropped on this machine: flow, time and sequence range agree.
    pub here: u64,
    /// Nothing in view dropped it, and its way leads out of view: it was lost further on, or its answer was.
    pub beyond: u64,
    /// The other end reported that it had it already (DSACK).
    pub needless: u64,
    /// What could not be matched.
    pub unmatched: Unmatched,
    /// Which way packets are lost beyond: `transmit` if what is sent does not arrive, `receive` if the answers to it do
    /// not; null if neither is known.
    pub direction: Option<Direction>,
}

/// Segments sent again that could not be matched with drops, by why not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Unmatched {
    /// Several drops fit equally well.
    pub several_candidates: u64,
    /// The repeat was not sampled, or drops on its way were not.
    pub not_sampled: u64,
    /// The tracer lost events.
    pub lost_by_tracer: u64,
    /// It does not leave what is in view, and no drop of it was seen there; or drops were not traced by namespace.
    pub not_seen: u64,
}

impl Unmatched {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.several_candidates + self.not_sampled + self.lost_by_tracer + self.not_seen
    }
}

/// A namespace that packets pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WayStep {
    /// Target id.
    pub target: String,
    /// Interface by which they come in; null where they are made.
    pub incoming: Option<String>,
    /// Interface by which they leave; null where they end.
    pub outgoing: Option<String>,
    /// True if they are only bridged.
    pub bridged: bool,
    /// Their destination from here on, where it is translated.
    pub destination: Option<String>,
    /// Their source from here on, where it is translated.
    pub source: Option<String>,
    /// Kind of the tunnel into which they go: vxlan, gre, wireguard ...
    pub tunnel: Option<String>,
}

/// The program behind a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FlowOwner {
    /// Process id, as whydrop sees it.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Option<String>,
    /// Container, if it is in one that was named.
    pub container: Option<String>,
    /// cgroup v2 path.
    pub cgroup: Option<String>,
}

/// What goes wrong with a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FlowTrouble {
    /// Attempts that were refused.
    pub refused: u64,
    /// Attempts without any answer.
    pub unanswered: u64,
    /// Connections that were cut by a reset.
    pub reset: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Seconds since which nothing moves although something waits.
    pub stalled_seconds: Option<f64>,
    /// Errors by errno name.
    pub errors: std::collections::BTreeMap<String, u64>,
    /// ICMP errors that came back.
    pub icmp: Vec<IcmpError>,
}

/// ICMP errors of one kind from one sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IcmpError {
    /// `port-unreachable`, `admin-prohibited` …
    #[serde(rename = "type")]
    pub kind: String,
    /// Who sent them.
    pub from: String,
    /// How many.
    pub count: u64,
}

/// What became of some of a conversation's packets or attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FlowFate {
    /// Cause id; null if nobody knows.
    pub cause: Option<String>,
    /// Target id of the place.
    pub target: String,
    /// How many packets, or attempts where no packet died.
    pub packets: u64,
}

/// How many conversations were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FlowsSeen {
    /// Looked at.
    pub watched: u64,
    /// In trouble.
    pub in_trouble: u64,
    /// In trouble and not told of one by one, for there were too many.
    pub not_kept: u64,
}

/// What became of looking at one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CoverageStatus {
    /// Read.
    Read,
    /// The kernel does not have it.
    Absent,
    /// A privilege is missing.
    Denied,
    /// Failed.
    Failed,
}

/// One source of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Coverage {
    /// Target id.
    pub target: String,
    /// Source: links, nftables, drop_events …
    pub source: String,
    /// Status.
    pub status: CoverageStatus,
    /// What is missing, or how it was read.
    pub detail: String,
    /// What stays unseen though it was read, and why it was not read in a better way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Length of the window in seconds.
    pub window_seconds: f64,
    /// What was asked about, then where probes started if that is another namespace.
    pub targets: Vec<Target>,
    /// The answer.
    pub verdict: Verdict,
    /// Root causes, the one that costs most first.
    pub findings: Vec<Finding>,
    /// Seen and judged innocent.
    pub notes: Vec<Note>,
    /// Who suffers: conversations of programs in trouble, the worst first.
    #[serde(default)]
    pub flows: Vec<SufferingFlow>,
    /// How many conversations were looked at.
    #[serde(default)]
    pub flows_seen: FlowsSeen,
    /// Probes.
    pub probes: Vec<ProbeResult>,
    /// Where the request of each probe passes, in the order of `probes`.
    #[serde(default)]
    pub probe_ways: Vec<Vec<WayStep>>,
    /// The sum.
    pub ledger: Ledger,
    /// What was looked at.
    pub coverage: Vec<Coverage>,
    /// What was changed on the machine before and in the window, oldest first; empty if nobody listened.
    #[serde(default)]
    pub history: Vec<Change>,
}

impl Report {
    /// The target with this id.
    pub fn target(&self, id: &str) -> Option<&Target> {
        self.targets.iter().find(|t| t.id == id)
    }

    /// True if a longer look would not change the answer: packets are lost, every one of them is explained by a cause that
    /// is sure, and so is every conversation in trouble. What is clear is never settled: the loss may come later.
    pub fn is_settled(&self) -> bool {
        self.verdict == Verdict::Loss
            && !self.findings.is_empty()
            && self.findings.iter().all(|finding| finding.confidence >= SURE)
            && self.ledger.unexplained == 0
            && self.ledger.entries.iter().all(|entry| entry.one_of.is_empty())
            && self.flows.iter().flat_map(|flow| &flow.fate).all(|fate| fate.cause.is_some())
    }

    /// The finding of another report, seen again in this one: of several that read the same, the one of the same rank.
    pub fn again(&self, other: &Self, index: usize) -> Option<&Finding> {
        let wanted = other.findings.get(index)?.identity();
        let rank = other.findings.iter().take(index).filter(|f| f.identity() == wanted).count();
        self.findings.iter().filter(|f| f.identity() == wanted).nth(rank)
    }

    /// Leaves out findings below `least`. The ledger keeps its rows: what was lost stays lost, shown or not.
    pub fn keep(&mut self, least: Severity) {
        let kept: Vec<bool> = self.findings.iter().map(|f| f.severity >= least).collect();
        let new_index =
            |old: usize| kept.get(old).copied()?.then(|| kept.iter().take(old).filter(|kept| **kept).count());
        for entry in &mut self.ledger.entries {
            entry.finding = entry.finding.and_then(new_index);
            let renamed = |old: &String| Some(finding_id(new_index(index_of(old)?)?));
            entry.one_of = entry.one_of.iter().filter_map(renamed).collect();
        }
        self.findings.retain(|f| f.severity >= least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(position: u32, handle: Option<u64>) -> Finding {
        Finding {
            cause: "netfilter.drop_rule".into(),
            target: "host".into(),
            stage: "netfilter.input".into(),
            direction: None,
            subject: format!("filter INPUT, rule {position}"),
            severity: Severity::Warning,
            confidence: 0.5,
            packets_lost: None,
            counted_by: None,
            summary: crate::Phrase::same(""),
            explanation: crate::Phrase::same(""),
            exhibit: Some("-p tcp -j DROP".into()),
            handle,
            evidence: vec![],
            explains: vec![],
            fixes: vec![],
        }
    }

    fn report(findings: Vec<Finding>) -> Report {
        Report {
            hostname: String::new(),
            kernel: String::new(),
            started_at: String::new(),
            window_seconds: 1.0,
            targets: vec![],
            verdict: Verdict::Loss,
            findings,
            notes: vec![],
            flows: vec![],
            flows_seen: FlowsSeen::default(),
            probes: vec![],
            probe_ways: vec![],
            ledger: Ledger::default(),
            coverage: vec![],
            history: vec![],
        }
    }

    /// Rule 2 becomes rule 1 when the first one goes.
    #[test]
    fn a_rule_is_known_again_at_another_place() {
        let before = report(vec![finding(1, Some(4)), finding(2, Some(5))]);
        let after = report(vec![finding(1, Some(5))]);
        assert!(after.again(&before, 0).is_none(), "the first one is gone");
        assert_eq!(after.again(&before, 1).map(|f| f.handle), Some(Some(5)));
        let twins = report(vec![finding(1, None), finding(2, None)]);
        assert!(report(vec![finding(1, None)]).again(&twins, 1).is_none(), "one of two is left");
    }
}
