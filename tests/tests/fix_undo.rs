//! `whydrop undo`: all is as before, once, wherever a crash fell and whoever else was at it.

use std::time::Duration;
use whydrop_tests::command;
use whydrop_tests::fixing::{Scene, said, wait_until};

/// Milliseconds from the journal's first file to SIGKILL: before, between and behind the steps.
const MOMENTS: [u64; 8] = [0, 1, 2, 4, 7, 12, 40, 200];

#[test]
fn a_killed_fix_is_taken_back_once() {
    let scene = Scene::new("undo-killed");
    let _traffic = scene.traffic();
    let before = scene.rules();
    for moment in MOMENTS {
        let mut child = scene.fix("300ms", &["--yes", "--only", "f1"]).spawn().expect("whydrop starts");
        wait_until("a record", || !scene.records().is_empty());
        std::thread::sleep(Duration::from_millis(moment));
        command(&format!("kill -KILL {}", child.id()));
        child.wait().expect("an end");
        for _ in 0..2 {
            let output = scene.undo(&[]).output().expect("whydrop starts");
            assert!(output.status.success(), "after {moment} ms: {}", said(&output));
            assert_eq!(scene.rules(), before, "after {moment} ms: {}", said(&output));
        }
        scene.forget();
    }
}

#[test]
fn a_killed_undo_can_be_tried_again() {
    let scene = Scene::new("undo-again");
    let _traffic = scene.traffic();
    let before = scene.rules();
    for moment in MOMENTS {
        let output = scene.fix("300ms", &["--yes", "--only", "f1"]).output().expect("whydrop starts");
        assert_ne!(scene.rules(), before, "{}", said(&output));
        let mut child = scene.undo(&[]).spawn().expect("whydrop starts");
        std::thread::sleep(Duration::from_millis(3 * moment));
        // It may have ended by itself.
        child.kill().expect("killed");
        child.wait().expect("an end");
        let output = scene.undo(&[]).output().expect("whydrop starts");
        assert!(output.status.success(), "after {moment} ms: {}", said(&output));
        assert_eq!(scene.rules(), before, "after {moment} ms: {}", said(&output));
        scene.forget();
    }
}

#[test]
fn many_at_once_do_it_once() {
    let scene = Scene::new("undo-many");
    let _traffic = scene.traffic();
    let before = scene.rules();
    let fixes: Vec<_> = (0..2)
        .map(|_| scene.fix("1s", &["--yes", "--only", "f1"]).spawn().expect("whydrop starts"))
        .collect();
    for child in fixes {
        child.wait_with_output().expect("an end");
    }
    let id = scene.records().into_iter().next().expect("a record");
    let undos: Vec<_> = (0..6).map(|_| scene.undo(&[&id]).spawn().expect("whydrop starts")).collect();
    for child in undos {
        child.wait_with_output().expect("an end");
    }
    while !said(&scene.undo(&[]).output().expect("whydrop starts")).contains("nothing to take back") {}
    assert_eq!(scene.rules(), before);
}

/// Somebody else put it back: nothing is left to be done, and nothing comes twice.
#[test]
fn what_is_as_before_already_stays_so() {
    let scene = Scene::new("undo-before");
    let _traffic = scene.traffic();
    let before = scene.rules();
    scene.fix("500ms", &["--yes", "--only", "f1"]).output().expect("whydrop starts");
    scene.restore(&before);
    let output = scene.undo(&[]).output().expect("whydrop starts");
    assert!(output.status.success() && said(&output).contains("as before already"), "{}", said(&output));
    assert_eq!(scene.rules(), before);
}

/// A record that cannot be read, and a namespace that is gone, keep nobody from taking back the rest.
#[test]
fn what_is_in_the_way_is_named_and_skipped() {
    let scene = Scene::new("undo-skip");
    let _traffic = scene.traffic();
    let before = scene.rules();
    scene.fix("500ms", &["--yes", "--only", "f1"]).output().expect("whydrop starts");
    assert_ne!(scene.rules(), before);
    let other = Scene::with_journal("undo-gone", scene.journal());
    let traffic = other.traffic();
    other.fix("500ms", &["--yes", "--only", "f1"]).output().expect("whydrop starts");
    drop(traffic);
    let gone = other.server.name().to_owned();
    drop(other);
    std::fs::write(scene.journal().join("journal/99990101T000000Z-1.json"), "{").expect("written");
    command(&format!("mkfifo {}", scene.journal().join("journal/99990101T000000Z-2.json").display()));
    for arguments in [&["--list"][..], &[]] {
        let output = scene.undo(arguments).output().expect("whydrop starts");
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("skipped: cannot find the change 99990101T000000Z-1"), "{text}");
        assert!(text.contains("skipped: cannot find the change 99990101T000000Z-2"), "{text}");
        assert!(arguments.contains(&"--list") || text.contains(&gone), "{text}");
    }
    assert_eq!(scene.rules(), before);
}

/// A journal that cannot be written must not make each try add another copy.
#[test]
fn a_read_only_journal_makes_no_copies() {
    let scene = Scene::new("undo-readonly");
    let _traffic = scene.traffic();
    let before = scene.rules();
    scene.fix("500ms", &["--yes", "--only", "f1"]).output().expect("whydrop starts");
    for _ in 0..3 {
        let output = scene.undo_read_only().output().expect("whydrop starts");
        assert!(said(&output).contains("the journal does not know"), "{}", said(&output));
        assert_eq!(scene.rules(), before, "{}", said(&output));
    }
    // And nothing is changed that could not be written down.
    let output = scene.fix_read_only("500ms").output().expect("whydrop starts");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(scene.rules(), before);
}
