//! Which fixes were chosen, and which of them may run.

use crate::failure::Refusal;
use anyhow::Result;
use whydrop_model::shell::sanitize;
use whydrop_model::{Applicability, Finding, Fix, Report, text};
use whydrop_report::error::Problem;

/// A fix that was chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    /// Index of the finding.
    pub at: usize,
    /// The finding.
    pub finding: &'a Finding,
    /// Index of the fix.
    pub nth: usize,
    /// The fix.
    pub fix: &'a Fix,
    /// True if it was asked for by name.
    pub named: bool,
}

impl Choice<'_> {
    /// As `--only` names it.
    pub fn name(&self) -> String {
        title(self.at, self.nth)
    }
}

/// `f1` for the first fix of a finding, `f1.2` for its second.
fn title(at: usize, nth: usize) -> String {
    match nth {
        0 => format!("f{}", at + 1),
        nth => format!("f{}.{}", at + 1, nth + 1),
    }
}

/// The fixes that `--only` names; without names the first of each finding. A name that means nothing is refused: a
/// typo must not silently fix nothing.
pub(super) fn choose<'a>(report: &'a Report, only: &[String]) -> Result<Vec<Choice<'a>>> {
    let choice = |at: usize, nth: usize, named: bool| {
        let finding = report.findings.get(at)?;
        Some(Choice { at, finding, nth, fix: finding.fixes.get(nth)?, named })
    };
    if only.is_empty() {
        return Ok((0..report.findings.len()).filter_map(|at| choice(at, 0, false)).collect());
    }
    let mut chosen: Vec<Choice<'a>> = vec![];
    for id in only {
        let mut named =
            named(report, id).into_iter().filter_map(|(at, nth)| choice(at, nth, true)).peekable();
        if named.peek().is_none() {
            return Err(unknown(report, id));
        }
        for found in named {
            if chosen.iter().all(|known| (known.at, known.nth) != (found.at, found.nth)) {
                chosen.push(found);
            }
        }
    }
    Ok(chosen)
}

/// Indices that `f1` or `f1.2` means; or a cause, `netfilter.drop_rule`, `netfilter.drop_rule.2` or, for the one that takes
/// the culprit away, `netfilter.drop_rule.last`: the number of a finding follows from what it costs and may be another one
/// in the next window, its cause stays.
fn named(report: &Report, id: &str) -> Vec<(usize, usize)> {
    let index = |number: &str| number.parse::<usize>().ok()?.checked_sub(1);
    let by_number = || {
        let (finding, fix) = id.strip_prefix('f').map(|rest| rest.split_once('.').unwrap_or((rest, "1")))?;
        Some((index(finding)?, index(fix)?))
    };
    if let Some(one) = by_number() {
        return vec![one];
    }
    let of_cause = |(at, finding): (usize, &Finding)| {
        let nth = match id.strip_prefix(finding.cause.as_str())? {
            "" => Some(0),
            ".last" => finding.fixes.len().checked_sub(1),
            rest => index(rest.strip_prefix('.')?),
        };
        nth.map(|nth| (at, nth))
    };
    report.findings.iter().enumerate().filter_map(of_cause).collect()
}

fn unknown(report: &Report, id: &str) -> anyhow::Error {
    let findings = report.findings.iter().enumerate();
    let fixes = findings.flat_map(|(at, f)| (0..f.fixes.len()).map(move |nth| title(at, nth)));
    let (id, known) = (sanitize(id, 40), fixes.collect::<Vec<_>>().join(", "));
    let what =
        text!("--only names {id}, but the fixes are: {known}", "--only 指定了 {id}，而现有修复为：{known}");
    Refusal(Problem::new(what.fill(&[("id", &id), ("known", &known)]))).into()
}

/// Whether a fix may run: safe ones, and others only if they were asked for by name.
pub(super) fn allowed(choice: &Choice<'_>) -> bool {
    let wanted = match choice.fix.applicability {
        Applicability::Safe => true,
        Applicability::Manual => false,
        Applicability::Weakens | Applicability::Disruptive => choice.named,
    };
    wanted && !choice.fix.steps.is_empty()
}
