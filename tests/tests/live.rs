//! Every fault of the lab, live: clear, broken and found, fixed and clear, undone and found again. The healthy cases
//! stay clear, whatever they look like.
//!
//! While it is broken it is also asked about without any probe, when only the traffic of programs shows it: both ends
//! as targets, only the one that suffers, only the other.
//!
//! Needs root. A fault is skipped only for a reason that it declares (a kernel feature, a tool), and the run says so.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test harness of its own says what it skips")]

use libtest_mimic::{Arguments, Failed, Trial};
use std::io::{self, Write};
use std::process::{ExitCode, Output};
use std::time::{Duration, Instant};
use whydrop_lab::{Fault, Lab};
use whydrop_tests::{Diagnosis, Scenario, diagnose, is_root, whydrop};

/// Most of a test is waiting for windows to pass.
const THREADS: usize = 6;
/// Long enough for 20 SYNs and their deadline, and for what costs packets only at times.
const WINDOW: &str = "2s";
/// Long enough for a client of the lab to fail three times.
const QUIET_WINDOW: &str = "3s";
/// Three questions for a neighbour, a second apart (net.ipv4.neigh.*.mcast_solicit, retrans_time_ms), and twice as much
/// where four tests share two cores.
const NEIGHBOUR: Duration = Duration::from_secs(9);

fn main() -> io::Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(THREADS));
    // What is skipped must be seen without --nocapture.
    let mut out = io::stdout();
    if !arguments.list && !is_root() {
        writeln!(out, "SKIP live tests: they need root")?;
        let in_ci = std::env::var_os("CI").is_some();
        return Ok(if in_ci { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let (mut trials, mut skipped) = (vec![], 0);
    // In a guest only those that the building machine may have to skip.
    for fault in whydrop_lab::list().into_iter().filter(|fault| !is_guest() || fault.needs_modules()) {
        let wanted = arguments.filter.as_deref().is_none_or(|filter| fault.id.contains(filter));
        let missing = if wanted && !arguments.list { fault.missing() } else { None };
        if let Some(reason) = &missing {
            writeln!(out, "SKIP {}: {}", fault.id, reason.en)?;
            skipped += 1;
        }
        trials.push(Trial::test(fault.id, move || live(fault)).with_ignored_flag(missing.is_some()));
    }
    if skipped > 0 {
        writeln!(out, "{skipped} of {} skipped", trials.len())?;
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// True in a guest with modules, as `cargo xtask vm` says.
fn is_guest() -> bool {
    std::env::var_os("WHYDROP_MODULES").is_some()
}

/// The cycle of one fault.
fn live(fault: Fault) -> Result<(), Failed> {
    let causes = fault.causes;
    let scenario = scenario(&fault);
    let expect = scenario.expect();
    assert_eq!(expect.causes, causes, "{}: the lab and expect.toml differ", fault.id);
    // What is joined to the target is looked at, too.
    let causes = fault.in_view.unwrap_or(causes);
    let name = format!("wd-live-{}-{}", fault.id.replace(['.', '/', '_'], "-"), std::process::id());
    let mut lab = Lab::build(fault, &name)?;
    look(&lab, &[]).assert_causes(&[]);
    lab.break_it()?;
    // Four programs at once take longer than their windows on an emulated machine.
    let askings = if is_guest() { vec![] } else { lab.askings() };
    let found = std::thread::scope(|scope| {
        let quiet: Vec<_> = askings.iter().map(|ends| scope.spawn(|| look_only(ends))).collect();
        let found = look(&lab, &scenario.record_arguments());
        found.assert_causes(causes);
        for asked in quiet {
            asked.join().expect("a report").assert_causes(causes);
        }
        found
    });
    for cause in &expect.notes {
        found.assert_note(cause);
    }
    if causes.is_empty() {
        return Ok(());
    }
    match fix(&lab, &found) {
        Some(transaction) => {
            mended(&lab).assert_causes(&[]);
            undo(&transaction);
            if lab.fault().lingers {
                lab.mend()?;
                lab.break_it()?;
            }
        }
        // Only a person can do it: here that is the lab itself.
        None => {
            lab.mend()?;
            mended(&lab).assert_causes(&[]);
            lab.break_it()?;
        }
    }
    look(&lab, &[]).assert_causes(causes);
    Ok(())
}

/// Its folder below `scenarios/`.
fn scenario(fault: &Fault) -> Scenario {
    let (cause, case) = fault.id.split_once('/').unwrap_or((fault.id, "basic"));
    Scenario::named(&format!("{cause}/{case}"))
}

fn look(lab: &Lab, more: &[String]) -> Diagnosis {
    let mut words = vec!["diagnose".to_owned(), "--duration".into(), WINDOW.into()];
    words.extend(lab.words());
    words.extend_from_slice(more);
    diagnose(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What is seen as soon as nothing dies any more that was sent before: packets that wait for a neighbour are dropped when
/// its last question was in vain.
fn mended(lab: &Lab) -> Diagnosis {
    let until = Instant::now() + NEIGHBOUR;
    loop {
        let seen = look(lab, &[]);
        if seen.report["verdict"] == "clear" || Instant::now() >= until {
            return seen;
        }
    }
}

/// Without a probe.
fn look_only(ends: &[String]) -> Diagnosis {
    let words = ["diagnose", "--passive", "--duration", QUIET_WINDOW].into_iter();
    diagnose(&words.chain(ends.iter().map(String::as_str)).collect::<Vec<_>>())
}

/// Applies the fixes of all findings and returns the transaction's number; none if the first fix of any of them is
/// manual, or changes a namespace that was not named.
fn fix(lab: &Lab, found: &Diagnosis) -> Option<String> {
    let findings = found.report["findings"].as_array().expect("findings is a list");
    assert!(
        findings.iter().all(|finding| finding["fixes"].as_array().is_some_and(|fixes| !fixes.is_empty())),
        "a finding without any fix\n{}",
        found.said
    );
    if findings.iter().any(|finding| finding["fixes"][0]["applicability"] == "manual") {
        return None;
    }
    // What was not named is looked at, and never changed.
    let targets = found.report["targets"].as_array().expect("targets is a list");
    let near = |finding: &serde_json::Value| {
        targets.iter().any(|t| t["id"] == finding["target"] && t["role"] == "surrounding")
    };
    if findings.iter().any(near) {
        return None;
    }
    // By name: what weakens or interrupts does not run unasked.
    let only: Vec<String> = (1..=findings.len()).map(|n| format!("f{n}")).collect();
    let mut command = whydrop();
    command
        .args(["fix", "--apply", "--yes", "--only", &only.join(","), "--duration", WINDOW])
        .args(lab.words());
    let output = command.output().expect("whydrop starts");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "the fix did not end the loss\n{said}");
    // "undo: whydrop undo ID" closes the outcome.
    let id = said.split("whydrop undo ").nth(1).and_then(|rest| rest.split_whitespace().next());
    Some(id.unwrap_or_else(|| panic!("the way back is not told\n{said}")).to_owned())
}

fn undo(transaction: &str) {
    let output = whydrop().args(["undo", transaction]).output().expect("whydrop starts");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
