//! `cargo xtask record`: makes the recordings of `scenarios/` anew by running the live tests, and keeps them small.
//!
//! A recording holds some 600 counters per snapshot, nearly all zero. What is zero before and after says nothing and
//! is left out; everything else stays as it was read, so that a reviewer sees what the rules saw.

use crate::process::{cargo, run as must};
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// Fields of a snapshot that are tables of counters by name.
const TABLES: [&str; 2] = ["mib", "mib6"];

/// Runs the live tests with recording on, then slims what they wrote.
pub fn run() -> Result<()> {
    must(cargo().args(["test", "--package", "whydrop-tests", "--test", "live"]).env("WHYDROP_RECORD", "1"))?;
    for path in records(Path::new("scenarios"))? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut record: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        for namespace in record["observation"]["namespaces"].as_array_mut().into_iter().flatten() {
            for table in TABLES {
                slim(namespace, table);
            }
        }
        let slimmed = serde_json::to_string_pretty(&record)? + "\n";
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

/// Removes the counters of one table that are zero in both snapshots.
fn slim(namespace: &mut Value, table: &str) {
    let zeros = |namespace: &Value, when: &str| -> Vec<String> {
        let counters = namespace[when]["value"][table]["value"].as_object();
        let zero = |(name, value): (&String, &Value)| (value == 0).then(|| name.clone());
        counters.map(|c| c.iter().filter_map(zero).collect()).unwrap_or_else(Vec::new)
    };
    let (before, after) = (zeros(namespace, "before"), zeros(namespace, "after"));
    for when in ["before", "after"] {
        let counters = namespace[when]["value"][table]["value"].as_object_mut();
        let Some(counters): Option<&mut Map<String, Value>> = counters else { continue };
        counters.retain(|name, _| !(before.contains(name) && after.contains(name)));
    }
}
