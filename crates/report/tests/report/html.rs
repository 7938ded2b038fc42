//! The HTML of a report: whole, self-contained, with the ledger's numbers and nothing that data can start.

use crate::cases;
use whydrop_model::{Lang, Report};
use whydrop_report::html;

fn page(report: &Report, lang: Lang) -> String {
    let mut out = vec![];
    html::write(report, &[], lang, &mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("UTF-8")
}

/// Elements without an end.
const VOID: [&str; 4] = ["!DOCTYPE", "meta", "br", "line"];

/// Panics unless every element is closed in order; gives the ids.
fn ids(html: &str) -> Vec<String> {
    let (mut open, mut ids) = (vec![], vec![]);
    let style = html.find("<style>").expect("a style")..html.find("</style>").expect("its end");
    let html = html.replacen(&html[style], "<style>", 1);
    for piece in html.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap_or_else(|| panic!("an open bracket: {piece:.80}"));
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap_or_default().to_owned();
        let id = tag.split(" id=\"").nth(1).and_then(|rest| rest.split('"').next());
        ids.extend(id.map(str::to_owned));
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "at {piece:.60}");
        } else if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} stay open");
    ids
}

#[test]
fn every_case_is_well_formed_and_self_contained() {
    let all =
        [cases::clear(), cases::source_case(), cases::inconclusive(), cases::hostile(), cases::twenty()];
    for report in &all {
        for lang in [Lang::En, Lang::Zh] {
            let html = page(report, lang);
            let mut ids = ids(&html);
            let all = ids.len();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), all, "an id stands twice");
            for word in
                ["<script", "src=", "javascript:", "@import", "url(http", "onload", "<link", "<iframe"]
            {
                assert!(!html.contains(word), "{word}");
            }
            let outside = html.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "");
            let link = outside.contains("href=\"http") || outside.contains("url(\"http");
            assert!(!link, "something from outside");
            assert!(html.len() < 300 << 10, "{} bytes", html.len());
            assert!(!html.chars().any(|c| c != '\n' && whydrop_model::shell::is_hostile(c)));
        }
    }
}

#[test]
fn the_picture_has_the_numbers_of_the_ledger() {
    let report = cases::source_case();
    let html = page(&report, Lang::En);
    let desc = html.split("-desc\">").nth(1).and_then(|rest| rest.split('<').next()).expect("a description");
    let lost: u64 = desc
        .split(" -")
        .skip(1)
        .map(|rest| rest.split(' ').next().unwrap_or_default().parse::<u64>().expect("a number"))
        .sum();
    assert_eq!(lost, report.ledger.lost, "{desc}");
    assert!(html.contains(&format!("id=\"lost\">{}<", report.ledger.lost)));
    for number in 1..=report.findings.len() {
        assert!(html.contains(&format!("class=\"number\">{number}<")), "no disc {number}");
        assert!(html.contains(&format!("id=\"f{number}\"")), "no card {number}");
    }
}

#[test]
fn what_data_say_is_text_and_nothing_else() {
    let html = page(&cases::hostile(), Lang::En);
    assert!(html.contains("&lt;script&gt;"), "shown as text");
    assert!(!html.contains("<script>"));
}

#[test]
fn the_way_on_a_terminal_has_the_same_numbers() {
    let options = whydrop_report::text::Options { way: true, ..Default::default() };
    let text = cases::text(&cases::source_case(), &options);
    let way: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("way")).collect();
    assert!(way.iter().any(|line| line.contains("-14") && line.contains("filter INPUT, rule 1")), "{text}");
    assert!(way.iter().any(|line| line.contains("-11") && line.contains("filter OUTPUT, rule 1")), "{text}");
    assert!(text.lines().all(|line| whydrop_report::layout::width(line) <= 80 || line.contains("nsenter")));
}

/// A scheme's colours by the name of their variable.
fn colours(block: &str) -> std::collections::BTreeMap<&str, [f64; 3]> {
    let colour = |digits: &str| {
        let wide: String = match digits.len() {
            3 => digits.chars().flat_map(|digit| [digit, digit]).collect(),
            _ => digits.to_owned(),
        };
        [0, 2, 4].map(|at| f64::from(u8::from_str_radix(&wide[at..at + 2], 16).expect("a colour")) / 255.0)
    };
    let all = block.split(';').filter_map(|rule| rule.trim().split_once("--")?.1.split_once(": #"));
    all.map(|(name, digits)| (name, colour(digits.trim()))).collect()
}

/// WCAG 2.1: relative luminance, and the contrast of two colours.
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
    let luminance = |[r, g, b]: [f64; 3]| 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn text_and_picture_stand_out_in_light_in_dark_and_on_paper() {
    let html = page(&cases::source_case(), Lang::En);
    let blocks: Vec<&str> = html.split(":root {").skip(1).filter_map(|rest| rest.split('}').next()).collect();
    assert_eq!(blocks.len(), 3, "light, dark and print");
    for block in blocks {
        let all = colours(block);
        let at_least = |front: &str, behind: &str, least: f64| {
            let seen = contrast(all[front], all[behind]);
            assert!(seen >= least, "{front} on {behind}: {seen:.2} in {block}");
        };
        for behind in ["bg", "card"] {
            for text in ["fg", "soft", "lossink"] {
                at_least(text, behind, 4.5);
            }
            for graphic in ["band", "loss"] {
                at_least(graphic, behind, 3.0);
            }
        }
        at_least("fg", "code", 4.5);
        at_least("discink", "disc", 4.5);
    }
    assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 0.01);
}
