//! Turns `data/*.toml` into static tables, so that nothing is parsed or read at run time. A field that is missing,
//! unknown or misspelt in the data fails the build.
#![allow(clippy::disallowed_methods, reason = "a build script reads files and the environment")]

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Entries by name; the tables are sorted by it for binary search.
type Table<T> = BTreeMap<String, T>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    read: String,
    scope: String,
    counter: Table<Counter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counter {
    stage: String,
    effect: String,
    read: Option<String>,
    scope: Option<String>,
    meaning: String,
    zh: Option<String>,
    related: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    subsystem: Option<String>,
    stage: String,
    direction: String,
    class: String,
    meaning: String,
    zh: Option<String>,
    causes: Option<String>,
    look_next: Option<String>,
    fix: Option<String>,
    #[serde(default)]
    functions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    order: u32,
    path: String,
    layer: String,
    title: String,
    zh: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    functions: Vec<String>,
    tools: Vec<String>,
    #[serde(default)]
    tracepoints: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    stage: String,
    silent: bool,
    read: String,
    flag_when: String,
    fix: String,
    rollback: String,
    risk: String,
    #[serde(default)]
    sysctls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pitfall {
    text: String,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    name: String,
    name_zh: Option<String>,
    how: String,
    how_zh: String,
    #[serde(default)]
    chains: Vec<String>,
    #[serde(default)]
    tables: Vec<String>,
    #[serde(default)]
    comments: Vec<String>,
    #[serde(default)]
    sets: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    routes: Vec<u8>,
}

fn main() {
    let data = Path::new(&env("CARGO_MANIFEST_DIR")).join("data");
    let mut out = String::new();
    counters(&folder(&data.join("counters")), &mut out);
    reasons(&folder(&data.join("reasons")), &mut out);
    stages(&file(&data.join("stages.toml")), &mut out);
    states(&folder(&data.join("states")), &mut out);
    sentences(&file(&data.join("sentences.toml")), &mut out);
    pitfalls(&file(&data.join("pitfalls.toml")), &mut out);
    causes(&file(&data.join("causes.toml")), &mut out);
    owners(&file(&data.join("owners.toml")), &mut out);
    let tables = Path::new(&env("OUT_DIR")).join("tables.rs");
    std::fs::write(&tables, out).unwrap_or_else(|e| panic!("{}: {e}", tables.display()));
    println!("cargo::rerun-if-changed=data");
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn file<T: DeserializeOwned>(path: &Path) -> Table<T> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All files of a folder as one table; an entry that stands twice fails the build.
fn folder<T: DeserializeOwned>(path: &Path) -> Table<T> {
    let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let files: Vec<PathBuf> = entries.map(|e| e.unwrap_or_else(|e| panic!("{e}")).path()).collect();
    let mut all = Table::new();
    for (name, entry) in files.iter().flat_map(|f| file(f)) {
        assert!(!all.contains_key(&name), "{}: {name} stands twice", path.display());
        all.insert(name, entry);
    }
    all
}

/// `rx_errors` of the data is `RxErrors` in Rust: an unknown word fails to compile.
fn variant(word: &str) -> String {
    let capital = |part: &str| part[..1].to_uppercase() + &part[1..];
    word.split(['_', ' ']).map(capital).collect()
}

fn table<T>(
    out: &mut String,
    name: &str,
    entry: &str,
    items: &[(String, T)],
    write: impl Fn(&str, &T) -> String,
) {
    let _ = writeln!(out, "pub(crate) static {name}: &[{entry}] = &[");
    for (id, item) in items {
        let _ = writeln!(out, "    {entry} {{ id: {id:?}, {} }},", write(id, item));
    }
    out.push_str("];\n");
}

fn counters(groups: &Table<Group>, out: &mut String) {
    let mut items = Vec::new();
    for (group, Group { read, scope, counter }) in groups {
        for (name, c) in counter {
            let fields = format!(
                "group: {group:?}, name: {name:?}, read: {:?}, scope: Scope::{}, stage: {:?}, effect: Effect::{}, \
                 meaning: {:?}, meaning_zh: {:?}, related: {:?}",
                c.read.as_ref().unwrap_or(read),
                variant(c.scope.as_ref().unwrap_or(scope)),
                c.stage,
                variant(&c.effect),
                c.meaning,
                c.zh,
                c.related,
            );
            items.push((format!("{group}.{name}"), fields));
        }
    }
    items.sort();
    table(out, "COUNTERS", "Counter", &items, |_, fields| fields.clone());
}

/// Entries in the order of their ids.
fn sorted<T>(table: &Table<T>) -> Vec<(String, &T)> {
    table.iter().map(|(id, item)| (id.clone(), item)).collect()
}

fn reasons(reasons: &Table<Reason>, out: &mut String) {
    table(out, "REASONS", "Reason", &sorted(reasons), |_, r| {
        format!(
            "subsystem: {:?}, stage: {:?}, direction: Direction::{}, class: Class::{}, meaning: {:?}, \
             meaning_zh: {:?}, causes: {:?}, look_next: {:?}, fix: {:?}, functions: &{:?}",
            r.subsystem.as_deref().unwrap_or("core"),
            r.stage,
            variant(&r.direction),
            variant(&r.class),
            r.meaning,
            r.zh,
            r.causes,
            r.look_next,
            r.fix,
            r.functions,
        )
    });
}

fn stages(stages: &Table<Stage>, out: &mut String) {
    let mut items = sorted(stages);
    items.sort_by_key(|(_, s)| s.order);
    table(out, "STAGES", "Stage", &items, |_, s| {
        format!(
            "path: Path::{}, layer: Layer::{}, title: Text {{ en: {:?}, zh: {:?} }}, aliases: &{:?}, \
             functions: &{:?}, tools: &{:?}, tracepoints: &{:?}",
            variant(&s.path),
            variant(&s.layer),
            s.title,
            s.zh,
            s.aliases,
            s.functions,
            s.tools,
            s.tracepoints,
        )
    });
}

fn states(states: &Table<State>, out: &mut String) {
    table(out, "STATES", "State", &sorted(states), |_, s| {
        format!(
            "stage: {:?}, silent: {}, read: {:?}, flag_when: {:?}, fix: {:?}, rollback: {:?}, risk: {:?}, \
             sysctls: &{:?}",
            s.stage, s.silent, s.read, s.flag_when, s.fix, s.rollback, s.risk, s.sysctls,
        )
    });
}

fn sentences(sections: &Table<Table<Vec<String>>>, out: &mut String) {
    let _ = writeln!(out, "pub(crate) static SENTENCES: &[Sentence] = &[");
    for (section, sentences) in sections {
        for (text, names) in sentences {
            let (gone, counters): (Vec<&String>, Vec<&String>) =
                names.iter().partition(|n| n.starts_with('-'));
            let gone: Vec<&str> = gone.iter().map(|n| n.trim_start_matches('-')).collect();
            let _ = writeln!(
                out,
                "    Sentence {{ section: {section:?}, text: {text:?}, counters: &{counters:?}, gone: &{gone:?} }},"
            );
        }
    }
    out.push_str("];\n");
}

fn pitfalls(pitfalls: &Table<Pitfall>, out: &mut String) {
    table(out, "PITFALLS", "Pitfall", &sorted(pitfalls), |_, p| {
        format!("text: {:?}, source: {:?}", p.text, p.source)
    });
}

fn causes(groups: &Table<Table<String>>, out: &mut String) {
    let mut items: Vec<(String, String)> =
        groups.values().flatten().map(|(i, t)| (i.clone(), t.clone())).collect();
    items.sort();
    table(out, "CAUSES", "CauseId", &items, |_, title| format!("title: {title:?}"));
}

fn owners(owners: &Table<Owner>, out: &mut String) {
    table(out, "OWNERS", "Owner", &sorted(owners), |_, o| {
        format!(
            "name: Text {{ en: {:?}, zh: {:?} }}, how: Text {{ en: {:?}, zh: {:?} }}, chains: &{:?}, tables: &{:?}, comments: &{:?}, \
             sets: &{:?}, except: &{:?}, policies: &{:?}, routes: &{:?}",
            o.name,
            o.name_zh.as_ref().unwrap_or(&o.name),
            o.how,
            o.how_zh,
            o.chains,
            o.tables,
            o.comments,
            o.sets,
            o.except,
            o.policies,
            o.routes,
        )
    });
}
