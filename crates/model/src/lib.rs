//! The nouns of whydrop.
//!
//! Everything that passes between the crates is a type of this one: what was read ([`Reading`], [`Snapshot`]),
//! what it means ([`Finding`], [`Note`], [`Ledger`]), what ends it ([`Fix`], [`Action`]) and the two
//! documents that leave the program ([`Report`], [`Bundle`]).
//! No I/O, no clock, no unsafe: a value here can be stored, replayed and compared.
#![forbid(unsafe_code)]

pub mod action;
pub mod bundle;
pub mod cause;
pub mod census;
pub mod change;
pub mod command;
pub mod conntrack;
pub mod course;
pub mod delta;
pub mod device;
pub mod drops;
pub mod finding;
pub mod flow;
pub mod ipsec;
pub mod layer2;
pub mod machine;
pub mod netfilter;
pub mod network;
pub mod probe;
pub mod process;
pub mod reading;
pub mod report;
pub mod shell;
pub mod snapshot;
pub mod socket;
pub mod target;
pub mod text;

pub use action::{Action, Effect, RuleRef};
pub use bundle::{Bundle, NamespaceEvidence, Observation};
pub use cause::Cause;
pub use change::{Change, Doer, Unheard};
pub use drops::{DropCount, DropEvent, DropLog};
pub use finding::{Applicability, Direction, Evidence, Finding, Fix, Note, NoteStatus, Severity};
pub use flow::FlowLog;
pub use probe::ProbeResult;
pub use reading::{Bounded, Reading};
pub use report::{Coverage, CoverageStatus, Ledger, LedgerEntry, Report, Unexplained, Verdict};
pub use snapshot::Snapshot;
pub use target::{Entry, Pod, Role, Target, TargetKind, Tenant};
pub use text::{Lang, Phrase, Text};
