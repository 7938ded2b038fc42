//! Names that are close to a mistyped one.

use std::collections::BTreeSet;
use whydrop_facts as facts;
use whydrop_model::Cause;

/// Names offered.
const OFFERED: usize = 3;

/// The nearest names that `explain` knows, at most three, the closest first.
pub fn nearest(name: &str, causes: &[&Cause]) -> Vec<String> {
    let wanted = name.to_ascii_lowercase();
    let mut known: BTreeSet<&str> = causes.iter().map(|c| c.id).collect();
    known.extend(facts::cause_ids());
    // Drivers' counters are legion and similar; they are found by their exact names only.
    let counters = facts::counters().iter().filter(|c| !c.group.starts_with("ethtool_driver."));
    known.extend(counters.map(|c| c.id));
    known.extend(facts::reasons().iter().map(|r| r.id));
    known.extend(facts::stages().iter().map(|s| s.id));
    known.extend(facts::states().iter().flat_map(|s| s.sysctls.iter().copied().chain([s.id])));
    known.extend(facts::pitfalls().iter().map(|p| p.id));
    let mut ranked: Vec<(f64, &str)> = known.into_iter().map(|k| (likeness(&wanted, k), k)).collect();
    ranked.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.cmp(y)));
    ranked.into_iter().take(OFFERED).map(|(_, name)| name.to_owned()).collect()
}

/// 0..1: the better of the whole name and its last part; a name that contains what was typed counts as close.
fn likeness(wanted: &str, known: &str) -> f64 {
    let known = known.to_ascii_lowercase();
    let last = known.rsplit('.').next().unwrap_or(&known);
    let whole = strsim::normalized_damerau_levenshtein(wanted, &known);
    let part = strsim::normalized_damerau_levenshtein(wanted, last);
    let contains = wanted.len() >= 4 && known.contains(wanted);
    whole.max(part).max(if contains { 0.8 } else { 0.0 })
}
