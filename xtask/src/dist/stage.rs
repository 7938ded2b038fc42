//! What every package installs, as files below one root.

use super::Release;
use crate::process::{fresh_directory, output, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Completion scripts: the shell, and where each distribution family looks for it.
const SHELLS: [(&str, &str, &str); 3] = [
    (
        "bash",
        "usr/share/bash-completion/completions/whydrop",
        "usr/share/bash-completion/completions/whydrop",
    ),
    ("zsh", "usr/share/zsh/vendor-completions/_whydrop", "usr/share/zsh/site-functions/_whydrop"),
    (
        "fish",
        "usr/share/fish/vendor_completions.d/whydrop.fish",
        "usr/share/fish/vendor_completions.d/whydrop.fish",
    ),
];

/// Texts that come along: as they are called here.
pub const TEXTS: [&str; 4] = ["README.md", "README.zh-CN.md", "SECURITY.md", "CHANGELOG.md"];

/// Licences of all that is inside, as `whydrop licences` prints them.
pub const LICENCES: &str = "crates/whydrop/src/licences.txt";

/// Which family of distributions a root is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Debian,
    Rpm,
}

/// The pages and scripts that the program writes about itself.
pub struct Written {
    /// Name of the file (`whydrop-diagnose.1`), its language's folder below `man`, its text.
    pages: Vec<(String, &'static str, String)>,
    /// In the order of [`SHELLS`].
    scripts: Vec<String>,
}

impl Written {
    /// Asks a program that runs here.
    pub fn by(program: &Path) -> Result<Self> {
        let ask = |words: &[&str]| output(Command::new(program).args(words).env("LC_ALL", "C.UTF-8"));
        let mut pages = Vec::new();
        for (lang, folder) in [("en", ""), ("zh", "zh_CN")] {
            for name in ask(&["man", "--list"])?.lines() {
                let page = match name.strip_prefix("whydrop-") {
                    Some(command) => ask(&["--lang", lang, "man", command])?,
                    None => ask(&["--lang", lang, "man"])?,
                };
                pages.push((format!("{name}.1"), folder, page));
            }
        }
        let scripts = SHELLS.iter().map(|(shell, ..)| ask(&["completions", shell])).collect::<Result<_>>()?;
        Ok(Self { pages, scripts })
    }

    /// Lays out a root in `directory`.
    pub fn lay_out(
        &self,
        directory: &Path,
        program: &Path,
        family: Family,
        release: &Release,
    ) -> Result<PathBuf> {
        let root = fresh_directory(directory)?;
        let documents = root.join("usr/share/doc/whydrop");
        fs::create_dir_all(&documents)?;
        install(program, &root.join("usr/bin/whydrop"), 0o755)?;
        for text in TEXTS {
            // Debian has another place for the history.
            if !(family == Family::Debian && text == "CHANGELOG.md") {
                install(&workspace().join(text), &documents.join(text), 0o644)?;
            }
        }
        install(&workspace().join(LICENCES), &documents.join("LICENCES"), 0o644)?;
        for (name, folder, text) in &self.pages {
            let page = root.join("usr/share/man").join(folder).join("man1").join(name);
            write(&page, text)?;
            pack(&page)?;
        }
        for ((_, debian, rpm), script) in SHELLS.iter().zip(&self.scripts) {
            write(&root.join(if family == Family::Debian { debian } else { rpm }), script)?;
        }
        release.date(&root)?;
        Ok(root)
    }
}

/// Copies a file, with the directories above it.
pub fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file has a directory")?)?;
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// Writes a file that everybody may read, with the directories above it.
pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file has a directory")?)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o644))?)
}

/// Compresses a file so that the same text gives the same bytes.
pub fn pack(path: &Path) -> Result<()> {
    output(Command::new("gzip").args(["--best", "--no-name", "--force"]).arg(path)).map(drop)
}
