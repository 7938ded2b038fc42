//! Containers by name, from the engines on this machine. Nothing is entered and nothing is started.

mod docker;

use crate::error::Error;
use whydrop_model::TargetKind;

/// A container that an engine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Which engine.
    pub engine: TargetKind,
    /// Full id.
    pub id: String,
    /// Names, without the leading slash.
    pub names: Vec<String>,
    /// True if it runs.
    pub running: bool,
}

impl Container {
    /// True if `word` is one of its names or a prefix of its id (at least 2 hex digits).
    pub fn answers_to(&self, word: &str) -> bool {
        self.names.iter().any(|n| n == word) || (word.len() >= 2 && self.id.starts_with(word))
    }

    /// The name that people use, else the short id.
    pub fn name(&self) -> &str {
        self.names.first().map_or_else(|| self.id.get(..12).unwrap_or(&self.id), String::as_str)
    }
}

/// All containers of one engine, running or not. `Ok(None)` if the engine is not installed here.
pub fn list(engine: TargetKind) -> Result<Option<Vec<Container>>, Error> {
    docker::list(engine)
}

/// Process id of a running container's first process, in whydrop's pid namespace.
pub fn pid(container: &Container) -> Result<u32, Error> {
    docker::pid(container)
}
