//! The report as JSON, `whydrop.report.v1`: a contract that scripts rely on, extended only by adding.
//!
//! The document has types of its own, so that a change of the model is not a change of the contract by accident.
//! What is unknown is `null`, never zero. Keys and ids are never translated; sentences follow `lang`.

mod convert;
mod document;
mod escape;

pub(crate) use convert::target;
pub use convert::{document, probe};
pub use document::{
    Bursts, Command, Document, Evidence, Fate, Finding, Fix, Flow, Hop, Host, Http, Ledger, Note, Pmtu,
    Probe, Target, Tool,
};

use serde::Serialize;
use std::io::{self, Write};
use whydrop_model::{Lang, Report};

/// Name and version of the contract.
pub const SCHEMA: &str = "whydrop.report.v1";

/// Writes the report as one indented document and a newline. `version` is that of the program.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, lang: Lang, version: &str, out: &mut dyn Write) -> io::Result<()> {
    pretty(&document(report, lang, version), out)
}

/// Writes any value of the contract indented, with a newline. Characters that could steer a terminal are escaped
/// inside strings as JSON allows, so the data stay the same.
///
/// # Errors
/// Those of `out`.
pub fn pretty(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, escape::Indented::default());
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// Writes a value on one line, escaped as in [`pretty`]: for streams of objects.
///
/// # Errors
/// Those of `out`.
pub fn line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, escape::Compact);
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// The JSON schema of [`Document`]; checked in as `docs/report.schema.json`.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Document).to_value()
}
