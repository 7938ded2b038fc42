//! `cargo xtask record`: makes the recordings of `scenarios/` anew by running the live tests, and keeps them small.
//!
//! A recording holds some 600 counters per snapshot, nearly all zero, and thousands of sampled drops that look alike.
//! What is zero before and after says nothing and is left out, and so are samples beyond the first; everything else
//! stays as it was read, one object a line, so that a reviewer sees what the rules saw.

use crate::process::{cargo, run as must};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Fields of a snapshot that are tables of counters by name.
const TABLES: [&str; 2] = ["mib", "mib6"];
/// Sampled drops that are kept.
const SAMPLES: usize = 12;
/// Sockets, and entries of connection tracking, that are kept of those that only wait for their end.
const WAITING: usize = 4;
/// States of such entries.
const ENDED: [&str; 2] = ["time_wait", "close"];
/// A value that fits into a line of this many characters stands on one.
const LINE: usize = 360;

/// Options of `cargo xtask record`.
#[derive(clap::Args)]
pub struct Options {
    /// Only faults whose id contains this
    #[arg(default_value = "")]
    filter: String,
}

/// Runs the live tests with recording on, then slims what they wrote.
pub fn run(options: &Options) -> Result<()> {
    let mut live = cargo();
    live.args(["test", "--package", "whydrop-tests", "--test", "live", "--", &options.filter]);
    must(live.env("WHYDROP_RECORD", "1"))?;
    for path in records(Path::new("scenarios"))? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut record: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        slim(&mut record["observation"]);
        let mut slimmed = String::new();
        lay_out(&record, 0, &mut slimmed);
        slimmed.push('\n');
        fs::write(&path, slimmed).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn records(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![];
    for entry in fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(records(&path)?);
        } else if path.ends_with("record.json") {
            found.push(path);
        }
    }
    Ok(found)
}

fn slim(observation: &mut Value) {
    if let Some(sampled) = observation["drops"]["value"]["sampled"].as_array_mut() {
        sampled.truncate(SAMPLES);
    }
    for namespace in observation["namespaces"].as_array_mut().into_iter().flatten() {
        for table in TABLES {
            without_zeros(namespace, table);
        }
        for when in ["before", "after"] {
            let mut ended = 0;
            let entries = format!("/{when}/value/conntrack_entries/value/items");
            if let Some(entries) = namespace.pointer_mut(&entries).and_then(Value::as_array_mut) {
                entries.retain(|entry| {
                    let ends = ENDED.contains(&entry["state"].as_str().unwrap_or(""));
                    ended += usize::from(ends);
                    !ends || ended <= WAITING
                });
            }
            let mut waiting = 0;
            if let Some(sockets) = namespace[when]["value"]["sockets"]["value"].as_array_mut() {
                sockets.retain(|socket| {
                    waiting += usize::from(socket["state"] == "time_wait");
                    socket["state"] != "time_wait" || waiting <= WAITING
                });
            }
        }
    }
}

/// Removes the counters of one table that are zero in both snapshots.
fn without_zeros(namespace: &mut Value, table: &str) {
    let zeros = |when: &str| -> Vec<String> {
        let counters = namespace[when]["value"][table]["value"].as_object();
        let zero = |(name, value): (&String, &Value)| (value == 0).then(|| name.clone());
        counters.into_iter().flatten().filter_map(zero).collect()
    };
    let (before, after) = (zeros("before"), zeros("after"));
    for when in ["before", "after"] {
        if let Some(counters) = namespace[when]["value"][table]["value"].as_object_mut() {
            counters.retain(|name, _| !(before.contains(name) && after.contains(name)));
        }
    }
}

/// Writes a value: on one line where it fits, else one line for each part of it.
fn lay_out(value: &Value, depth: usize, out: &mut String) {
    let line = value.to_string();
    let parts = match value {
        _ if line.len() + depth <= LINE => None,
        Value::Array(items) => Some(items.iter().map(|item| (None, item)).collect::<Vec<_>>()),
        Value::Object(fields) => Some(fields.iter().map(|(name, field)| (Some(name), field)).collect()),
        _ => None,
    };
    let Some(parts) = parts else { return out.push_str(&line) };
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    out.push(open);
    for (i, (name, part)) in parts.into_iter().enumerate() {
        out.push_str(if i == 0 { "\n" } else { ",\n" });
        out.push_str(&" ".repeat(depth + 1));
        if let Some(name) = name {
            out.push_str(&Value::from(name.as_str()).to_string());
            out.push_str(": ");
        }
        lay_out(part, depth + 1, out);
    }
    out.push('\n');
    out.push_str(&" ".repeat(depth));
    out.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_keeps_every_value() {
        let long = "x".repeat(LINE);
        let value = serde_json::json!({"a": [1, {"b": long}, null], "c\"": {"d": [], "e": {}}, "f": 1.5});
        let mut text = String::new();
        lay_out(&value, 0, &mut text);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(text.lines().count() > 3);
    }
}
