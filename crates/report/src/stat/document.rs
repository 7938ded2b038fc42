//! The table as JSON, `whydrop.stat.v1`.

use super::Row;
use serde::Serialize;
use whydrop_facts::Effect;
use whydrop_model::delta::Change;
use whydrop_model::{Coverage, Lang};

/// One reading of all counters.
#[derive(Clone, Debug, Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    window_seconds: f64,
    counters: Vec<Counter<'a>>,
    /// Sources that are there and could not be read.
    coverage: &'a [Coverage],
}

#[derive(Clone, Debug, Serialize)]
struct Counter<'a> {
    target: &'a str,
    place: Option<&'a str>,
    counter: &'a str,
    value: Option<u64>,
    /// Null if it cannot be told: the counter is new, gone, or was set back.
    rise: Option<u64>,
    effect: Option<&'static str>,
    meaning: Option<String>,
    /// The meaning is guessed by the counter's name.
    guess: bool,
}

/// The rows as they are given.
pub fn document<'a>(rows: &'a [Row], coverage: &'a [Coverage], seconds: f64, lang: Lang) -> Document<'a> {
    let counter = |row: &'a Row| Counter {
        target: &row.target,
        place: Some(row.place.as_str()).filter(|place| !place.is_empty()),
        counter: &row.counter,
        value: row.value,
        rise: rise(row.change),
        effect: row.effect().map(word),
        meaning: super::write::meaning(row, lang),
        guess: row.is_guess(),
    };
    let counters = rows.iter().map(counter).collect();
    Document { schema: "whydrop.stat.v1", window_seconds: seconds, counters, coverage }
}

/// How much it rose, if that is known.
fn rise(change: Change) -> Option<u64> {
    match change {
        Change::Rose(_) | Change::Same => Some(change.risen()),
        Change::Reset | Change::Appeared(_) | Change::Vanished | Change::Unknown => None,
    }
}

const fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Lost => "lost",
        Effect::LostConn => "lost_conn",
        Effect::Evidence => "evidence",
        Effect::Maybe => "maybe",
        Effect::Benign => "benign",
        Effect::Info => "info",
        Effect::Gauge => "gauge",
    }
}
