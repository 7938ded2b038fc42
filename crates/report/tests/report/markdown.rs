//! The report as Markdown.

use crate::cases;
use whydrop_model::{Lang, Report};
use whydrop_report::markdown;

fn render(report: &Report, lang: Lang) -> String {
    let mut out = Vec::new();
    markdown::write(report, lang, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_source_case_reads_as_a_ticket() {
    let text = render(&cases::source_case(), Lang::En);
    assert!(text.starts_with("# LOSS: 28 of 50 SYNs to 172.17.0.2:80 lost or late. 3 causes"), "{text}");
    assert!(text.contains("| 1 | nginx filter INPUT, rule 1 | 14 |\n"), "{text}");
    assert!(text.contains("| | unexplained | 0 |\n| | total | 33 |"), "{text}");
    assert!(text.contains("\n    nsenter -t 4123 -n tc qdisc del dev eth0 root\n"), "{text}");
}

#[test]
fn hostile_names_are_neither_markup_nor_control() {
    for lang in [Lang::En, Lang::Zh] {
        let text = render(&cases::hostile(), lang);
        assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{text}");
        let prose = text.lines().filter(|l| !l.starts_with("    "));
        assert!(prose.clone().all(|l| !l.contains("<script>")), "{text}");
    }
}
