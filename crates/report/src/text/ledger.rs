//! The ledger as the table of contents: one row for each place that lost packets, and one for what is unexplained.

use super::headline::lost_in_window;
use super::{FULL_CAUSES, Options, target_name};
use crate::layout::{Page, name, pad, width, wrap};
use crate::number::{count, maybe};
use whydrop_model::{Lang, Report, Text, Unexplained, text};

const LABEL: Text = text!("where", "去向");
/// What the tracer had no room for: drops of which it only knows that they were.
const UNCOUNTED: Text = text!(
    "not in this book: {n} drops that found no room in the tracer",
    "未入账：跟踪器未能记下的 {n} 次丢弃"
);
/// Longest bar in `#`.
const BAR: u64 = 14;
/// Places of unexplained losses that are shown; the rest is in the JSON.
const PLACES: usize = 5;

/// One row. Packets are none where they cannot be counted.
pub(crate) struct Row {
    /// Number of the cause; empty for a place without one.
    pub number: String,
    pub target: String,
    pub place: String,
    pub packets: Option<u64>,
}

/// Rows that sum up to `ledger.lost` together with `ledger.unexplained`.
pub(crate) fn rows(report: &Report, all: bool, lang: Lang) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (i, finding) in report.findings.iter().enumerate() {
        let charged: Vec<u64> =
            report.ledger.entries.iter().filter(|e| e.finding == Some(i)).map(|e| e.packets).collect();
        // Not charged and not counted is unknown; not charged though counted is zero: its packets stand elsewhere.
        let packets = match charged.is_empty() {
            true => finding.packets_lost.map(|_| 0),
            false => Some(charged.iter().sum()),
        };
        rows.push(Row {
            number: (i + 1).to_string(),
            target: target_name(report, &finding.target),
            place: name(&finding.subject),
            packets,
        });
    }
    if !all && rows.len() > FULL_CAUSES {
        let rest = rows.split_off(FULL_CAUSES);
        let uncounted = rest.iter().any(|r| r.packets.is_none());
        let sum: u64 = rest.iter().filter_map(|r| r.packets).sum();
        let place = text!("{n} more causes, below", "另有 {n} 个原因，见下文").fill(&[("n", &rest.len())]);
        rows.push(Row {
            number: format!("{}-{}", FULL_CAUSES + 1, FULL_CAUSES + rest.len()),
            target: String::new(),
            place: place.get(lang).to_owned(),
            packets: if uncounted && sum == 0 { None } else { Some(sum) },
        });
    }
    for entry in report.ledger.entries.iter().filter(|e| e.finding.is_none_or(|i| i >= report.findings.len()))
    {
        rows.push(Row {
            number: String::new(),
            target: target_name(report, &entry.target),
            place: format!("{} ({})", name(&entry.stage), name(&entry.cause)),
            packets: Some(entry.packets),
        });
    }
    rows
}

