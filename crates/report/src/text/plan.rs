//! The plan of `whydrop fix`: each change with the way back, before anything is touched.

use super::{Options, action_line, fix_lines, target_name};
use crate::layout::name;
use crate::words;
use std::io::{self, Write};
use whydrop_model::{Applicability, Finding, Fix, Report, text};

/// Writes what `fix` would do: the chosen fixes, each as the index of its finding in [`Report::findings`] and its own
/// index in [`Finding::fixes`].
///
/// # Errors
/// Those of `out`.
pub fn plan(
    report: &Report,
    chosen: &[(usize, usize)],
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let lang = options.lang;
    let mut page = options.page();
    let findings: Vec<(usize, &Finding, &Fix)> = chosen
        .iter()
        .filter_map(|&(i, fix)| report.findings.get(i).and_then(|f| Some((i + 1, f, f.fixes.get(fix)?))))
        .collect();
    let count = |a: Applicability| findings.iter().filter(|(.., fix)| fix.applicability == a).count();
    let kinds =
        [Applicability::Safe, Applicability::Weakens, Applicability::Disruptive, Applicability::Manual].map(
            |a| {
                let n = count(a);
                (n > 0).then(|| format!("{n} {}", words::applicability(a).get(lang)))
            },
        );
    let kinds: Vec<String> = kinds.into_iter().flatten().collect();
    let head = match kinds.is_empty() {
        true => text!("no change to propose", "没有可提议的改动").phrase(),
        false => text!("{n} change(s): {kinds}", "{n} 处改动：{kinds}")
            .fill(&[("n", &findings.len()), ("kinds", &kinds.join(", "))]),
    };
    page.paragraph(0, head.get(lang));
    for (number, finding, fix) in &findings {
        let title = text!("{target}, {subject}: {title}", "{target}，{subject}：{title}").fill(&[
            ("target", &target_name(report, &finding.target)),
            ("subject", &name(&finding.subject)),
            ("title", &fix.title.get(lang)),
        ]);
        page.entry(&format!("  {number}"), 6, title.get(lang));
        match fix_lines(report, fix) {
            Ok(lines) => lines.iter().for_each(|line| page.command("", 6, line)),
            Err(reason) => page.paragraph(6, reason.get(lang)),
        }
        undo(report, fix, options, &mut page);
        for remark in [&fix.caution, &fix.persist].into_iter().flatten() {
            page.paragraph(6, remark.get(lang));
        }
        if fix.applicability == Applicability::Manual {
            let text = text!("whydrop does not do this by itself", "whydrop 不会自动执行这一步");
            page.paragraph(6, text.get(lang));
        }
    }
    out.write_all(page.finish().as_bytes())
}

/// The way back, last change first.
fn undo(report: &Report, fix: &Fix, options: &Options, page: &mut crate::layout::Page) {
    let label = text!("      undo  ", "      撤销  ").get(options.lang);
    let column = crate::layout::width(label);
    for (i, step) in fix.steps.iter().rev().enumerate() {
        let shown = if i == 0 { label } else { "" };
        match step.action.inverse() {
            Some(back) => match action_line(report, &step.target, &back) {
                Ok(line) => page.command(shown, column, &line),
                Err(reason) => page.entry(shown, column, reason.get(options.lang)),
            },
            None => page.entry(shown, column, text!("not known", "未知").get(options.lang)),
        }
    }
}
