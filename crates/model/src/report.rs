//! The document that leaves the program.

use crate::finding::{Finding, Note, Severity};
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
    /// Index into [`Report::findings`].
    #[serde(skip)]
    pub finding: Option<usize>,
}

/// A place where packets were lost and no known cause accounts for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// Probes.
    pub probes: Vec<ProbeResult>,
    /// The sum.
    pub ledger: Ledger,
    /// What was looked at.
    pub coverage: Vec<Coverage>,
}

impl Report {
    /// The target with this id.
    pub fn target(&self, id: &str) -> Option<&Target> {
        self.targets.iter().find(|t| t.id == id)
    }

    /// Leaves out findings below `least`. The ledger keeps its rows: what was lost stays lost, shown or not.
    pub fn keep(&mut self, least: Severity) {
        let kept: Vec<bool> = self.findings.iter().map(|f| f.severity >= least).collect();
        let new_index =
            |old: usize| kept.get(old).copied()?.then(|| kept.iter().take(old).filter(|kept| **kept).count());
        for entry in &mut self.ledger.entries {
            entry.finding = entry.finding.and_then(new_index);
        }
        self.findings.retain(|f| f.severity >= least);
    }
}
