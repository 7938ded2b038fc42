//! `cargo xtask dist`: all that people install, below `target/dist`.
//!
//! Tools are those of Debian (dpkg-deb, rpmbuild, objcopy, tar, gzip); what is missing is installed by apt. The same commit
//! gives the same bytes: every date is that of the commit.

mod deb;
pub mod image;
mod platform;
mod program;
mod rpm;
mod stage;

pub use platform::Platform;

use crate::apt;
use crate::process::{cargo, fresh_directory, output, target_directory, workspace};
use anyhow::{Context, Result};
use stage::{Family, TEXTS, Written};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask dist`.
#[derive(clap::Args)]
pub struct Options {
    /// Machines to build for; the first one must be this machine's
    #[arg(long = "arch", value_delimiter = ',', default_values = ["x86_64", "aarch64"])]
    platforms: Vec<String>,
}

/// Which state of the project is packed.
pub struct Release {
    pub version: String,
    /// Seconds since 1970 of the commit.
    pub epoch: String,
}

/// The artefacts for one platform.
pub struct Artefacts {
    pub archive: PathBuf,
    pub deb: PathBuf,
    /// The same with a higher version, to try an upgrade; not among the sums.
    pub next_deb: PathBuf,
    pub rpm: PathBuf,
    pub next_rpm: PathBuf,
    pub image: PathBuf,
}

/// Builds everything and writes the sums.
pub fn run(options: &Options) -> Result<()> {
    let platforms = platform::chosen(&options.platforms)?;
    build(&platforms).map(drop)
}

/// Builds everything for these platforms, that of this machine first.
pub fn build(platforms: &[&Platform]) -> Result<Vec<Artefacts>> {
    apt::install_missing(&[("dpkg-deb", "dpkg"), ("rpmbuild", "rpm"), ("gzip", "gzip")])?;
    let release = Release::current()?;
    let directory = directory()?;
    fs::create_dir_all(&directory)?;
    let mut written = None;
    let mut all = Vec::new();
    for platform in platforms {
        let program = program::build(platform, &directory)?;
        let written = match &written {
            Some(written) => written,
            None => written.insert(Written::by(&program)?),
        };
        let work = directory.join("work").join(platform.name);
        let next = Release { version: format!("{}.1", release.version), epoch: release.epoch.clone() };
        let root = written.lay_out(&work.join("debian"), &program, Family::Debian, &release)?;
        let deb = deb::build(&root, platform, &release, &directory)?;
        let next_deb = deb::build(&root, platform, &next, &work)?;
        let root = written.lay_out(&work.join("rpm"), &program, Family::Rpm, &release)?;
        let rpm = rpm::build(&root, platform, &release, &directory)?;
        let next_rpm = rpm::build(&root, platform, &next, &work)?;
        let image = image::pack(&program, platform, &release, &directory)?;
        let archive = archive(&root, platform, &release, &directory)?;
        all.push(Artefacts { archive, deb, next_deb, rpm, next_rpm, image });
    }
    sums(&directory)?;
    Ok(all)
}

/// Whether the static program can be built here; installs what that needs.
pub fn obtainable() -> Result<()> {
    Platform::own()?.prepare()
}

/// The program alone, for one platform.
pub fn program(platform: &str) -> Result<PathBuf> {
    let directory = directory()?;
    fs::create_dir_all(&directory)?;
    program::build(Platform::named(platform)?, &directory)
}

/// The container image alone, for one platform.
pub fn image(platform: &str) -> Result<PathBuf> {
    let (platform, program) = (Platform::named(platform)?, program(platform)?);
    image::pack(&program, platform, &Release::current()?, &directory()?)
}

/// Version of whydrop.
pub fn version() -> Result<String> {
    Ok(Release::current()?.version)
}

/// Where the artefacts are.
pub fn directory() -> Result<PathBuf> {
    Ok(target_directory()?.join("dist"))
}

impl Release {
    fn current() -> Result<Self> {
        let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
        let packages = metadata["packages"].as_array().context("cargo lists packages")?;
        let own = packages.iter().find(|package| package["name"] == "whydrop");
        let version = own.and_then(|package| package["version"].as_str()).context("whydrop has a version")?;
        let epoch = output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(workspace()))?;
        Ok(Self { version: version.to_owned(), epoch: epoch.trim().to_owned() })
    }

    /// Gives all files below `root` the date of the release, and modes that do not depend on who builds.
    fn date(&self, root: &Path) -> Result<()> {
        output(Command::new("chmod").args(["--recursive", "u=rwX,go=rX"]).arg(root))?;
        let when = format!("--date=@{}", self.epoch);
        output(Command::new("find").arg(root).args([
            "-exec",
            "touch",
            "--no-dereference",
            &when,
            "{}",
            "+",
        ]))?;
        Ok(())
    }

    /// A tar that writes the same bytes for the same files.
    fn tar(&self) -> Command {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--format=ustar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
        tar.arg(format!("--mtime=@{}", self.epoch));
        tar
    }
}

/// One archive for machines without a package manager that we know: program, manual, completions, texts.
fn archive(root: &Path, platform: &Platform, release: &Release, directory: &Path) -> Result<PathBuf> {
    let name = format!("whydrop-{}-{}-linux", release.version, platform.name);
    let top = fresh_directory(&directory.join("work").join(&name))?;
    output(Command::new("cp").arg("--archive").arg(root.join("usr/share")).arg(&top))?;
    fs::create_dir_all(top.join("bin"))?;
    fs::rename(top.join("share/doc/whydrop/LICENCES"), top.join("LICENCES"))?;
    output(Command::new("cp").arg("--archive").arg(root.join("usr/bin/whydrop")).arg(top.join("bin")))?;
    for text in ["LICENSE-MIT", "LICENSE-APACHE"].iter().chain(&TEXTS) {
        stage::install(&workspace().join(text), &top.join(text), 0o644)?;
    }
    fs::remove_dir_all(top.join("share/doc"))?;
    release.date(&top)?;
    let archive = directory.join(format!("{name}.tar.gz"));
    let mut tar = release.tar();
    tar.args(["--use-compress-program", "gzip --best --no-name", "--file"]).arg(&archive);
    output(tar.arg("--directory").arg(top.parent().context("it has a parent")?).arg(&name))?;
    Ok(archive)
}

/// Writes the sums of all artefacts, in the format of sha256sum, and shows what there is.
fn sums(directory: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("artefacts have plain names")?;
        if entry.file_type()?.is_file() && name != "SHA256SUMS" {
            names.push(name);
        }
    }
    names.sort_unstable();
    let sums = output(Command::new("sha256sum").args(&names).current_dir(directory))?;
    fs::write(directory.join("SHA256SUMS"), &sums)?;
    for name in &names {
        println!("{:>10} {name}", directory.join(name).metadata()?.len());
    }
    println!("in {}", directory.display());
    Ok(())
}
