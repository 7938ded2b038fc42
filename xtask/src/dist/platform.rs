//! The machines that artefacts are built for, and what building for them needs here.

use crate::apt;
use crate::process::{output, run};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// A kind of machine.
pub struct Platform {
    /// As `uname -m` and the names of the artefacts say it.
    pub name: &'static str,
    /// As Rust says it: static, with musl.
    pub triple: &'static str,
    /// As Debian and container images say it.
    pub debian: &'static str,
}

/// All that artefacts are built for.
pub const PLATFORMS: [Platform; 2] = [
    Platform { name: "x86_64", triple: "x86_64-unknown-linux-musl", debian: "amd64" },
    Platform { name: "aarch64", triple: "aarch64-unknown-linux-musl", debian: "arm64" },
];

impl Platform {
    /// The platform of this name.
    pub fn named(name: &str) -> Result<&'static Self> {
        let known = || PLATFORMS.iter().map(|platform| platform.name).collect::<Vec<_>>().join(", ");
        let found = PLATFORMS.iter().find(|platform| platform.name == name);
        found.with_context(|| format!("no platform {name}; there are {}", known()))
    }

    /// The machine that we run on.
    pub fn own() -> Result<&'static Self> {
        Self::named(std::env::consts::ARCH)
    }

    /// Whether its programs run here without emulation.
    pub fn is_own(&self) -> bool {
        self.name == std::env::consts::ARCH
    }

    /// A program of the cross compiler's family, such as `objcopy`.
    pub fn tool(&self, name: &str) -> String {
        if self.is_own() { name.to_owned() } else { format!("{}-linux-gnu-{name}", self.name) }
    }

    /// The C compiler for the few files in C that a library brings.
    pub fn compiler(&self) -> String {
        if self.is_own() { "musl-gcc".to_owned() } else { self.tool("gcc") }
    }

    /// Installs what is missing: the compiler by apt, Rust's standard library by rustup.
    pub fn prepare(&self) -> Result<()> {
        if self.is_own() {
            apt::install_missing(&[("musl-gcc", "musl-tools"), ("objcopy", "binutils")])?;
        } else {
            let compiler = (self.compiler(), format!("gcc-{}-linux-gnu", self.name.replace('_', "-")));
            // The compiler's own headers include those of a C library.
            let headers = (
                format!("/usr/{}-linux-gnu/include/stdint.h", self.name),
                format!("libc6-dev-{}-cross", self.debian),
            );
            let wanted = [&compiler, &headers].map(|(file, package)| (file.as_str(), package.as_str()));
            apt::install_missing(&wanted)?;
        }
        if self.has_rust()? {
            return Ok(());
        }
        println!("installing Rust's standard library for {}", self.triple);
        run(Command::new("rustup").args(["target", "add", self.triple])).with_context(|| {
            format!("Rust's standard library for {} is not installed and cannot be had", self.triple)
        })
    }

    /// Whether rustc has the standard library.
    fn has_rust(&self) -> Result<bool> {
        let directory =
            output(Command::new("rustc").args(["--print", "target-libdir", "--target", self.triple]))?;
        Ok(std::path::Path::new(directory.trim()).is_dir())
    }
}

/// The platforms of these names, that of this machine first: its program writes the manual for all.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Platform>> {
    let mut platforms = names.iter().map(|name| Platform::named(name)).collect::<Result<Vec<_>>>()?;
    platforms.sort_by_key(|platform| !platform.is_own());
    match platforms.first() {
        Some(first) if first.is_own() => Ok(platforms),
        _ => bail!(
            "the program of this machine ({}) must be among them: it writes the manual",
            std::env::consts::ARCH
        ),
    }
}
