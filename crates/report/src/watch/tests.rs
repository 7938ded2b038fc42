//! Screens of every size, the order of the list, and keys that do nothing to the machine.

use super::*;
use crate::layout::width;
use whydrop_model::report::{FlowsSeen, Ledger, LedgerEntry};
use whydrop_model::{Direction, Entry, Finding, Phrase, Role, Severity, Target, TargetKind};

fn finding(subject: &str, packets: u64) -> Finding {
    Finding {
        cause: "netfilter.drop_rule".into(),
        target: "netns:web".into(),
        stage: "netfilter.input".into(),
        direction: Some(Direction::Receive),
        subject: subject.into(),
        severity: Severity::Critical,
        confidence: 0.97,
        packets_lost: Some(packets),
        counted_by: None,
        summary: Phrase { en: "A rule drops packets.".into(), zh: "一条规则丢弃数据包。".into() },
        explanation: Phrase::same(""),
        exhibit: None,
        handle: None,
        evidence: vec![],
        explains: vec![],
        fixes: vec![],
    }
}

fn round(second: u64, lost: &[(&str, u64)]) -> Round {
    let entries = lost.iter().enumerate().map(|(index, (_, packets))| LedgerEntry {
        cause: "netfilter.drop_rule".into(),
        target: "netns:web".into(),
        stage: "netfilter.input".into(),
        packets: *packets,
        source: "rule counter".into(),
        one_of: vec![],
        finding: Some(index),
    });
    let sum = lost.iter().map(|(_, n)| n).sum();
    let report = Report {
        hostname: "box".into(),
        kernel: "6.1.0".into(),
        started_at: String::new(),
        window_seconds: 1.0,
        targets: vec![Target {
            id: "netns:web".into(),
            kind: TargetKind::Netns,
            name: "web".into(),
            netns_inode: 1,
            pid: None,
            container: None,
            role: Role::Target,
            entry: Entry::Here,
            tenants: vec![],
        }],
        verdict: if lost.is_empty() { Verdict::Clear } else { Verdict::Loss },
        findings: lost.iter().map(|(subject, n)| finding(subject, *n)).collect(),
        notes: vec![],
        flows: vec![],
        flows_seen: FlowsSeen::default(),
        probes: vec![],
        probe_ways: vec![],
        ledger: Ledger {
            lost: sum,
            explained: sum,
            unexplained: 0,
            entries: entries.collect(),
            unexplained_at: vec![],
            uncounted: 0,
        },
        coverage: vec![],
        history: vec![],
    };
    let at = format!("12:00:{second:02}");
    Round {
        began: moment(second.saturating_sub(1)),
        ended_ns: moment(second).realtime_ns,
        at,
        second,
        report,
        counters: vec![],
        drops: vec![format!("a drop of {second}")],
        first_drops: BTreeMap::new(),
        changes: vec![],
    }
}

fn moment(second: u64) -> Moment {
    Moment { at: format!("12:00:{second:02}.000"), realtime_ns: second * 1_000_000_000 }
}

fn changed(second: u64, what: &str) -> Changed {
    let when = moment(second);
    let not_before_ns = when.realtime_ns;
    Changed { when, announced: true, not_before_ns, target: "web".into(), what: Phrase::same(what) }
}

fn texts(watch: &mut Watch, columns: usize, rows: usize) -> Vec<String> {
    watch.draw(columns, rows).into_iter().map(|line| line.text).collect()
}

#[test]
fn fits_every_size_in_both_languages_on_every_screen() {
    for lang in [Lang::En, Lang::Zh] {
        let mut watch = Watch::new("web, a very long name of a namespace".into(), 60, lang);
        assert_eq!(texts(&mut watch, 80, 24).len(), 24, "before the first round");
        watch.push(round(1, &[("filter INPUT, rule 1", 1_234_567), ("filter OUTPUT, rule 12", 3)]));
        for key in ['1', '2', '3', '4', '5', '6', '?', 'F', 'e', '\n'] {
            watch.key(if key == '\n' { Key::Enter } else { Key::Char(key) }, 1);
            for (columns, rows) in [(40, 12), (60, 15), (80, 24), (200, 60), (20, 4)] {
                let lines = texts(&mut watch, columns, rows);
                assert_eq!(lines.len(), rows, "{key:?} at {columns}x{rows}");
                for line in &lines {
                    assert!(width(line) <= columns, "{key:?} at {columns}: {line}");
                    assert!(!line.contains('\u{1b}'));
                }
            }
        }
    }
}

