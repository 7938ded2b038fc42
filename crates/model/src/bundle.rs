//! The evidence of a run as it was read: recorded, carried away, judged later by the same code.

use crate::drops::DropLog;
use crate::probe::ProbeResult;
use crate::reading::Reading;
use crate::snapshot::{MachineSnapshot, Snapshot};
use crate::target::Target;
use serde::{Deserialize, Serialize};

/// Version of the recording format. A reader refuses what it does not know.
pub const SCHEMA: &str = "whydrop.record.v1";

/// A recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of whydrop that wrote it.
    pub version: String,
    /// The evidence.
    pub observation: Observation,
}

/// Everything that rules may see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Nanoseconds between the two snapshots.
    pub window_ns: u64,
    /// The machine before and after.
    pub machine: [MachineSnapshot; 2],
    /// The namespaces.
    pub namespaces: Vec<NamespaceEvidence>,
    /// The kernel's drop events; denied or absent if the tracer could not run.
    pub drops: Reading<DropLog>,
    /// Probes.
    pub probes: Vec<ProbeResult>,
    /// Ports that a default probe left out, and why; for the report's coverage.
    pub probe_skips: Vec<ProbeSkip>,
}

/// A probe that was wanted and not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSkip {
    /// URL.
    pub url: String,
    /// Target id.
    pub target: String,
    /// Why.
    pub why: String,
}

/// One namespace, twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamespaceEvidence {
    /// Its name.
    pub target: Target,
    /// Other names of the same namespace.
    pub aliases: Vec<Target>,
    /// At the start of the window; `Failed` if the namespace could not be entered.
    pub before: Reading<Snapshot>,
    /// At the end; `Failed` if it vanished.
    pub after: Reading<Snapshot>,
}
