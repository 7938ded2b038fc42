//! Every text that people read exists in English and Chinese, says the same placeholders and breaks no terminal.

use std::path::{Path, PathBuf};
use unicode_width::UnicodeWidthStr;
use whydrop_model::{Lang, Text};

/// What is wrong with a text, in words; empty if nothing is.
fn faults(text: Text) -> Vec<String> {
    let Text { en, zh } = text;
    let mut faults = vec![];
    if en.is_empty() || zh.is_empty() {
        faults.push("a language is empty".to_owned());
    }
    if text.placeholders(Lang::En) != text.placeholders(Lang::Zh) {
        faults.push(format!("placeholders {:?}", [Lang::En, Lang::Zh].map(|lang| text.placeholders(lang))));
    }
    if !en.is_ascii() {
        faults.push("English is not ASCII".to_owned());
    }
    // Ids, units and commands are the same in both, but for the case.
    if zh.is_ascii() && !zh.eq_ignore_ascii_case(en) {
        faults.push("Chinese holds no Chinese".to_owned());
    }
    let ambiguous = |c: &char| {
        let mut buffer = [0; 4];
        let alone: &str = c.encode_utf8(&mut buffer);
        alone.width() != alone.width_cjk()
    };
    let found: String = en.chars().chain(zh.chars()).filter(ambiguous).collect();
    if !found.is_empty() {
        faults.push(format!("terminals disagree about the width of {found}"));
    }
    faults
}

fn told(place: &str, text: Text) -> Option<String> {
    let faults = faults(text);
    (!faults.is_empty()).then(|| format!("{place}: {}\n  {}\n  {}\n", faults.join("; "), text.en, text.zh))
}

#[test]
fn each_fault_of_a_text_is_found() {
    let bad = [
        ("{n} lost", "丢了 {m} 个"),
        ("5 µs", "5 微秒"),
        ("lost", "lost!"),
        ("lost", ""),
        ("lost: more", "丢包…"),
        ("lost: more", "“丢包”"),
        ("lost: more", "丢包 → 更多"),
    ];
    for (en, zh) in bad {
        assert_eq!(faults(Text { en, zh }).len().min(1), 1, "{en} / {zh}");
    }
    assert_eq!(faults(Text { en: "{n} lost: 5 %", zh: "丢了 {n} 个：5%" }), Vec::<String>::new());
    assert_eq!(faults(Text { en: "{n} ms", zh: "{n} ms" }), Vec::<String>::new());
}

#[test]
fn texts_of_causes() {
    let wrong: Vec<String> = whydrop_checks::causes()
        .flat_map(|cause| {
            let sections = cause.sections().into_iter().flat_map(|(heading, text)| [heading, text]);
            sections.chain([cause.title]).filter_map(|text| told(cause.id, text))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn texts_in_the_sources() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates"));
    let (mut count, mut wrong) = (0, vec![]);
    for path in sources(root) {
        let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for (line, text) in texts(shipped(&source)) {
            count += 1;
            wrong.extend(told(&format!("{}:{line}", path.display()), text));
        }
    }
    assert!(count > 1000, "only {count} texts were found");
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a readable directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false if path.extension().is_some_and(|extension| extension == "rs") => vec![path],
            false => vec![],
        })
        .collect()
}

/// A source without its unit tests, which may hold anything.
fn shipped(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod ").next().unwrap_or(source)
}

/// The texts of a source, each with its line: `text!("en", "zh")` and `Text { en: "en", zh: "zh" }`. Comments and
/// what is no literal are passed over.
fn texts(source: &str) -> Vec<(usize, Text)> {
    let mut found = vec![];
    for (opening, between) in [("text!(", ","), ("en: ", ", zh:")] {
        for (at, _) in source.match_indices(opening) {
            let line = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
            if source[line..at].trim_start().starts_with("//") {
                continue;
            }
            let pair = literal(&source[at + opening.len()..]).and_then(|(en, rest)| {
                let (zh, _) = literal(rest.trim_start().strip_prefix(between)?)?;
                Some(Text { en: en.leak(), zh: zh.leak() })
            });
            found.extend(pair.map(|text| (source[..at].lines().count().max(1), text)));
        }
    }
    found
}

/// A string literal and what follows it; none if the source does not begin with one.
fn literal(source: &str) -> Option<(String, &str)> {
    let mut rest = source.trim_start().strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let at = rest.find(['"', '\\'])?;
        value.push_str(&rest[..at]);
        let (mark, after) = rest[at..].split_at(1);
        if mark == "\"" {
            return Some((value, after));
        }
        let escaped = after.chars().next()?;
        rest = &after[escaped.len_utf8()..];
        match escaped {
            'n' => value.push('\n'),
            '\n' => rest = rest.trim_start(),
            other => value.push(other),
        }
    }
}

#[test]
fn the_scanner_reads_rust() {
    let source = "x(text!(\n    \"a \\\"{n}\\\" \\\n     b\",\n    \"甲 {n}\",\n));\n// text!(\"c\", \"d\")\nText { en: \"e\", zh: \"f\" }";
    let read: Vec<(usize, &str, &str)> = texts(source).iter().map(|(n, t)| (*n, t.en, t.zh)).collect();
    assert_eq!(read, [(1, "a \"{n}\" b", "甲 {n}"), (7, "e", "f")]);
}
