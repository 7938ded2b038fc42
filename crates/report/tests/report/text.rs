//! The text report: properties that hold for every report, language and style.

use crate::cases::{self, text};
use whydrop_model::probe::Http;
use whydrop_model::{Lang, Report};
use whydrop_report::text::Options;

const LANGS: [Lang; 2] = [Lang::En, Lang::Zh];

fn all() -> [(&'static str, Report); 5] {
    [
        ("source case", cases::source_case()),
        ("clear", cases::clear()),
        ("inconclusive", cases::inconclusive()),
        ("twenty", cases::twenty()),
        ("hostile", cases::hostile()),
    ]
}

/// Every report in every language and style that is made for reading.
fn each(mut check: impl FnMut(&str, &Report, &Options, &str)) {
    for (name, report) in all() {
        for lang in LANGS {
            for plain in [false, true] {
                let options = Options { lang, plain, ..Options::default() };
                check(name, &report, &options, &text(&report, &options));
            }
        }
    }
}

#[test]
fn the_source_case_reads_as_designed() {
    let stored = [include_str!("source_case.en.txt"), include_str!("source_case.zh.txt")];
    for (lang, stored) in LANGS.into_iter().zip(stored) {
        let text = text(&cases::source_case(), &Options { lang, ..Options::default() });
        assert!(text == stored, "new text, to be read and stored if it is better:\n{text}");
    }
}

/// Columns in a terminal that draws characters of ambiguous width two wide.
fn wide(line: &str) -> usize {
    unicode_width::UnicodeWidthStr::width_cjk(line)
}

fn is_command(line: &str) -> bool {
    ["nsenter ", "whydrop "].iter().any(|word| line.contains(word))
}

#[test]
fn the_first_line_is_the_verdict_in_one_sentence() {
    each(|name, _, options, text| {
        let first = text.lines().next().unwrap_or_default();
        let words = match options.lang {
            Lang::En => ["LOSS", "CLEAR", "UNSURE"],
            Lang::Zh => ["丢包", "正常", "无法定论"],
        };
        assert!(words.iter().any(|w| first.starts_with(w)), "{name}: {first}");
        assert!(wide(first) <= 80, "{name}: {first}");
    });
}

#[test]
fn the_last_block_is_the_next_command() {
    for lang in LANGS {
        for (name, report) in all() {
            let text = text(&report, &Options { lang, ..Options::default() });
            let label = if lang == Lang::En { "Next " } else { "下一步 " };
            let next = text.lines().position(|l| l.starts_with(label)).expect(name);
            assert!(text.lines().skip(next).all(|l| l.contains("whydrop ")), "{name}: {text}");
        }
    }
}

#[test]
fn the_rows_of_the_ledger_add_up() {
    for (name, report) in all() {
        for every_cause in [false, true] {
            let text = text(&report, &Options { every_cause, ..Options::default() });
            let rows = text.lines().skip_while(|l| !l.starts_with("where ")).skip(1);
            let rows = rows.take_while(|l| l.starts_with("  "));
            let number = |line: &str| -> Option<u64> {
                let word = line.trim_end_matches(['#', ' ']).rsplit(' ').next()?;
                word.replace(',', "").parse().ok()
            };
            let sum: u64 = rows.filter_map(number).sum();
            if report.ledger.lost > 0 {
                assert_eq!(sum, report.ledger.lost, "{name}: {text}");
                assert!(text.contains("unexplained  "), "{name}: {text}");
            }
        }
    }
}

#[test]
fn unexplained_is_printed_even_when_it_is_nothing() {
    for lang in LANGS {
        let text = text(&cases::source_case(), &Options { lang, ..Options::default() });
        let word = if lang == Lang::En { "unexplained" } else { "未查明" };
        let row = text.lines().find(|l| l.trim_start().starts_with(word)).expect("a row");
        assert!(row.ends_with("  0"), "{row}");
    }
}

#[test]
fn an_unexplained_loss_is_shown_with_its_place_and_what_to_ask() {
    let mut report = cases::clear();
    report.verdict = whydrop_model::Verdict::Loss;
    cases::charge(&mut report, 12);
    for lang in LANGS {
        for plain in [false, true] {
            let text = text(&report, &Options { lang, plain, ..Options::default() });
            for word in
                ["TCP_ZEROWINDOW", "tcp_data_queue", "app.slow_reader", "whydrop explain TCP_ZEROWINDOW"]
            {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }
}

#[test]
fn a_clear_report_is_short() {
    let mut report = cases::clear();
    let note = report.notes[0].clone();
    report.notes.extend(std::iter::repeat_n(note, 40));
    for lang in LANGS {
        let text = text(&report, &Options { lang, ..Options::default() });
        assert!(text.lines().count() <= 6, "{text}");
    }
}

#[test]
fn requests_that_the_other_side_ended_are_said_although_nothing_was_lost() {
    let mut report = cases::clear();
    let probe = &mut report.probes[0];
    (probe.transmitted, probe.received, probe.lost, probe.rtt_ms) = (3, 0, 3, None);
    probe.http = Some(Http { error: Some("reset".into()), ..Http::default() });
    for lang in LANGS {
        let text = text(&report, &Options { lang, ..Options::default() });
        let first = text.lines().next().unwrap();
        assert!(
            first.contains("no packet lost, but 3 of 3 requests to") || first.contains("3 个失败"),
            "{first}"
        );
        assert!(wide(first) <= 80, "{first}");
    }
}

#[test]
fn a_clear_report_shows_whole_notes_where_there_is_room() {
    let mut report = cases::clear();
    report.notes[0].text =
        cases::phrase("the policy is DROP and cost nothing in the window, whatever was sent", "-");
    report.notes[0].cause = Some("netfilter.drop_policy".into());
    let text = text(&report, &Options::default());
    assert!(text.contains("(netfilter.drop_policy)\n") && text.lines().count() == 5, "{text}");
}

#[test]
fn no_line_is_longer_than_80_columns_except_commands() {
    each(|name, _, _, text| {
        for line in text.lines().filter(|l| !is_command(l)) {
            assert!(wide(line) <= 80, "{name}: {} columns: {line}", wide(line));
        }
    });
}

#[test]
fn no_character_is_of_ambiguous_width() {
    each(|name, _, _, text| {
        for line in text.lines() {
            let narrow = unicode_width::UnicodeWidthStr::width(line);
            assert_eq!(narrow, wide(line), "{name}: {line}");
        }
    });
}

#[test]
fn labels_of_a_cause_share_one_column() {
    for lang in LANGS {
        let text = text(&cases::source_case(), &Options { lang, ..Options::default() });
        let labels = ["rule ", "evidence ", "check ", "fix, ", "规则 ", "证据 ", "自行核对 ", "修复，"];
        let mut columns: Vec<usize> = Vec::new();
        for line in text.lines().filter(|l| l.starts_with("  ")) {
            if labels.iter().any(|l| line.trim_start().starts_with(l)) {
                let value = line.trim_start().find("  ").expect("two spaces after a label");
                let (label, rest) = line.trim_start().split_at(value);
                let indent = line.len() - line.trim_start().len();
                let gap = rest.len() - rest.trim_start().len();
                columns.push(indent + wide(label) + gap);
            }
        }
        assert!(columns.len() >= 10 && columns.iter().all(|c| *c == 14), "{columns:?}\n{text}");
    }
}

#[test]
fn english_is_pure_ascii() {
    each(|name, _, options, text| {
        assert!(options.lang != Lang::En || text.is_ascii(), "{name}: {text}");
    });
}

#[test]
fn colour_says_nothing_that_words_do_not() {
    for (name, report) in all() {
        for lang in LANGS {
            let plain = text(&report, &Options { lang, ..Options::default() });
            let colour = text(&report, &Options { lang, colour: true, ..Options::default() });
            assert!(!plain.contains('\x1b'), "{name}");
            let mut stripped = String::new();
            let mut rest = colour.as_str();
            while let Some((before, after)) = rest.split_once('\x1b') {
                stripped += before;
                rest = after.split_once('m').expect("a sequence ends").1;
            }
            assert_eq!(stripped + rest, plain, "{name}");
        }
    }
}

#[test]
fn hostile_names_are_shown_escaped_and_bounded() {
    each(|name, _, _, text| {
        assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{name}");
    });
    let text = text(&cases::hostile(), &Options::default());
    assert!(text.contains(r"e\u{1b}[31m\u{d}\u{202e}<script>"), "{text}");
    // A command is never cut, but it cannot steer the terminal either.
    assert!(text.contains(r"nsenter -t 4123 -n ip link show $'e\033[31m\015\342\200\256<script>"), "{text}");
    assert!(text.lines().filter(|l| !is_command(l)).count() < 300, "{text}");
}

#[test]
fn both_languages_carry_the_same_ids_numbers_and_commands() {
    // What must not be translated: words with a dot or a dash or capitals only, and numbers.
    let tokens = |text: &str| {
        let mut tokens: Vec<String> = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || "._:/-".contains(c)))
            .map(|w| w.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
            .filter(|w| w.contains(['.', '/']) || w.chars().any(|c| c.is_ascii_digit()))
            .map(str::to_owned)
            .collect();
        tokens.sort();
        tokens
    };
    for (name, report) in all().into_iter().filter(|(n, _)| *n != "hostile") {
        let [en, zh] = LANGS.map(|lang| text(&report, &Options { lang, ..Options::default() }));
        let (en, zh) = (tokens(&en), tokens(&zh));
        let missing: Vec<_> = en.iter().filter(|t| !zh.contains(t) && t.contains('.')).collect();
        assert!(missing.is_empty(), "{name}: only in English: {missing:?}");
    }
}

#[test]
fn plain_text_has_no_columns_and_no_bars() {
    for (name, report) in all().into_iter().filter(|(n, _)| *n != "hostile") {
        for lang in LANGS {
            let text = text(&report, &Options { lang, plain: true, ..Options::default() });
            for line in text.lines() {
                assert!(!line.contains("  "), "{name}: {line}");
                let bytes = line.as_bytes();
                let bar =
                    bytes.windows(3).any(|w| w[0].is_ascii_punctuation() && w[0] == w[1] && w[1] == w[2]);
                assert!(!bar, "{name}: {line}");
            }
        }
    }
}

#[test]
fn beyond_eight_causes_each_takes_one_line() {
    let report = cases::twenty();
    let headings =
        |text: &str| text.lines().filter(|l| l.contains("critical  ") || l.contains("critical   ")).count();
    let short = text(&report, &Options::default());
    let full = text(&report, &Options { every_cause: true, ..Options::default() });
    assert_eq!((headings(&short), short.matches("  check").count()), (20, 8), "{short}");
    assert_eq!((headings(&full), full.matches("  check").count()), (20, 20), "{full}");
    assert!(short.contains("--brief"));
}

#[test]
fn brief_is_one_line_of_fields_for_each_cause() {
    for lang in LANGS {
        let brief = text(&cases::twenty(), &Options { lang, brief: true, ..Options::default() });
        assert_eq!(brief.lines().count(), 20);
        assert_eq!(
            brief.lines().next(),
            Some("critical\tnetfilter.drop_rule\tdocker:nginx\tfilter INPUT, rule 1\t20000")
        );
        assert!(brief.trim_end().ends_with("\t?"), "{brief}");
    }
}

#[test]
fn notes_alarm_nobody() {
    for lang in LANGS {
        let text = text(&cases::source_case(), &Options { lang, colour: true, ..Options::default() });
        let label = if lang == Lang::En { "Not a cause" } else { "不是原因" };
        let notes = text.split_once(label).expect("notes").1;
        let innocent = notes.lines().find(|l| l.contains("innocent") || l.contains("无害")).expect("a note");
        for word in ["loss", "error", "warning", "\x1b"] {
            assert!(!innocent.contains(word), "{innocent}");
        }
    }
}

#[test]
fn what_could_not_be_looked_at_is_named_with_what_it_needs() {
    let text = text(&cases::inconclusive(), &Options::default());
    assert!(text.contains("drop_events of nginx (needs CAP_BPF)"), "{text}");
    assert!(text.contains("iptables_legacy, nftables of nginx (needs CAP_NET_ADMIN)"), "{text}");
    assert!(text.contains("Next  sudo whydrop diagnose docker:nginx --probe tcp://172.17.0.2:80"), "{text}");
}

#[test]
fn one_witness_and_low_confidence_are_said() {
    let mut report = cases::source_case();
    report.findings[0].confidence = 0.7;
    report.findings[0].evidence.truncate(1);
    let text = text(&report, &Options::default());
    assert!(text.contains("Probably: A rule drops"), "{text}");
    assert!(text.contains("evidence  one witness: its counter rose by 14"), "{text}");
}
