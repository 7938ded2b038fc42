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
        for flow in seen.report["flows"].as_array().expect("a list") {
            let parts = ["here", "beyond", "needless"].map(|part| flow["repeats"][part].as_u64());
            let unmatched = flow["repeats"]["unmatched"].as_object().into_iter().flatten();
            let parts = parts.into_iter().chain(unmatched.map(|(_, n)| n.as_u64())).flatten().sum::<u64>();
            assert_eq!(flow["trouble"]["retransmitted"], parts, "{record}: {flow:#}");
        }
    }
}

#[test]
fn every_recording_is_shown_in_every_format_and_language() {
    for record in Scenario::all().iter().map(Scenario::record) {
        for format in ["text", "json", "markdown", "html"] {
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

#[test]
fn the_html_of_every_recording_is_one_closed_file_with_the_numbers_of_the_ledger() {
    for record in Scenario::all().iter().map(Scenario::record) {
        let ledger = diagnose(&["diagnose", "--replay", &record]).report["ledger"].clone();
        for lang in ["en", "zh"] {
            let arguments = ["diagnose", "--format", "html", "--lang", lang, "--replay", &record];
            let html =
                String::from_utf8(whydrop().args(arguments).output().expect("starts").stdout).expect("UTF-8");
            assert!(html.ends_with("</html>\n") && html.len() < 300 << 10, "{record}: {} bytes", html.len());
            for word in ["<script", " src=", "href=\"http", "@import", "url(http"] {
                assert!(!html.contains(word), "{record}: {word}");
            }
            let lost = ledger["lost"].as_u64().expect("a number");
            if lost > 0 {
                let digits = html.split("id=\"lost\">").nth(1).and_then(|rest| rest.split('<').next());
                let shown = digits.map(|digits| digits.replace(',', ""));
                assert_eq!(shown, Some(lost.to_string()), "{record}");
            }
        }
    }
}