#[test]
fn no_number_is_cut_on_a_narrow_screen() {
    let mut watch = Watch::new("web".into(), 60, Lang::En);
    watch.push(round(1, &[("filter INPUT, rule 1", 12_345)]));
    for (columns, rows) in [(40, 12), (60, 15), (75, 24)] {
        let lines = texts(&mut watch, columns, rows);
        let row = lines.iter().find(|line| line.starts_with('>')).expect("the cause");
        assert!(row.ends_with("12345.0"), "{columns}: {row}");
    }
}

#[test]
fn shows_what_was_lost_with_its_rate_and_adds_up() {
    let mut watch = Watch::new("web".into(), 60, Lang::En);
    watch.push(round(1, &[("filter INPUT, rule 1", 10)]));
    watch.push(round(2, &[("filter INPUT, rule 1", 20)]));
    let lines = texts(&mut watch, 80, 24);
    assert!(
        lines.iter().any(|l| l.contains("filter INPUT, rule 1") && l.contains("30") && l.contains("20.0"))
    );
    assert!(lines[1].starts_with("LOSS") && lines[1].contains("30 lost"), "{}", lines[1]);
    assert_eq!(watch.lost(), 30);
    watch.push(round(3, &[]));
    assert!(texts(&mut watch, 80, 24)[1].starts_with("CLEAR"));
    assert!(watch.farewell()[1].contains("30"), "{:?}", watch.farewell());
}

#[test]
fn the_list_stays_still_after_a_key_and_the_cursor_follows_its_cause() {
    let mut watch = Watch::new("web".into(), 60, Lang::En);
    watch.push(round(1, &[("a", 10), ("b", 1)]));
    watch.key(Key::Down, 5);
    watch.push(round(6, &[("a", 0), ("b", 100)]));
    assert_eq!(watch.causes[0].place, "web a", "a key was pressed a second ago");
    watch.push(round(9, &[("a", 0), ("b", 100)]));
    assert_eq!(watch.causes[0].place, "web b");
    assert_eq!(watch.selected().map(|(number, _)| number), Some(1), "the cursor is still on b");
}

#[test]
fn holding_shows_the_round_that_was_held() {
    let mut watch = Watch::new("web".into(), 60, Lang::En);
    watch.push(round(1, &[("a", 10)]));
    watch.key(Key::Char(' '), 1);
    watch.push(round(2, &[]));
    let lines = texts(&mut watch, 80, 24);
    assert!(lines[0].contains("HELD") && lines[0].contains("12:00:01"), "{}", lines[0]);
    watch.key(Key::Char(']'), 2);
    assert!(texts(&mut watch, 80, 24)[0].contains("12:00:02"));
    watch.key(Key::Char(' '), 2);
    assert!(texts(&mut watch, 80, 24)[0].contains("LIVE"));
}

#[test]
fn a_loss_that_begins_names_what_was_changed_before() {
    let mut watch = Watch::new("web".into(), 60, Lang::En);
    watch.push(Round { changes: vec![changed(8, "rule -p udp -j DROP appeared")], ..round(8, &[]) });
    let at = |stage: &str| ("netns:web".to_owned(), stage.to_owned());
    let moment = |realtime_ns, at: &str| Moment { realtime_ns, at: at.into() };
    let elsewhere = (at("socket.receive_buffer"), moment(8_100_000_000, "12:00:08.100"));
    let first = (at("netfilter.input"), moment(8_500_000_000, "12:00:08.500"));
    let later = changed(10, "interface eth0 is gone");
    watch.push(Round {
        first_drops: BTreeMap::from([elsewhere, first]),
        changes: vec![later],
        ..round(9, &[("a", 10)])
    });
    let lines = texts(&mut watch, 100, 24).join(" ");
    assert!(lines.contains("since 12:00:08.500") && lines.contains("shortly before"), "{lines}");
    assert!(lines.contains("-j DROP") && !lines.contains("eth0 is gone"), "{lines}");
}

