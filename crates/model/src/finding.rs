//! What whydrop concludes: causes with their evidence and their fixes, and what it judged innocent.

use crate::action::{Action, Effect};
use crate::text::Phrase;
use serde::{Deserialize, Serialize};

/// How bad.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Costs packets or connections, in small part.
    Warning,
    /// Costs a part that users notice.
    Critical,
}

/// Which way the lost packets went, seen from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Coming in.
    Receive,
    /// Going out.
    Transmit,
    /// Passing through.
    Forward,
}

/// How a fix may be applied. Only a safe one runs without being asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Applicability {
    /// Restores the traffic in trouble, and opens or switches off nothing else.
    Safe,
    /// Lets more through than the traffic in trouble.
    Weakens,
    /// Traffic that works now is interrupted.
    Disruptive,
    /// Only a person can do it; whydrop says what.
    Manual,
}

impl Applicability {
    /// What follows from the changes of a fix: the gravest effect decides. Without any only a person can do it.
    pub fn of<'a>(actions: impl IntoIterator<Item = &'a Action>) -> Self {
        match actions.into_iter().map(Action::effect).max() {
            None => Self::Manual,
            Some(Effect::Restores) => Self::Safe,
            Some(Effect::Interrupts) => Self::Disruptive,
            Some(Effect::Opens) => Self::Weakens,
        }
    }
}

/// One witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it says: `its counter rose by 14`.
    pub claim: Phrase,
    /// Interface that gave the number: `nftables`, `/proc/net/snmp`, `probe`.
    pub source: String,
    /// Argv that shows the same number; empty if there is none.
    pub reproduce: Vec<String>,
    /// Target id of the namespace to run it in; none for that of the finding.
    pub target: Option<String>,
    /// True if it speaks for the finding.
    pub supports: bool,
}

/// One step of a fix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Target id of the namespace to run in.
    pub target: String,
    /// The change.
    pub action: Action,
}

/// A change that ends a loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fix {
    /// What it does, as an order: `delete the rule`.
    pub title: Phrase,
    /// How it may be applied.
    pub applicability: Applicability,
    /// The changes, in order; empty for a manual fix that has no command.
    pub steps: Vec<Step>,
    /// How to keep it after a reboot or restart.
    pub persist: Option<Phrase>,
    /// What to think of first.
    pub caution: Option<Phrase>,
}

/// A root cause that costs packets now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// A cause id of facts' `causes.toml`.
    pub cause: String,
    /// Target id.
    pub target: String,
    /// Stage of the packet's way: `netfilter.input`, `qdisc.transmit`, `tcp.accept_queue`.
    pub stage: String,
    /// Direction, if it has one.
    pub direction: Option<Direction>,
    /// The thing to change, same words in both languages: `filter INPUT, rule 1`.
    pub subject: String,
    /// How bad.
    pub severity: Severity,
    /// 0..1; one witness alone gives at most 0.8.
    pub confidence: f64,
    /// Packets lost in the window by this cause; none if they cannot be counted.
    pub packets_lost: Option<u64>,
    /// Which counter gave `packets_lost`: `rule counter`, `qdisc drops`.
    pub counted_by: Option<String>,
    /// One sentence.
    pub summary: Phrase,
    /// What the cause means and why it loses packets.
    pub explanation: Phrase,
    /// What acts, verbatim, where there is such a thing: the rule's text, the qdisc's line.
    pub exhibit: Option<String>,
    /// Handle by which the kernel knows the rule that acts; it stays when the rules around it change. None where the
    /// thing has none.
    #[serde(default)]
    pub handle: Option<u64>,
    /// Witnesses.
    pub evidence: Vec<Evidence>,
    /// Consequences folded under it.
    pub explains: Vec<Phrase>,
    /// Fixes, the smallest first.
    pub fixes: Vec<Fix>,
}

/// What two findings have in common if they mean one thing: the cause, the place and the thing itself as it reads, but
/// never its number in a list, which changes with its neighbours. Two legacy rules may read the same, so several
/// findings of one report can have one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity<'a> {
    cause: &'a str,
    target: &'a str,
    stage: &'a str,
    thing: &'a str,
    handle: Option<u64>,
}

impl Finding {
    /// Its identity, by which it is known again in another report.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            cause: &self.cause,
            target: &self.target,
            stage: &self.stage,
            thing: self.exhibit.as_deref().unwrap_or(&self.subject),
            handle: self.handle,
        }
    }
}

/// Why a note is not a finding.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum NoteStatus {
    /// Rose, and means no harm.
    Benign,
    /// Would cost packets if traffic met it; none did.
    Latent,
    /// Happened before the window.
    Old,
    /// Follows from a finding.
    Consequence,
    /// Packets were dropped, and nothing here tells whether anybody misses them.
    Unjudged,
}

/// Something seen and judged innocent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Cause id, if it has one.
    pub cause: Option<String>,
    /// Target id.
    pub target: String,
    /// What it is about.
    pub subject: String,
    /// Why it is no finding.
    pub status: NoteStatus,
    /// One sentence.
    pub text: Phrase,
}
