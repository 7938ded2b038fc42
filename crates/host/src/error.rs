//! Errors that name the operation, the object and the remedy.

use crate::sys::netlink::errno;
use whydrop_model::Phrase;

/// Something on the machine could not be done.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {operation} {object}: {reason}")]
pub struct Error {
    /// What was tried: `enter`, `read the rules of`.
    pub operation: &'static str,
    /// On what: `netns:web`.
    pub object: String,
    /// The kernel's own words, or ours.
    pub reason: String,
    /// errno, if the kernel refused.
    pub errno: Option<i32>,
    /// What is needed, for people. Boxed, so that results stay small.
    pub hint: Option<Box<Phrase>>,
    /// Names that are close to one that is unknown, or that it may stand for.
    pub close: Vec<String>,
}

impl Error {
    /// An error with a reason of our own.
    pub fn new(operation: &'static str, object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            operation,
            object: object.into(),
            reason: reason.into(),
            errno: None,
            hint: None,
            close: vec![],
        }
    }

    /// An error that the kernel gave.
    pub fn io(operation: &'static str, object: impl Into<String>, error: &std::io::Error) -> Self {
        // "Operation not permitted (os error 1)" -> "operation not permitted"
        let text = error.to_string();
        let words = text.split(" (os error").next().unwrap_or(&text).to_owned();
        Self {
            operation,
            object: object.into(),
            reason: words,
            errno: errno(error),
            hint: None,
            close: vec![],
        }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: Phrase) -> Self {
        self.hint = Some(Box::new(hint));
        self
    }

    /// The same error with the names that may have been meant.
    #[must_use]
    pub fn with_close(mut self, names: Vec<String>) -> Self {
        self.close = names;
        self
    }

    /// True for EPERM and EACCES.
    pub fn is_denied(&self) -> bool {
        matches!(self.errno, Some(libc::EPERM | libc::EACCES))
    }

    /// True if the kernel does not have what was asked for: no such file, protocol, family or operation.
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno,
            Some(
                libc::ENOENT
                    | libc::EOPNOTSUPP
                    | libc::EPROTONOSUPPORT
                    | libc::EAFNOSUPPORT
                    | libc::ENOPROTOOPT
                    | libc::ENOSYS
            )
        )
    }

    /// This error as a reading: denied if a privilege is missing (`needs` names it), absent if the kernel lacks the
    /// feature, else failed.
    pub fn reading<T>(&self, needs: &str) -> whydrop_model::Reading<T> {
        if self.is_denied() {
            whydrop_model::Reading::Denied(needs.to_owned())
        } else if self.is_absent() {
            whydrop_model::Reading::Absent(self.to_string())
        } else {
            whydrop_model::Reading::Failed(self.to_string())
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
