//! Rules of the house that neither the compiler nor clippy can hold. STYLE.md says why.

use std::path::{Path, PathBuf};

/// A longer file has more than one subject.
const LONGEST_FILE: usize = 800;

fn sources() -> Vec<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut found = Vec::new();
    for directory in ["crates", "xtask", "tests", "benches"] {
        collect(&root.join(directory), &mut found);
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_file_has_one_subject() {
    for path in sources() {
        let lines = read(&path).lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines: split it by subject", path.display());
    }
}

#[test]
fn a_file_begins_by_saying_what_it_is() {
    for path in sources() {
        assert!(read(&path).starts_with("//!"), "{} does not begin with //!", path.display());
    }
}

#[test]
fn only_host_opens_the_door_to_unsafe() {
    // In two parts, so that this file does not find itself.
    let door = concat!("allow(", "unsafe_code");
    for path in sources().iter().filter(|path| !path.starts_with(host())) {
        assert!(!read(path).contains(door), "{}: unsafe code belongs in crates/host", path.display());
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let block = concat!("unsafe", " {");
    for path in sources().iter().filter(|path| path.starts_with(host())) {
        let text = read(path);
        let lines: Vec<&str> = text.lines().collect();
        for (index, _) in lines.iter().enumerate().filter(|(_, line)| line.contains(block)) {
            let above = &lines[index.saturating_sub(8)..=index];
            let explained = above.iter().any(|line| line.contains("SAFETY:"));
            assert!(explained, "{}:{}: unsafe without a SAFETY line", path.display(), index + 1);
        }
    }
}

fn host() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join("crates/host")
}

#[test]
fn nothing_is_left_for_later() {
    let markers = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("dead", "_code")];
    for path in sources() {
        let text = read(&path);
        for marker in markers {
            assert!(!text.contains(marker), "{} contains {marker}", path.display());
        }
    }
}
