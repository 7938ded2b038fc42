//! The drawings of `whydrop watch` in the README are what it draws, but for the numbers.

use std::collections::BTreeMap;
use whydrop_tests::{Screen, is_root, whydrop};

/// As long as the README's `lab`: longer names are cut elsewhere.
const NAME: &str = "rdm";

/// What does not differ from run to run: words, with 0 for each number, without bars and the kernel's version.
fn shape(line: &str) -> String {
    let number = |word: &str| {
        let mut out = String::new();
        for c in word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }) {
            if !(c == '0' && out.ends_with('0')) {
                out.push(c);
            }
        }
        out.replace("0,0", "0")
    };
    let is_bar = |word: &str| word.chars().all(|c| ".:|".contains(c));
    let words = line.replace(NAME, "lab");
    let mut words: Vec<String> = words.split_whitespace().filter(|word| !is_bar(word)).map(number).collect();
    if line.starts_with("whydrop watch") {
        words.remove(words.len().saturating_sub(2));
    }
    words.join(" ")
}

/// What stands on the screen now, in one line: where it is broken depends on how long the numbers are.
fn drawn(text: &str) -> String {
    let mut rows: BTreeMap<usize, String> = BTreeMap::new();
    for piece in text.split("\u{1b}[K") {
        let Some((before, line)) = piece.rsplit_once(";1H") else { continue };
        let row = before.rsplit_once('[').and_then(|(_, row)| row.parse().ok());
        let tone = line.strip_prefix('\u{1b}').and_then(|rest| rest.split_once('m'));
        rows.extend(row.map(|row| (row, shape(tone.map_or(line, |(_, text)| text)))));
    }
    joined(rows.into_values())
}

fn joined(shapes: impl Iterator<Item = String>) -> String {
    shapes.filter(|shape| !shape.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The block that begins with this command.
fn block<'t>(readme: &'t str, command: &str) -> Vec<&'t str> {
    let (_, rest) = readme.split_once(&format!("$ {command}\n")).expect("the command stands in the README");
    rest.lines().take_while(|line| *line != "```").collect()
}

#[test]
fn the_readme_shows_what_watch_draws() {
    if !is_root() {
        return;
    }
    let lab = |words: &[&str]| {
        let done = whydrop().arg("lab").args(words).args(["--name", NAME]).output().expect("whydrop starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    lab(&["up", "netfilter.drop_rule"]);
    for (readme, lang) in
        [(include_str!("../../README.md"), ""), (include_str!("../../README.zh-CN.md"), "--lang zh ")]
    {
        let targets = "netns:lab-server netns:lab-client";
        let command = format!("whydrop lab up netfilter.drop_rule && whydrop watch {lang}{targets}");
        let wanted = joined(block(readme, &command).into_iter().map(shape));
        let mut screen = Screen::start(&format!("{lang}{}", targets.replace("lab", NAME)), 80, 24);
        screen.wait_until(&wanted, |text| drawn(text) == wanted);
        screen.press("q");
        screen.end();
    }
    lab(&["down"]);
}

#[test]
fn a_shape_is_what_stays() {
    assert_eq!(
        shape("> 1  rdm-server i..   1,114  22.3   .:||  drop_rule"),
        shape("> 1 lab-server i..  7 1.0  | drop_rule")
    );
    assert_eq!(
        shape("whydrop watch  LIVE 10:00:04  a  6.1.0-56  tp_btf"),
        "whydrop watch LIVE 0:0:0 a tp_btf"
    );
    assert_ne!(shape("A rule drops 30 %"), shape("A rule drops"));
}
