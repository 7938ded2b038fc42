//! Names that are close to a mistyped one.

use std::collections::BTreeSet;
use whydrop_facts as facts;
use whydrop_model::Cause;

/// The nearest names that `explain` knows, at most three, the closest first.
pub fn nearest(name: &str, causes: &[&Cause]) -> Vec<String> {
    let mut known: BTreeSet<&str> = causes.iter().map(|c| c.id).collect();
    known.extend(facts::cause_ids());
    // Drivers' counters are legion and similar; they are found by their exact names only.
    let counters = facts::counters().iter().filter(|c| !c.group.starts_with("ethtool_driver."));
    known.extend(counters.map(|c| c.id));
    known.extend(facts::reasons().iter().map(|r| r.id));
    known.extend(facts::stages().iter().map(|s| s.id));
    known.extend(facts::states().iter().flat_map(|s| s.sysctls.iter().copied().chain([s.id])));
    known.extend(facts::pitfalls().iter().map(|p| p.id));
    crate::nearest::nearest(name, known)
}