pub(super) fn write(report: &Report, options: &Options, page: &mut Page) {
    let lang = options.lang;
    let total = lost_in_window(report);
    let total = total.get(lang);
    let unexplained = text!("unexplained", "未查明").get(lang);
    let rows = rows(report, options.every_cause, lang);
    if options.plain {
        page.entry(LABEL.get(lang), 0, total);
        for row in rows {
            let label = text!("cause {n}", "原因 {n}").fill(&[("n", &row.number)]);
            let label = if row.number.is_empty() { "" } else { label.get(lang) };
            let text = text!("{target} {place}: {n} {n|packet|packets}", "{target} {place}：{n} 个包");
            let text =
                text.fill(&[("target", &row.target), ("place", &row.place), ("n", &maybe(row.packets))]);
            page.entry(label, 0, text.get(lang).trim_start());
        }
        page.entry(unexplained, 0, &count(report.ledger.unexplained));
        unexplained_places(report, lang).iter().for_each(|place| page.entry("", 0, place));
        if report.ledger.uncounted > 0 {
            page.entry("", 0, UNCOUNTED.fill(&[("n", &count(report.ledger.uncounted))]).get(lang));
        }
        return;
    }
    let column = (width(LABEL.get(lang)) + 2).max(7);
    let targets = rows.iter().map(|r| width(&r.target)).max().unwrap_or(0).min(20);
    let places: Vec<String> = rows
        .iter()
        .map(|r| {
            if r.target.is_empty() {
                r.place.clone()
            } else {
                format!("{}  {}", pad(&r.target, targets), r.place)
            }
        })
        .collect();
    let packets = text!("packets", "包数").get(lang);
    let numbers = rows.iter().map(|r| maybe(r.packets)).chain([count(report.ledger.unexplained)]);
    let number_width = numbers.map(|n| width(&n)).chain([width(packets)]).max().unwrap_or(0);
    let room = options.width.max(40).saturating_sub(column + number_width + BAR as usize + 4);
    let widest = places.iter().map(|p| width(p)).chain([width(total), width(unexplained)]).max();
    let place_width = widest.unwrap_or(0).min(room);
    let right = |text: &str| format!("{}{text}", " ".repeat(number_width.saturating_sub(width(text))));
    let most = rows.iter().filter_map(|r| r.packets).max().unwrap_or(0);
    let mut line = |head: &str, place: &str, number: &str, bar: &str| {
        for (i, part) in wrap(place, 0, 0, place_width).iter().enumerate() {
            let head = pad(if i == 0 { head } else { "" }, column);
            let (number, bar) = if i == 0 { (number, bar) } else { ("", "") };
            page.line(&format!("{head}{}  {}  {bar}", pad(part, place_width), right(number)));
        }
    };
    line(LABEL.get(lang), total, packets, "");
    for (row, place) in rows.iter().zip(&places) {
        line(&format!("  {}", row.number), place, &maybe(row.packets), &bar(row.packets, most));
    }
    line("", unexplained, &count(report.ledger.unexplained), "");
    unexplained_places(report, lang).iter().for_each(|place| page.entry("", column + 2, place));
    if report.ledger.uncounted > 0 {
        let text = UNCOUNTED.fill(&[("n", &count(report.ledger.uncounted))]);
        page.entry("", column, text.get(lang));
    }
}

/// Where the kernel saw packets die of which no cause is known, a line each.
pub(crate) fn unexplained_places(report: &Report, lang: Lang) -> Vec<String> {
    // Probes that were lost out of sight have no place.
    let seen = report.ledger.unexplained_at.iter().filter(|p| p.stage != "unknown" || !p.function.is_empty());
    let line = |place: &Unexplained| {
        let text = match (place.reason.is_empty(), place.suspected.is_some()) {
            _ if place.function.is_empty() => text!(
                "{n} in {target}, {stage}: {source} of {interface}",
                "{target} {stage}：{n} 个，{interface} 的 {source}"
            ),
            (true, _) => {
                text!("{n} in {target}, {stage} ({function})", "{target} {stage}：{n} 个（{function}）")
            }
            (false, false) => text!(
                "{n} in {target}, {stage}: {reason} ({function})",
                "{target} {stage}：{n} 个，{reason}（{function}）"
            ),
            (false, true) => text!(
                "{n} in {target}, {stage}: {reason} ({function}), perhaps {cause}",
                "{target} {stage}：{n} 个，{reason}（{function}），可能是 {cause}"
            ),
        };
        let text = text.fill(&[
            ("n", &count(place.packets)),
            ("target", &target_name(report, &place.target)),
            ("stage", &name(&place.stage)),
            ("source", &name(&place.source)),
            ("interface", &name(place.interface.as_deref().unwrap_or_default())),
            ("reason", &name(&place.reason)),
            ("function", &name(&place.function)),
            ("cause", &name(place.suspected.as_deref().unwrap_or_default())),
        ]);
        text.get(lang).to_owned()
    };
    seen.take(PLACES).map(line).collect()
}

/// A bar in proportion to the largest row; anything above zero shows at least one mark.
fn bar(packets: Option<u64>, most: u64) -> String {
    let length = match packets {
        Some(n) if n > 0 => (u128::from(n) * u128::from(BAR) / u128::from(most.max(1))).max(1),
        _ => 0,
    };
    "#".repeat(length as usize)
}
