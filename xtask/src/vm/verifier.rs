//! The table of what each program of the tracer costs the verifier of each kernel.

use super::kernel::Kernel;
use crate::process::workspace;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Where the table stands.
const PAGE: &str = "docs/verifier.md";

const HEAD: &str = "\
# What the kernel's verifier reads of each program

Written by `cargo xtask vm --verifier` in its guests. The kernel gives up at 1,000,000 instructions; the test in
`crates/host/src/trace/verifier.rs`, which runs in the guests, at 100,000. All switches of the programs are on.

";

/// Instructions by kernel, in the order of the guests' names, and by program.
#[derive(Default)]
pub struct Table {
    kernels: BTreeMap<(usize, String), BTreeMap<String, u64>>,
}

impl Table {
    /// Takes what a guest said: lines of a program's name and a number.
    pub fn add(&mut self, kernel: &Kernel, lines: &[String]) {
        let place = super::kernel::KERNELS.iter().position(|(name, ..)| *name == kernel.name);
        let row = |line: &String| {
            let (name, number) = line.split_once(' ')?;
            Some((name.to_owned(), number.trim().parse().ok()?))
        };
        if !lines.is_empty() {
            let column = (place.unwrap_or(usize::MAX), kernel.release.clone());
            self.kernels.insert(column, lines.iter().filter_map(row).collect());
        }
    }

    /// Writes the page.
    pub fn write(&self) -> Result<()> {
        if self.kernels.is_empty() {
            bail!("no guest counted anything");
        }
        let programs: BTreeSet<&String> = self.kernels.values().flat_map(BTreeMap::keys).collect();
        let releases: Vec<&str> = self.kernels.keys().map(|(_, release)| release.as_str()).collect();
        let mut page = HEAD.to_owned();
        page +=
            &format!("| program | {} |\n| --- |{}\n", releases.join(" | "), " ---: |".repeat(releases.len()));
        for program in programs {
            let cells = self.kernels.values().map(|column| match column.get(program) {
                Some(number) => number.to_string(),
                None => "none".to_owned(),
            });
            page += &format!("| `{program}` | {} |\n", cells.collect::<Vec<_>>().join(" | "));
        }
        let path = workspace().join(PAGE);
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{PAGE} written");
        Ok(())
    }
}
