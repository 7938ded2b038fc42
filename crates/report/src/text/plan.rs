//! The plan of `whydrop fix`: each change with the way back, before anything is touched.

use super::{Options, command_line, target_name};
use crate::layout::name;
use crate::words;
use std::io::{self, Write};
use whydrop_model::{Applicability, Finding, Fix, Report, text};

/// Writes what `fix` would do about the chosen findings (indices into [`Report::findings`]), the first fix of each.
///
/// # Errors
/// Those of `out`.
pub fn plan(report: &Report, chosen: &[usize], options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let lang = options.lang;
    let mut page = options.page();
    let findings: Vec<(usize, &Finding, &Fix)> = chosen
        .iter()
        .filter_map(|&i| report.findings.get(i).and_then(|f| Some((i + 1, f, f.fixes.first()?))))
        .collect();
    let count = |a: Applicability| findings.iter().filter(|(.., fix)| fix.applicability == a).count();
    let kinds = [Applicability::Safe, Applicability::Disruptive, Applicability::Manual].map(|a| {
        let n = count(a);
        (n > 0).then(|| format!("{n} {}", words::applicability(a).get(lang)))
    });
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
        for step in &fix.steps {
            page.command("", 6, &command_line(report, &step.target, &step.action.argv()));
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
            Some(back) => page.command(shown, column, &command_line(report, &step.target, &back.argv())),
            None => page.entry(shown, column, text!("not known", "未知").get(options.lang)),
        }
    }
}
