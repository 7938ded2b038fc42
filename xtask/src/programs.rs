//! The programs that cargo builds: whydrop and the tests.
//!
//! Tests are built for the whole workspace: cargo chooses features by what is built together, and a different choice
//! would compile the same libraries again.

use crate::dist;
use crate::process::{cargo, output};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Stdio;

/// Builds whydrop and returns where it is.
pub fn whydrop() -> Result<PathBuf> {
    named("whydrop", build(&["build", "--workspace"])?)
}

/// Builds whydrop as people get it, the static program, and returns where it is.
///
/// Where Rust's standard library for it cannot be had that of `cargo install` stands in, and we say so.
pub fn whydrop_optimised() -> Result<PathBuf> {
    match dist::obtainable() {
        Ok(()) => dist::program(std::env::consts::ARCH),
        Err(error) => {
            eprintln!("not the static program: {error:#}");
            named("whydrop", build(&["build", "--release"])?)
        }
    }
}

/// Builds the tests and returns the programs of these targets, in this order.
pub fn tests(targets: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let built = build(&["test", "--workspace", "--no-run"])?;
    targets.iter().map(|target| Ok(((*target).to_owned(), named(target, built.clone())?))).collect()
}

fn named(target: &str, built: Vec<(String, PathBuf)>) -> Result<PathBuf> {
    let found = built.into_iter().find(|(name, _)| name == target);
    Ok(found.with_context(|| format!("cargo built no {target}"))?.1)
}

/// The programs that a cargo command built, by the name of their target.
fn build(words: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut command = cargo();
    command.args(words).args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let mut found = Vec::new();
    for line in output(&mut command)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo writes JSON lines")?;
        let (name, path) = (message["target"]["name"].as_str(), message["executable"].as_str());
        if let (Some(name), Some(path)) = (name, path) {
            found.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    if found.is_empty() {
        bail!("cargo built no program");
    }
    Ok(found)
}
