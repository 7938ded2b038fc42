//! The table for people.

use super::{MACHINE, Row, word};
use crate::layout::{Ink, Page, name, pad, width};
use crate::number::{count, maybe};
use crate::text::Options;
use std::collections::BTreeSet;
use std::io::{self, Write};
use whydrop_facts::Effect;
use whydrop_model::delta::Change;
use whydrop_model::{Coverage, Lang, Phrase, text};

/// Columns of the two numbers.
const NUMBER: usize = 12;
/// Column of the words below a row.
const WORDS: usize = 2 * NUMBER + 4;

/// Writes the table, each counter with its meaning, and what could not be read.
///
/// # Errors
/// Those of `out`.
pub fn write(
    rows: &[Row],
    coverage: &[Coverage],
    seconds: f64,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let lang = options.lang;
    let mut page = options.page();
    page.paragraph(0, head(rows, seconds).get(lang));
    if !rows.is_empty() && !options.plain {
        page.blank();
        let right = |text: &str| format!("{}{text}", " ".repeat(NUMBER.saturating_sub(width(text))));
        let (rise, value) = (text!("rise", "增加"), text!("value", "数值"));
        let rest = text!("counter, where, what a step means", "计数器、位置、每增加 1 的含义");
        page.line(&format!("{}{}    {}", right(rise.get(lang)), right(value.get(lang)), rest.get(lang)));
    }
    let mut told = BTreeSet::new();
    for row in rows {
        line(row, options, &mut page);
        // A meaning that stands above is not told again.
        if let Some(meaning) = meaning(row, lang).filter(|_| told.insert(row.counter.as_str())) {
            page.paragraph(if options.plain { 0 } else { WORDS }, &meaning);
        }
    }
    unseen(coverage, options, &mut page);
    out.write_all(page.finish().as_bytes())
}

/// Writes what rose in one round of `--watch`; `at` is the time of its end. `told` holds the counters whose meaning
/// was already written.
///
/// # Errors
/// Those of `out`.
pub fn write_round(
    rows: &[Row],
    seconds: f64,
    at: &str,
    told: &mut BTreeSet<String>,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let lang = options.lang;
    let mut page = options.page();
    let rising: Vec<&Row> = rows.iter().filter(|row| row.change.risen() > 0).collect();
    if rising.is_empty() {
        let none = text!("{at}  nothing rises", "{at}  没有增加").fill(&[("at", &at)]);
        page.line(none.get(lang));
    }
    for (index, row) in rising.into_iter().enumerate() {
        let rate = row.change.risen() as f64 / seconds.max(f64::EPSILON);
        let rate = format!("{rate:.1}/s");
        let at = if index == 0 { at } else { "" };
        let (mark, place) = (word(row.effect()).get(lang), place(row, lang));
        page.line(&format!(
            "{}  {rate:>NUMBER$}  {}  {place}  {mark}",
            pad(at, width(at).max(8)),
            row.name()
        ));
        if let Some(meaning) = meaning(row, lang).filter(|_| !told.contains(&row.counter)) {
            told.insert(row.counter.clone());
            page.paragraph(WORDS, &meaning);
        }
    }
    out.write_all(page.finish().as_bytes())
}

/// What a counter counts; in English where nobody translated it. What a driver's counter means is a guess by its name.
pub(super) fn meaning(row: &Row, lang: Lang) -> Option<String> {
    let known = row.fact.map(|fact| fact.meaning_zh.filter(|_| lang == Lang::Zh).unwrap_or(fact.meaning));
    let guess = text!("A guess by its name: drivers differ.", "仅按名称猜测：各驱动含义不同。").get(lang);
    match (known, row.is_guess()) {
        (Some(known), false) => Some(known.to_owned()),
        (Some(known), true) => Some(format!("{known} {guess}")),
        (None, true) => Some(guess.to_owned()),
        (None, false) => None,
    }
}

fn head(rows: &[Row], seconds: f64) -> Phrase {
    let rising = rows.iter().filter(|row| row.change.risen() > 0);
    let innocent = |row: &&Row| matches!(row.effect(), Some(Effect::Benign | Effect::Info | Effect::Gauge));
    let (good, bad): (Vec<_>, Vec<_>) = rising.partition(innocent);
    let seconds = format!("{seconds:.1}");
    text!(
        "{n} counters that may mean loss rose in {s} s; {good} innocent ones did; {of} are shown.",
        "{s} 秒内有 {n} 个可能表示丢包的计数器增加，另有 {good} 个无害的增加；共列出 {of} 个。"
    )
    .fill(&[("n", &bad.len()), ("s", &seconds), ("good", &good.len()), ("of", &rows.len())])
}

fn line(row: &Row, options: &Options, page: &mut Page) {
    let lang = options.lang;
    let rise = match row.change {
        Change::Rose(n) => format!("+{}", count(n)),
        Change::Same => "-".to_owned(),
        Change::Reset => text!("set back", "被清零").get(lang).to_owned(),
        Change::Appeared(_) => text!("new", "新出现").get(lang).to_owned(),
        Change::Vanished => text!("gone", "已消失").get(lang).to_owned(),
        Change::Unknown => "?".to_owned(),
    };
    let (value, mark) = (maybe(row.value), word(row.effect()).get(lang));
    let place = place(row, lang);
    if options.plain {
        let said = text!("{rise}, value {value}. {place}. {mark}", "{rise}，数值 {value}。{place}。{mark}");
        let said = said.fill(&[("rise", &rise), ("value", &value), ("place", &place), ("mark", &mark)]);
        page.entry(row.name(), 0, said.get(lang));
        return;
    }
    let right = |text: &str| format!("{}{text}", " ".repeat(NUMBER.saturating_sub(width(text))));
    let numbers = format!("{}{}", right(&rise), right(&value));
    let ink = if row.is_loss() && row.change.risen() > 0 { Ink::Bold } else { Ink::Plain };
    page.marked(ink, &numbers, WORDS, &format!("{}  {place}  {mark}", name(row.name())));
}

fn place(row: &Row, lang: Lang) -> String {
    let target = match row.target.as_str() {
        MACHINE => text!("whole machine", "整台机器").get(lang).to_owned(),
        target => name(target),
    };
    if row.place.is_empty() { target } else { format!("{target} {}", name(&row.place)) }
}

fn unseen(coverage: &[Coverage], options: &Options, page: &mut Page) {
    let label = text!("Not seen", "未能查看").get(options.lang);
    let column = width(label) + 2;
    for (index, row) in coverage.iter().enumerate() {
        let said = format!("{} {}: {}", name(&row.target), row.source, name(&row.detail));
        if index == 0 {
            page.blank();
        }
        page.entry(if index == 0 { label } else { "" }, column, &said);
    }
}
