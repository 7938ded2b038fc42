//! The evidence of a run as it was read: recorded, carried away, judged later by the same code.

use crate::change::{Change, Unheard};
use crate::drops::DropLog;
use crate::flow::FlowLog;
use crate::probe::ProbeResult;
use crate::reading::{Bounded, Reading, elements};
use crate::snapshot::{LinkEvent, MachineSnapshot, Snapshot};
use crate::target::{Entry, Role, Target, TargetKind};
use serde::{Deserialize, Deserializer, Serialize};

/// Version of the recording format. A reader refuses what it does not know.
pub const SCHEMA: &str = "whydrop.record.v1";

/// What stands for a name that cannot be read.
const DAMAGED: &str = "damaged";

/// A recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of whydrop that wrote it.
    #[serde(default)]
    pub version: String,
    /// The evidence.
    pub observation: Observation,
}

/// Everything that rules may see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Host name.
    #[serde(default)]
    pub hostname: String,
    /// Kernel release.
    #[serde(default)]
    pub kernel: String,
    /// RFC 3339, UTC.
    #[serde(default)]
    pub started_at: String,
    /// Nanoseconds between the two snapshots; zero if a recording does not say.
    #[serde(default)]
    pub window_ns: u64,
    /// The machine before and after.
    #[serde(default = "machine_not_recorded")]
    pub machine: [MachineSnapshot; 2],
    /// The namespaces.
    #[serde(default, deserialize_with = "namespaces")]
    pub namespaces: Vec<NamespaceEvidence>,
    /// The kernel's drop events; denied or absent if the tracer could not run.
    #[serde(default = "Reading::taken_out")]
    pub drops: Reading<DropLog>,
    /// What the kernel told of conversations; denied or absent if the tracer could not run.
    #[serde(default = "Reading::not_recorded")]
    pub flows: Reading<FlowLog>,
    /// Probes.
    #[serde(default, deserialize_with = "probes")]
    pub probes: Vec<ProbeResult>,
    /// Ports that a default probe left out, and why; for the report's coverage.
    #[serde(default)]
    pub probe_skips: Vec<ProbeSkip>,
    /// Container engines that were asked for names and did not answer, each with the reason.
    #[serde(default)]
    pub silent_engines: Vec<(String, Reading<()>)>,
    /// What was changed before and in the window, oldest first; absent if nobody listened.
    #[serde(default = "Reading::not_recorded")]
    pub history: Reading<Bounded<Change>>,
    /// Of what changes could not be heard.
    #[serde(default)]
    pub unheard: Vec<Unheard>,
}

/// A probe that was wanted and not made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    #[serde(default)]
    pub aliases: Vec<Target>,
    /// At the start of the window; `Failed` if the namespace could not be entered.
    #[serde(default = "Reading::taken_out")]
    pub before: Reading<Snapshot>,
    /// At the end; `Failed` if it vanished.
    #[serde(default = "Reading::taken_out")]
    pub after: Reading<Snapshot>,
    /// What the kernel announced of its interfaces in between (RTM_NEWLINK), in order.
    #[serde(default = "Reading::not_recorded")]
    pub link_events: Reading<Bounded<LinkEvent>>,
}

fn machine_not_recorded() -> [MachineSnapshot; 2] {
    [MachineSnapshot::not_recorded(), MachineSnapshot::not_recorded()]
}

/// A namespace whose name is damaged was asked about and not seen.
fn namespaces<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<NamespaceEvidence>, D::Error> {
    elements(list, |error| NamespaceEvidence {
        target: Target {
            id: DAMAGED.to_owned(),
            kind: TargetKind::Netns,
            name: DAMAGED.to_owned(),
            netns_inode: 0,
            pid: None,
            container: None,
            role: Role::Target,
            entry: Entry::Here,
            tenants: vec![],
        },
        aliases: vec![],
        before: Reading::Failed(error.clone()),
        after: Reading::Failed(error),
        link_events: Reading::not_recorded(),
    })
}

/// A probe that is damaged was made and told nothing.
fn probes<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<ProbeResult>, D::Error> {
    elements(list, |_| ProbeResult {
        url: DAMAGED.to_owned(),
        from: DAMAGED.to_owned(),
        ..ProbeResult::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_without_flows_loads_and_says_so() {
        let machine = r#"{"softnet":{"status":"absent","value":""}}"#;
        let old = format!(
            r#"{{"hostname":"","kernel":"","started_at":"","window_ns":0,"machine":[{machine},{machine}],
            "namespaces":[],"drops":{{"status":"denied","value":"x"}},"probes":[],"probe_skips":[]}}"#
        );
        let observation: Observation = serde_json::from_str(&old).expect("loads");
        assert_eq!(observation.flows, Reading::not_recorded());
    }

    #[test]
    fn what_was_taken_out_of_a_recording_was_not_seen() {
        let observation: Observation =
            serde_json::from_str(r#"{"namespaces":[{"before":{}}],"probes":[{}]}"#).expect("loads");
        assert!(observation.drops.is_hidden());
        assert!(observation.namespaces.iter().all(|n| n.before.is_hidden() && n.after.is_hidden()));
        assert_eq!(observation.probes.iter().map(|probe| probe.transmitted).collect::<Vec<_>>(), [0]);
    }
}
