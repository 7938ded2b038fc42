//! The licences of all that is inside the program, as one text that the program can print.
//!
//! Made from what cargo downloaded, so that it is complete without a tool; each text stands once, with the libraries it
//! covers.

use crate::process::{cargo, output, workspace};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Machines whose libraries count.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

/// What is inside of every static program and is no crate.
const BELOW: [(&str, &str, &str); 2] = [
    ("musl", "MIT", "Copyright (c) 2005-2020 Rich Felker, et al."),
    ("Rust's standard library", "MIT OR Apache-2.0", "Copyright (c) The Rust Project Contributors"),
];

/// A library in the program.
struct Library {
    name: String,
    licence: String,
    /// Texts that come with it.
    texts: Vec<String>,
    authors: String,
}

/// The text.
pub fn text() -> Result<String> {
    let mut libraries: BTreeMap<String, Library> = BTreeMap::new();
    for platform in PLATFORMS {
        let metadata = output(cargo().args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            platform,
        ]))?;
        libraries.extend(inside(&serde_json::from_str(&metadata)?)?);
    }
    let mut text = "whydrop is licensed under MIT or Apache-2.0, at your choice. It contains:\n\n".to_owned();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let own = fs::read_to_string(workspace().join("LICENSE-MIT"))?;
    texts.entry(own.trim().to_owned()).or_default().insert("whydrop".to_owned());
    let terms = own.find("Permission").and_then(|at| own.get(at..)).context("LICENSE-MIT has terms")?.trim();
    for (name, library) in &libraries {
        text += &format!("  {name}  {}\n", library.licence);
        if library.texts.is_empty() {
            let holder = format!("Copyright (c) {}", library.authors);
            texts.entry(format!("{holder}\n\n{terms}")).or_default().insert(library.name.clone());
        }
        for one in &library.texts {
            texts.entry(one.clone()).or_default().insert(library.name.clone());
        }
    }
    for (name, licence, holder) in BELOW {
        text += &format!("  {name}  {licence}\n");
        texts.entry(format!("{holder}\n\n{terms}")).or_default().insert(name.to_owned());
    }
    for (one, names) in texts {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        text += &format!("\n\n==== {names}\n\n{one}\n");
    }
    Ok(text)
}

/// The libraries that end up in the program: those that only help to build it do not.
fn inside(metadata: &Value) -> Result<BTreeMap<String, Library>> {
    let list = |value: &Value, field: &str| {
        value[field].as_array().cloned().with_context(|| format!("cargo metadata has no list {field}"))
    };
    let packages = list(metadata, "packages")?;
    let by_id = |id: &Value| {
        packages.iter().find(|package| package["id"] == *id).context("a package that cargo names")
    };
    let nodes = list(&metadata["resolve"], "nodes")?;
    let root = packages.iter().find(|package| package["name"] == "whydrop").context("cargo knows whydrop")?;
    let (mut waiting, mut seen) = (vec![root["id"].clone()], BTreeSet::new());
    let mut found = BTreeMap::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id.to_string()) {
            continue;
        }
        let package = by_id(&id)?;
        let runs_in_compiler =
            list(package, "targets")?.iter().any(|target| target["kind"][0] == "proc-macro");
        if runs_in_compiler {
            continue;
        }
        if !package["source"].is_null() {
            let library = library(package)?;
            found.insert(
                format!("{} {}", library.name, package["version"].as_str().context("a version")?),
                library,
            );
        }
        let node = nodes.iter().find(|node| node["id"] == id).context("a node that cargo names")?;
        for dependency in list(node, "deps")? {
            if list(&dependency, "dep_kinds")?.iter().any(|kind| kind["kind"].is_null()) {
                waiting.push(dependency["pkg"].clone());
            }
        }
    }
    Ok(found)
}

fn library(package: &Value) -> Result<Library> {
    let field =
        |name: &str| package[name].as_str().with_context(|| format!("{} has no {name}", package["id"]));
    let licence = field("license")?.replace('/', " OR ");
    let folder = Path::new(field("manifest_path")?).parent().context("a manifest has a folder")?;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let upper = name.to_uppercase();
        if ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"]
            .iter()
            .any(|start| upper.starts_with(start))
            && folder.join(&name).is_file()
        {
            files.push(name);
        }
    }
    // Where MIT may be chosen, its text is enough.
    if licence.split(" OR ").any(|choice| choice.trim() == "MIT")
        && files.iter().any(|name| name.to_uppercase().contains("MIT"))
    {
        files.retain(|name| name.to_uppercase().contains("MIT"));
    }
    files.sort_unstable();
    let texts = files.iter().map(|name| {
        let text = fs::read_to_string(folder.join(name)).with_context(|| format!("reading {name}"))?;
        Ok(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned())
    });
    let authors = package["authors"]
        .as_array()
        .map(|all| all.iter().filter_map(|one| one.as_str()).collect::<Vec<_>>().join(", "));
    let name = field("name")?.to_owned();
    let authors = authors.filter(|all| !all.is_empty()).unwrap_or_else(|| format!("the authors of {name}"));
    Ok(Library { texts: texts.collect::<Result<_>>()?, licence, authors, name })
}
