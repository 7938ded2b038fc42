//! What a fix changed: each cause before and after, and the probes.

use super::{Options, headline, target_name};
use crate::layout::{Ink, name, width};
use crate::number::{maybe, percent};
use std::io::{self, Write};
use whydrop_model::{Finding, Lang, Phrase, ProbeResult, Report, Verdict, text};

/// Writes one line for each cause of `before`, for each cause that is new in `after`, and for each probe.
///
/// # Errors
/// Those of `out`.
pub fn outcome(before: &Report, after: &Report, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let lang = options.lang;
    let mut page = options.page();
    for (i, old) in before.findings.iter().enumerate() {
        let fate = fate(old, after.again(before, i), after);
        let text = place(before, old, &fate, lang);
        page.entry(&format!("  {}", i + 1), 6, &text);
    }
    let known = |at: usize| before.again(after, at).is_some();
    for (_, new) in after.findings.iter().enumerate().filter(|(at, _)| !known(*at)) {
        let fate = text!("new (loses {n})", "新出现（丢 {n} 个包）").fill(&[("n", &maybe(new.packets_lost))]);
        page.entry("  +", 6, &place(after, new, &fate, lang));
    }
    for old in &before.probes {
        let Some(new) = after.probes.iter().find(|p| p.url == old.url && p.from == old.from) else {
            continue;
        };
        let text = text!("{url}: loss {was} before, {now} now", "{url} ：丢包率之前 {was}，现在 {now}")
            .fill(&[("url", &name(&old.url)), ("was", &share(old, lang)), ("now", &share(new, lang))]);
        page.paragraph(2, text.get(lang));
    }
    let (word, sentence) = headline::headline(after, lang);
    page.marked(Ink::Plain, word, width(word) + 2, &sentence);
    out.write_all(page.finish().as_bytes())
}

fn place(report: &Report, finding: &Finding, fate: &Phrase, lang: Lang) -> String {
    let text = text!("{target}, {subject}: {fate}", "{target}，{subject}：{fate}").fill(&[
        ("target", &target_name(report, &finding.target)),
        ("subject", &name(&finding.subject)),
        ("fate", &fate.get(lang)),
    ]);
    text.get(lang).to_owned()
}

fn fate(old: &Finding, again: Option<&Finding>, after: &Report) -> Phrase {
    let was = maybe(old.packets_lost);
    match again {
        Some(new) => text!(
            "still there (lost {was} before, {now} now)",
            "仍然存在（之前丢 {was} 个包，现在 {now} 个）"
        )
        .fill(&[("was", &was), ("now", &maybe(new.packets_lost))]),
        // Not found although something was out of sight proves nothing.
        None if after.verdict == Verdict::Inconclusive => {
            text!("not seen any more, but not everything could be looked at", "不再出现，但有些地方未能查看")
                .phrase()
        }
        None => text!("gone (lost {was} before)", "已消失（之前丢 {was} 个包）").fill(&[("was", &was)]),
    }
}

fn share(probe: &ProbeResult, lang: Lang) -> String {
    probe.loss.map_or_else(|| "?".to_owned(), |loss| percent(loss, lang))
}
