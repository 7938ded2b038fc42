//! The program itself: static, small, with the list of its libraries inside and its line tables beside it.

use super::platform::Platform;
use crate::process::{cache_directory, cargo, find_program, output, run, target_directory};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tool that writes the list of libraries into the program, and its version.
const AUDITABLE: (&str, &str) = ("cargo-auditable", "0.7.7");
/// Where it writes that list: zlib-compressed JSON, which `cargo audit bin`, trivy, grype and syft read.
const LIST: &str = ".dep-v0";
/// What the program may weigh, in bytes.
const HEAVIEST: u64 = 15_000_000;

/// Builds the program into `directory`, without symbols. Those, with the line tables, lie beside it as `.debug`: debuggers
/// find them by the link in the program.
pub fn build(platform: &Platform, directory: &Path) -> Result<PathBuf> {
    platform.prepare()?;
    let tools = auditable()?;
    println!("building for {}", platform.triple);
    let search = std::env::var_os("PATH").unwrap_or_default();
    let search = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&search)))?;
    let variable = platform.triple.replace('-', "_");
    let mut build = cargo();
    build.args(["auditable", "build", "--locked", "--profile", "small", "--package", "whydrop"]);
    build.args(["--target", platform.triple]).env("PATH", search);
    build.env(format!("CC_{variable}"), platform.compiler());
    if !platform.is_own() {
        build.env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), platform.compiler());
    }
    run(&mut build)?;
    let built = target_directory()?.join(platform.triple).join("small/whydrop");
    let path = directory.join(format!("whydrop-{}", platform.name));
    let symbols = directory.join(format!("whydrop-{}.debug", platform.name));
    let objcopy = || Command::new(platform.tool("objcopy"));
    output(
        objcopy().args(["--only-keep-debug", "--compress-debug-sections=zlib"]).arg(&built).arg(&symbols),
    )?;
    output(objcopy().arg("--strip-all").arg(&built).arg(&path))?;
    // Its sum is that of the file as it is now, so this comes last.
    output(objcopy().arg(format!("--add-gnu-debuglink={}", symbols.display())).arg(&path))?;
    check(platform, &path)?;
    Ok(path)
}

/// Holds what is promised of the program: one file that needs no other, not too heavy, with its list inside.
fn check(platform: &Platform, program: &Path) -> Result<()> {
    let shown = output(
        Command::new(platform.tool("readelf"))
            .args(["--wide", "--dynamic", "--program-headers", "--sections"])
            .arg(program),
    )?;
    if shown.contains("(NEEDED)") || shown.contains("INTERP") {
        bail!("{} is not static", program.display());
    }
    if !shown.contains(LIST) {
        bail!("{} has no list of its libraries ({LIST})", program.display());
    }
    let size = program.metadata()?.len();
    if size > HEAVIEST {
        bail!("{} has {size} bytes, more than {HEAVIEST}", program.display());
    }
    println!("{}: {:.1} MB, static, {LIST} inside", program.display(), size as f64 / 1e6);
    Ok(())
}

/// The directory of cargo-auditable, which is installed where it is missing: into our cache, not among the user's tools.
fn auditable() -> Result<PathBuf> {
    let (name, version) = AUDITABLE;
    if let Some(found) = find_program(name) {
        return Ok(found.parent().context("a program has a directory")?.to_owned());
    }
    let root = cache_directory("tools")?;
    if !root.join("bin").join(name).is_file() {
        println!("installing {name} {version}");
        let package = format!("{name}@{version}");
        run(cargo().args(["install", "--locked", "--quiet", "--root"]).arg(&root).arg(package))?;
    }
    Ok(root.join("bin"))
}