#[test]
fn going_back_shows_what_was_known_then() {
    let mut watch = Watch::new("web".into(), 60, Lang::En);
    watch.push(Round { changes: vec![changed(1, "early")], ..round(1, &[("a", 10)]) });
    watch.push(Round { changes: vec![changed(2, "late")], ..round(2, &[("a", 5), ("b", 7)]) });
    watch.key(Key::Char('['), 2);
    let lines = texts(&mut watch, 80, 24);
    assert!(lines[1].contains("10 lost"), "{}", lines[1]);
    assert!(!lines.iter().any(|line| line.contains("web b")), "{lines:#?}");
    watch.key(Key::Char('3'), 2);
    let lines = texts(&mut watch, 80, 24).join(" ");
    assert!(lines.contains("a drop of 1") && !lines.contains("a drop of 2"), "{lines}");
    watch.key(Key::Char('6'), 2);
    let lines = texts(&mut watch, 80, 24).join(" ");
    assert!(lines.contains("early") && !lines.contains("late"), "{lines}");
    watch.key(Key::Char(' '), 2);
    watch.key(Key::Char('1'), 2);
    assert!(texts(&mut watch, 80, 24)[1].contains("22 lost"));
}

#[test]
fn a_filter_a_target_and_an_order_narrow_the_list() {
    let mut watch = Watch::new("web".into(), 60, Lang::En);
    watch.push(round(1, &[("zebra", 10), ("ant", 1)]));
    let shows = |watch: &mut Watch, word: &str| texts(watch, 80, 24).iter().any(|line| line.contains(word));
    for key in "/zebq".chars().map(Key::Char).chain([Key::Backspace, Key::Enter]) {
        assert_eq!(watch.key(key, 1), Ask::Draw, "letters are no commands while a filter is typed");
    }
    assert!(shows(&mut watch, "web zebra") && !shows(&mut watch, "web ant") && shows(&mut watch, "/zeb"));
    watch.key(Key::Escape, 1);
    assert!(shows(&mut watch, "web ant"));
    watch.key(Key::Char('t'), 1);
    assert!(shows(&mut watch, "[web]"));
    watch.key(Key::Char('t'), 1);
    assert!(!shows(&mut watch, "[web]"));
    watch.key(Key::Char('s'), 1);
    watch.key(Key::Char('s'), 1);
    assert_eq!(watch.causes[0].place, "web ant");
    watch.key(Key::Char('G'), 1);
    assert_eq!(watch.selected().map(|(_, cause)| cause.place.as_str()), Some("web zebra"));
}

#[test]
fn what_is_kept_has_an_end_and_the_sum_stays() {
    let mut watch = Watch::new("web".into(), 3, Lang::En);
    let names: Vec<String> = (0..MOST_CAUSES + 50).map(|n| format!("rule {n}")).collect();
    for (second, name) in (1..).zip(&names) {
        watch.push(round(second, &[(name.as_str(), 2)]));
    }
    assert_eq!((watch.causes.len(), watch.rounds.len()), (MOST_CAUSES, 3));
    assert_eq!(watch.lost(), 2 * names.len() as u64);
    assert_eq!(watch.farewell().len(), MOST_CAUSES + 3);
}

#[test]
fn no_key_does_anything_but_draw_quit_and_write() {
    let mut watch = Watch::new("web".into(), 60, Lang::En);
    watch.push(round(1, &[("a", 10)]));
    // In a filter all of them are letters.
    for byte in (0u8..=127).filter(|byte| *byte != b'/') {
        let asked = watch.key(Key::Char(char::from(byte)), 1);
        match byte {
            b'q' => assert_eq!(asked, Ask::Quit),
            b'w' => assert_eq!(asked, Ask::Write),
            b'+' | b'-' => assert_eq!(asked, Ask::Faster(byte == b'+')),
            _ => assert_eq!(asked, Ask::Draw),
        }
        assert_eq!(texts(&mut watch, 80, 24).len(), 24);
    }
}
