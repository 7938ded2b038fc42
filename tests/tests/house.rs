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

/// What strangers wrote is judged without any privilege: after all are given up, or on a thread that has none.
#[test]
fn nobody_judges_with_privileges() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/whydrop/src"));
    let mut files = Vec::new();
    collect(root, &mut files);
    let call = concat!("whydrop_checks::", "judge(");
    let judging: Vec<&Path> = files
        .iter()
        .filter(|path| read(path).contains(call))
        .filter_map(|path| path.strip_prefix(root).ok())
        .collect();
    let allowed = [Path::new("command/diagnose.rs"), Path::new("command/judging.rs")];
    assert!(judging.len() == 2 && allowed.iter().all(|file| judging.contains(file)), "{judging:?}");
}

/// What stands before the tests of a file.
fn without_tests(path: &Path) -> String {
    let text = read(path);
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// A rule that knows another one, or an assignment that knows any, is a list of who follows from whom in disguise.
#[test]
fn no_rule_names_another_and_the_assignment_names_none() {
    let checks = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/checks/src"));
    let mut files = vec![];
    collect(&checks.join("rules"), &mut files);
    let is_test = |path: &PathBuf| path.file_stem().is_some_and(|s| s.to_string_lossy().ends_with("tests"));
    files.retain(|path| !is_test(path));
    let text_of = |path: &PathBuf| (path.clone(), without_tests(path));
    let rules: Vec<(PathBuf, String)> =
        files.iter().map(text_of).filter(|(_, text)| text.contains("pub const CAUSE: Cause")).collect();
    assert!(rules.len() > 50, "the rules were not found");
    let id = |text: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("id: \""))?;
        line.split('"').next().map(str::to_owned)
    };
    let causes: Vec<String> = rules.iter().filter_map(|(_, text)| id(text)).collect();
    let module = |path: &Path| -> (String, String) {
        let name = |part: Option<&std::ffi::OsStr>| part.map(|s| s.to_string_lossy().into_owned());
        let layer = name(path.parent().and_then(Path::file_name)).unwrap_or_default();
        (layer, name(path.file_stem()).unwrap_or_default())
    };
    for path in files {
        let (text, (own_layer, own_name)) = (without_tests(&path), module(&path));
        for (other, _) in rules.iter().filter(|(other, _)| *other != path) {
            let (layer, name) = module(other);
            let mut refused = vec![format!("{layer}::{name}::CAUSE"), format!("{layer}::{name}::RULE")];
            if own_layer == layer {
                refused.extend([format!("super::{name}::CAUSE"), format!("super::{name}::RULE")]);
            }
            for word in refused {
                assert!(!text.contains(&word), "{own_layer}/{own_name} imports the rule {word}");
            }
        }
        // In its own file a cause is named once, where it is defined.
        let own = id(&text);
        for cause in causes.iter().filter(|cause| Some(*cause) != own.as_ref()) {
            let literal = format!("\"{cause}\"");
            assert!(!text.contains(&literal), "{own_layer}/{own_name} names {literal}");
        }
    }
    let mut assign = vec![];
    collect(&checks.join("assign"), &mut assign);
    for path in assign.iter().filter(|path| !is_test(path)) {
        let text = without_tests(path);
        assert!(!text.contains("rules::"), "{} imports a rule", path.display());
        for cause in &causes {
            assert!(!text.contains(cause.as_str()), "{} names {cause}", path.display());
        }
    }
}
