//! `scenarios/<cause>/<case>/`: what a live test saw, and what must be found in it. Live tests and replay tests share
//! the expectation, so the two cannot drift apart.

use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// What must be found, and nothing else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Causes of the findings, with repetition.
    pub causes: Vec<String>,
    /// Causes that must stand in a note.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One folder below `scenarios/`.
#[derive(Debug)]
pub struct Scenario {
    folder: PathBuf,
}

impl Scenario {
    /// The scenario `<cause>/<case>`; its `expect.toml` must exist.
    pub fn named(name: &str) -> Self {
        Self { folder: root().join(name) }
    }

    /// All that have a recording, sorted. Panics if there is none: a test of nothing must not pass.
    pub fn all() -> Vec<Self> {
        let folders = |path: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            entries.map(|entry| entry.expect("a folder entry").path()).filter(|path| path.is_dir()).collect()
        };
        let mut cases: Vec<Self> = folders(&root())
            .iter()
            .flat_map(|cause| folders(cause))
            .map(|folder| Self { folder })
            .filter(|scenario| Path::new(&scenario.record()).exists())
            .collect();
        cases.sort_by(|a, b| a.folder.cmp(&b.folder));
        assert!(!cases.is_empty(), "no scenario below {}", root().display());
        cases
    }

    /// What must be found.
    pub fn expect(&self) -> Expect {
        let path = self.folder.join("expect.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Path of the recording.
    pub fn record(&self) -> String {
        self.folder.join("record.json").display().to_string()
    }

    /// Arguments that make a live diagnosis write this scenario's recording anew; none unless `cargo xtask record`
    /// asks for it by the environment variable `WHYDROP_RECORD`.
    pub fn record_arguments(&self) -> Vec<String> {
        match std::env::var_os("WHYDROP_RECORD") {
            Some(_) => vec!["--record".to_owned(), self.record()],
            None => vec![],
        }
    }
}

fn root() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios")).to_owned()
}
