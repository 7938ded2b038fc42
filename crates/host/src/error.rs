//! Errors that name the operation, the object and the remedy.

use crate::sys::netlink::errno;
use whydrop_model::{Phrase, Text, text};

/// Something on the machine could not be done. Boxed words, so that results stay small.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.phrase().en)]
pub struct Error {
    /// What was tried, and on what: `read the rules of netns:web`.
    what: Box<Phrase>,
    /// The kernel's own words, or ours.
    reason: Box<Phrase>,
    /// errno, if the kernel refused.
    pub errno: Option<i32>,
    /// What is needed, for people.
    pub hint: Option<Box<Phrase>>,
    /// True if what failed is the way to many readings: says nothing about what the kernel has.
    family: bool,
    /// Names that are close to one that is unknown, or that it may stand for.
    pub close: Vec<String>,
    /// A command that helps, complete.
    pub tries: Option<&'static str>,
}

impl Error {
    /// An error with a reason of our own. The `operation` holds a verb and the place of `{object}`, if it has one:
    /// `text!("read {object}", "...")`.
    pub fn new(operation: Text, object: impl Into<Phrase>, reason: Phrase) -> Self {
        Self {
            what: Box::new(operation.with(&[("object", &object.into())])),
            reason: Box::new(reason),
            errno: None,
            hint: None,
            family: false,
            close: vec![],
            tries: None,
        }
    }

    /// An error that the kernel gave; its words stay English.
    pub fn io(operation: Text, object: impl Into<Phrase>, error: &std::io::Error) -> Self {
        // "Operation not permitted (os error 1)" -> "operation not permitted"
        let text = error.to_string();
        let words = text.split(" (os error").next().unwrap_or(&text);
        Self { errno: errno(error), ..Self::new(operation, object, Phrase::same(words)) }
    }

    /// As [`Error::io`], for the way to a whole family of readings (a socket, a file system): it is never absence.
    /// Only one file, attribute or dump tells that the kernel has none of something; seccomp, a container and a
    /// missing mount answer ENOSYS, EAFNOSUPPORT or ENOENT for everything.
    pub fn family(operation: Text, object: impl Into<Phrase>, error: &std::io::Error) -> Self {
        Self { family: true, ..Self::io(operation, object, error) }
    }

    /// The whole sentence in both languages.
    pub fn phrase(&self) -> Phrase {
        text!("cannot {what}: {reason}", "无法{what}：{reason}")
            .with(&[("what", &self.what), ("reason", &self.reason)])
    }

    /// The same error, its reason with an addition in brackets.
    #[must_use]
    pub fn with_detail(mut self, detail: &str) -> Self {
        let reason = text!("{reason} ({detail})", "{reason} ({detail})");
        self.reason = Box::new(reason.with(&[("reason", &self.reason), ("detail", &detail.into())]));
        self
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

    /// The same error with a command that helps.
    #[must_use]
    pub fn with_try(mut self, command: &'static str) -> Self {
        self.tries = Some(command);
        self
    }

    /// True for EPERM and EACCES.
    pub fn is_denied(&self) -> bool {
        matches!(self.errno, Some(libc::EPERM | libc::EACCES))
    }

    /// True if the kernel refused, false if the reason is our own.
    pub fn is_kernels(&self) -> bool {
        self.errno.is_some()
    }

    /// True if the kernel does not have what was asked for: no such file, protocol, family or operation.
    /// Never of a whole family.
    pub fn is_absent(&self) -> bool {
        !self.family
            && matches!(
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

#[cfg(test)]
mod tests {
    use super::*;
    use whydrop_model::Reading;

    #[test]
    fn a_socket_that_does_not_open_is_not_absence() {
        for number in [libc::EAFNOSUPPORT, libc::ENOSYS, libc::ENOENT, libc::EPROTONOSUPPORT] {
            let error = std::io::Error::from_raw_os_error(number);
            let open = text!("open {object}", "打开 {object}");
            let whole: Reading<()> = Error::family(open, "a socket", &error).reading("root");
            assert!(matches!(whole, Reading::Failed(_)), "{number}: {whole:?}");
            let one: Reading<()> = Error::io(open, "a file", &error).reading("root");
            assert!(matches!(one, Reading::Absent(_)), "{number}: {one:?}");
        }
    }
}
