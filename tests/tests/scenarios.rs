//! Every recording below `scenarios/` is judged again, without root and without a network, and shown in every format.

use whydrop_tests::{Scenario, diagnose, whydrop};

#[test]
fn every_recording_is_judged_as_expected() {
    for scenario in Scenario::all() {
        let (record, expect) = (scenario.record(), scenario.expect());
        let seen = diagnose(&["diagnose", "--replay", &record]);
        seen.assert_causes(&expect.causes.iter().map(String::as_str).collect::<Vec<_>>());
        for cause in &expect.notes {
            seen.assert_note(cause);
        }
        let number = |name: &str| seen.report["ledger"][name].as_u64().expect("a number");
        assert_eq!(number("lost"), number("explained") + number("unexplained"), "{record}");
    }
}

#[test]
fn every_recording_is_shown_in_every_format_and_language() {
    for record in Scenario::all().iter().map(Scenario::record) {
        for format in ["text", "json", "markdown"] {
            for lang in ["en", "zh"] {
                let output = whydrop()
                    .args(["diagnose", "--format", format, "--lang", lang, "--replay", &record])
                    .output()
                    .expect("whydrop starts");
                let what = format!("{record} as {format} in {lang}");
                assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{what}: {output:?}");
                assert!(output.stderr.is_empty(), "{what}: {output:?}");
                let text = String::from_utf8(output.stdout).expect("UTF-8");
                assert!(!text.is_empty() && !text.contains('\u{1b}'), "{what}");
            }
        }
    }
}
