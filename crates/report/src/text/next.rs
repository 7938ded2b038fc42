//! The last block: the next command, complete enough to be typed as it stands.

use super::Options;
use super::seen::is_blind;
use crate::layout::{Page, pad, width};
use whydrop_model::{CoverageStatus, Phrase, Report, Role, Text, Verdict, shell, text};

const LABEL: Text = text!("Next", "下一步");
/// Probes that are repeated in a proposed command.
const PROBES: usize = 3;

pub(super) fn write(report: &Report, options: &Options, page: &mut Page) {
    let lang = options.lang;
    let lines = commands(report);
    let column = width(LABEL.get(lang)) + 2;
    for (i, (command, what)) in lines.iter().enumerate() {
        let (label, what) = (if i == 0 { LABEL.get(lang) } else { "" }, what.get(lang));
        if options.plain {
            page.command(if what.is_empty() { LABEL.get(lang) } else { what }, 0, command);
        } else if !what.is_empty() && column + width(command) + 3 + width(what) <= options.width {
            page.command(label, column, &format!("{}   {what}", pad(command, 24)));
        } else {
            page.command(label, column, command);
        }
    }
}

/// Commands with what they are for, the best first.
pub(crate) fn commands(report: &Report) -> Vec<(String, Phrase)> {
    let denied = report.coverage.iter().any(|c| c.status == CoverageStatus::Denied);
    let blind = report.coverage.iter().any(is_blind);
    let sudo = if denied { "sudo " } else { "" };
    let targets = targets(report);
    if let Some(first) = report.findings.first() {
        let mut out = Vec::new();
        let changes = report.findings.iter().filter(|f| f.fixes.first().is_some_and(|x| !x.steps.is_empty()));
        match changes.count() {
            0 => {}
            n => out.push((
                format!("{sudo}whydrop fix {targets}"),
                match n {
                    1 => text!("shows the change and its undo", "列出改动及其撤销方法").phrase(),
                    _ => text!("shows {n} changes and their undo", "列出 {n} 处改动及其撤销方法")
                        .fill(&[("n", &n)]),
                },
            )),
        }
        out.push((
            format!("whydrop explain {}", shell::quote(&first.cause)),
            text!("meaning, and when this is wrong", "含义，以及何时判断会有误").phrase(),
        ));
        return out;
    }
    match report.verdict {
        Verdict::Clear => vec![(
            format!("{sudo}whydrop diagnose {targets} --duration 1m"),
            text!("if it comes and goes", "如果问题时有时无").phrase(),
        )],
        _ if denied => vec![(format!("sudo {}", diagnose(report)), Phrase::default())],
        _ if blind => vec![(
            "whydrop self-check".to_owned(),
            text!("what this machine hides, and why", "本机看不到什么，以及原因").phrase(),
        )],
        _ => unexplained(report)
            .into_iter()
            .chain([(
                format!("whydrop trace {targets}"),
                text!("the kernel's drops as they happen", "实时显示内核丢包").phrase(),
            )])
            .collect(),
    }
}

/// What the kernel's own name for most of the unexplained losses means.
fn unexplained(report: &Report) -> Option<(String, Phrase)> {
    let mut reasons = report.ledger.unexplained_at.iter().map(|place| place.reason.as_str());
    let reason = reasons.find(|reason| !reason.is_empty())?;
    let what = text!("what this drop means", "该丢弃原因的含义").phrase();
    Some((format!("whydrop explain {}", shell::quote(reason)), what))
}

/// Ids of what the user asked about, as words of a command.
fn targets(report: &Report) -> String {
    let asked = report.targets.iter().filter(|t| t.role == Role::Target);
    asked.map(|t| shell::quote(&t.id)).collect::<Vec<_>>().join(" ")
}

/// The command that makes this report again.
pub(super) fn diagnose(report: &Report) -> String {
    let mut out = format!("whydrop diagnose {}", targets(report));
    for probe in report.probes.iter().take(PROBES) {
        out += &format!(" --probe {}", shell::quote(&probe.url));
    }
    if let Some(from) = report.probes.first().map(|p| &p.from).filter(|from| *from != "host") {
        out += &format!(" --from {}", shell::quote(from));
    }
    out
}
