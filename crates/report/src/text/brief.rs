//! One tab-separated line for each cause: severity, cause id, target id, subject, packets (`?` if unknown).
//! Made for scripts, hence not translated.

use crate::{layout::name, words};
use whydrop_model::Report;

pub(super) fn lines(report: &Report) -> String {
    report
        .findings
        .iter()
        .map(|f| {
            let packets = f.packets_lost.map_or_else(|| "?".to_owned(), |n| n.to_string());
            let severity = words::severity(f.severity).en;
            format!("{severity}\t{}\t{}\t{}\t{packets}\n", name(&f.cause), name(&f.target), name(&f.subject))
        })
        .collect()
}
