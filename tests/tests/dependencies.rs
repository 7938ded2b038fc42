//! Each crate exists for what it may not do. This test holds the directions between them, and the licences of what
//! comes from outside.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate, what it may depend on, and why not on more.
const MAY_DEPEND_ON: [(&str, &[&str], &str); 8] = [
    (
        "whydrop-model",
        &["ipnet", "schemars", "serde", "serde_json"],
        "the nouns: a value can be stored, replayed and compared, so nothing here reads the machine or the clock",
    ),
    ("whydrop-facts", &["whydrop-model"], "knowledge as data: no I/O at run time"),
    (
        "whydrop-probe",
        &["whydrop-model", "etherparse"],
        "engines without sockets or clocks: tested without waiting and without root",
    ),
    (
        "whydrop-checks",
        &["whydrop-model", "whydrop-facts"],
        "a rule sees evidence, never the machine: live and recorded cannot be told apart",
    ),
    (
        "whydrop-report",
        &["whydrop-model", "whydrop-facts", "schemars", "serde", "serde_json", "strsim", "unicode-width"],
        "a renderer writes what it is given and looks nothing up",
    ),
    (
        "whydrop-host",
        &[
            "whydrop-model",
            "whydrop-probe",
            "aya",
            "bytes",
            "data-encoding",
            "etherparse",
            "h2",
            "http",
            "httparse",
            "ipnet",
            "jiff",
            "landlock",
            "libc",
            "netlink-bindings",
            "prost",
            "rustix",
            "rustls",
            "rustls-native-certs",
            "seccompiler",
            "serde",
            "serde_json",
            "socket2",
            "strsim",
            "thiserror",
            "tokio",
        ],
        "reads and acts, but does not judge",
    ),
    (
        "whydrop-lab",
        &["whydrop-model", "whydrop-host", "rustix", "serde", "serde_json", "socket2"],
        "sets up faults; knows nothing of the rules that must find them",
    ),
    (
        "whydrop",
        &[
            "whydrop-model",
            "whydrop-facts",
            "whydrop-probe",
            "whydrop-host",
            "whydrop-checks",
            "whydrop-report",
            "whydrop-lab",
            "anyhow",
            "clap",
            "clap_complete",
            "clap_mangen",
            "indicatif",
            "jiff",
            "rustix",
            "serde_json",
            "signal-hook",
            "thiserror",
        ],
        "joins the others; a new library here is a decision",
    ),
];

fn metadata(arguments: &[&str]) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().unwrap_or_else(|| panic!("cargo metadata has no list {field}"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("cargo metadata has no text {field} in {value}"))
}

#[test]
fn each_crate_depends_only_on_what_its_promise_allows() {
    let metadata = metadata(&["--no-deps"]);
    let packages: BTreeMap<&str, &Value> =
        list(&metadata, "packages").iter().map(|package| (text(package, "name"), package)).collect();
    for (name, allowed, reason) in MAY_DEPEND_ON {
        let package = packages.get(name).unwrap_or_else(|| panic!("no crate {name}"));
        for dependency in list(package, "dependencies") {
            // `kind` is null for a dependency of the built crate, else "dev" or "build".
            let used = text(dependency, "name");
            if dependency["kind"].is_null() {
                assert!(allowed.contains(&used), "{name} must not depend on {used}: {reason}");
            }
        }
        for used in allowed {
            let depends = list(package, "dependencies").iter().any(|one| text(one, "name") == *used);
            assert!(depends, "{name} may depend on {used}, but does not");
        }
    }
}

#[test]
fn every_crate_is_judged() {
    let metadata = metadata(&["--no-deps"]);
    for package in list(&metadata, "packages") {
        let (name, manifest) = (text(package, "name"), text(package, "manifest_path"));
        if manifest.contains("/crates/") {
            assert!(MAY_DEPEND_ON.iter().any(|(judged, ..)| *judged == name), "{name} has no promise here");
        }
    }
}

/// The page says of each library that is named somewhere in the workspace what it is for, and of no other.
#[test]
fn the_page_of_dependencies_is_complete() {
    let page = include_str!("../../docs/dependencies.md");
    let told: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let metadata = metadata(&["--no-deps"]);
    let named = list(&metadata, "packages").iter().flat_map(|package| list(package, "dependencies"));
    let named: BTreeSet<&str> =
        named.filter(|one| !one["source"].is_null()).map(|one| text(one, "name")).collect();
    assert_eq!(told, named, "docs/dependencies.md (left) and what the workspace depends on (right)");
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let deny = include_str!("../../deny.toml");
    let allowed =
        deny.lines().find_map(|line| line.strip_prefix("allow = ")).expect("deny.toml allows licences");
    let allowed: Vec<String> = serde_json::from_str(allowed).expect("a list in one line");
    for package in list(&metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]), "packages") {
        let licence = text(package, "license");
        assert!(
            permits(&allowed, licence),
            "{} is under {licence}, which deny.toml does not allow",
            package["name"]
        );
    }
}

/// Whether an SPDX expression can be met with these licences. `/` is the old spelling of OR.
fn permits(allowed: &[String], expression: &str) -> bool {
    expression.replace('/', " OR ").split(" AND ").all(|all_of| {
        let any_of = all_of.trim_matches(['(', ')', ' ']);
        any_of.split(" OR ").any(|licence| allowed.iter().any(|one| one == licence.trim()))
    })
}

#[test]
fn a_licence_expression_is_met_by_one_of_each_part() {
    let allowed = ["MIT".to_owned(), "Unicode-3.0".to_owned()];
    for good in ["MIT", "MIT/Apache-2.0", "GPL-2.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(permits(&allowed, good), "{good}");
    }
    for bad in ["GPL-2.0", "MIT AND GPL-2.0", "Apache-2.0 WITH LLVM-exception"] {
        assert!(!permits(&allowed, bad), "{bad}");
    }
}
