//! The JSON document: its schema is the one that is checked in, and its shape is the contract's.

use crate::cases;
use whydrop_model::Lang;
use whydrop_report::json;

const SCHEMA: &str = include_str!("../../../../docs/report.schema.json");

#[test]
fn the_schema_that_is_checked_in_is_current() {
    let mut current = Vec::new();
    json::pretty(&json::schema(), &mut current).unwrap();
    let current = String::from_utf8(current).unwrap();
    assert!(SCHEMA == current, "docs/report.schema.json is old: run `cargo xtask gen`");
}

fn document(report: &whydrop_model::Report, lang: Lang) -> serde_json::Value {
    let mut out = Vec::new();
    json::write(report, lang, "0.1.0", &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn the_source_case_has_the_shape_of_the_contract() {
    let doc = document(&cases::source_case(), Lang::En);
    assert_eq!(doc["schema"], "whydrop.report.v1");
    assert_eq!(doc["tool"]["version"], "0.1.0");
    assert_eq!(doc["host"]["kernel"], "6.1.0-56-amd64");
    assert_eq!(doc["verdict"], "loss");
    assert_eq!(doc["targets"][0]["id"], "docker:nginx");
    let finding = &doc["findings"][0];
    assert_eq!((&finding["id"], &finding["layer"]), (&"f1".into(), &"netfilter".into()));
    assert_eq!(finding["direction"], "receive");
    assert_eq!(finding["evidence"][0]["reproduce"], "nsenter -t 4123 -n iptables-nft -nvL INPUT");
    assert_eq!(finding["evidence"][1]["reproduce"], serde_json::Value::Null);
    // Commands run inside the namespace of their target: without nsenter.
    let fix = &finding["fixes"][0];
    assert_eq!(
        fix["commands"][0],
        serde_json::json!({"target": "docker:nginx", "argv": ["iptables-nft", "-D", "INPUT", "1"]})
    );
    assert_eq!(fix["undo"][0]["argv"][1], "-I");
    let probe = &doc["probes"][0];
    assert_eq!(probe["return"]["loss"], 0.31);
    assert_eq!(probe["rtt_ms"]["avg"], 0.4);
    let ledger = &doc["ledger"];
    assert_eq!(ledger["lost"], 33);
    assert_eq!(ledger["entries"][0]["packets"], 14);
    assert_eq!(doc["coverage"][4]["status"], "absent");
}

#[test]
fn what_is_unknown_is_null_and_never_zero() {
    let mut report = cases::source_case();
    report.findings[0].packets_lost = None;
    report.probes = vec![cases::probe(0, 0, 0)];
    let doc = document(&report, Lang::En);
    assert!(doc["findings"][0]["packets_lost"].is_null());
    for key in ["loss", "loss_ci95", "rtt_ms", "forward", "return"] {
        let probe = doc["probes"][0].as_object().unwrap();
        assert!(probe.contains_key(key) && probe[key].is_null(), "{key}");
    }
}

#[test]
fn only_sentences_follow_the_language() {
    let strip = |mut doc: serde_json::Value| {
        doc["lang"] = "".into();
        for finding in doc["findings"].as_array_mut().unwrap() {
            for key in ["summary", "explanation", "explains"] {
                finding[key] = serde_json::Value::Null;
            }
            for evidence in finding["evidence"].as_array_mut().unwrap() {
                evidence["claim"] = serde_json::Value::Null;
            }
            for fix in finding["fixes"].as_array_mut().unwrap() {
                for key in ["title", "persist", "caution"] {
                    fix[key] = serde_json::Value::Null;
                }
            }
        }
        for note in doc["notes"].as_array_mut().unwrap() {
            note["text"] = serde_json::Value::Null;
        }
        doc
    };
    let report = cases::source_case();
    let (en, zh) = (document(&report, Lang::En), document(&report, Lang::Zh));
    assert_eq!((&en["lang"], &zh["lang"]), (&"en".into(), &"zh".into()));
    assert_eq!(strip(en), strip(zh));
}

#[test]
fn hostile_names_reach_no_terminal() {
    let mut out = Vec::new();
    json::write(&cases::hostile(), Lang::En, "0.1.0", &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')));
}
