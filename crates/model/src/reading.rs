//! A number with its status. There is no default and no zero for "could not look".

use serde::{Deserialize, Serialize};

/// What an attempt to read something gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", content = "value", rename_all = "lowercase")]
pub enum Reading<T> {
    /// Read.
    Present(T),
    /// The kernel does not have it (file, module or attribute missing): says what is missing.
    Absent(String),
    /// A privilege is missing: names it.
    Denied(String),
    /// Anything else: the kernel's own words.
    Failed(String),
}

impl<T> Reading<T> {
    /// The value, if it was read.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent(_) | Self::Denied(_) | Self::Failed(_) => None,
        }
    }

    /// True if there is a value.
    pub fn is_present(&self) -> bool {
        self.get().is_some()
    }

    /// True if something is there that could not be read (not: the kernel has none of it).
    pub fn is_hidden(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::Failed(_))
    }

    /// The same status around another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Present(value) => Reading::Present(f(value)),
            Self::Absent(why) => Reading::Absent(why),
            Self::Denied(needs) => Reading::Denied(needs),
            Self::Failed(error) => Reading::Failed(error),
        }
    }

    /// Borrowing form.
    pub fn as_ref(&self) -> Reading<&T> {
        match self {
            Self::Present(value) => Reading::Present(value),
            Self::Absent(why) => Reading::Absent(why.clone()),
            Self::Denied(needs) => Reading::Denied(needs.clone()),
            Self::Failed(error) => Reading::Failed(error.clone()),
        }
    }
}

impl<T> Reading<Vec<T>> {
    /// Iterates over what was read; empty if nothing could be read. Only for callers that check
    /// [`Reading::is_hidden`] (or the coverage) before they say "none".
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.get().map(Vec::as_slice).unwrap_or(&[]).iter()
    }
}
