//! State files of engines and runtimes: some of them lie where any user can write.

use crate::error::{Error, Result};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use whydrop_model::{Phrase, Text, text};

const READ: Text = text!("read {object}", "读取 {object}");

/// Bytes of one state file: a store's list has some 500 for each container.
pub(super) const LARGE: usize = 64 << 20;

/// All bytes of a regular file of at most `limit`.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::io(READ, path.display().to_string(), &error);
    let odd = |reason: Phrase| Err(Error::new(READ, path.display().to_string(), reason));
    // Neither a FIFO nor a link that somebody put there may hold it up or lead it elsewhere.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file: File = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?.into();
    let mode = fstat(&file).map_err(|e| failed(e.into()))?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return odd(text!("it is no regular file", "它不是普通文件").phrase());
    }
    let mut out = vec![];
    file.take(limit as u64 + 1).read_to_end(&mut out).map_err(failed)?;
    if out.len() > limit {
        let large = text!("it is larger than {n} bytes", "它大于 {n} 字节");
        return odd(large.fill(&[("n", &limit)]));
    }
    Ok(out)
}

/// At most `limit` bytes of a regular file; none if there is none, it is something else, or it is larger.
pub(super) fn bytes(path: &Path, limit: usize) -> Option<Vec<u8>> {
    read(path, limit).ok()
}

/// The same as text.
pub(super) fn text(path: &Path, limit: usize) -> Option<String> {
    bytes(path, limit).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// A state file of JSON; none if there is none. The first one that is there and cannot be read, or does not say what the
/// type says, is kept in `unread`: it hides whose it is.
pub(super) fn json<T: serde::de::DeserializeOwned>(path: &Path, unread: &mut Option<Error>) -> Option<T> {
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| {
            let reason = text!("its content is odd: {error}", "其内容异常：{error}");
            Error::new(READ, path.display().to_string(), reason.fill(&[("error", &error)]))
        })
    };
    // What a directory of containers holds beside their directories is nobody's.
    let nobodys = |error: &Error| error.is_absent() || !path.parent().is_some_and(Path::is_dir);
    match read(path, LARGE).and_then(parse) {
        Ok(said) => Some(said),
        Err(error) if nobodys(&error) => None,
        Err(error) => {
            unread.get_or_insert(error);
            None
        }
    }
}

/// A path as the machine sees it. Whydrop may run in a container that shares the machine's processes and not its files:
/// then the root of the first process leads there.
pub(super) fn on_machine(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    let machine = path.strip_prefix("/").map(|rest| Path::new("/proc/1/root").join(rest));
    match machine {
        Ok(machine) if !path.exists() && machine.exists() => machine,
        _ => path.to_owned(),
    }
}

/// Names of what is in a directory; empty if it cannot be listed.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_file_is_none() {
        let directory = std::env::temp_dir().join(format!("whydrop-files-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (fifo, link, plain) = (directory.join("fifo"), directory.join("link"), directory.join("plain"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        std::fs::write(&plain, "{\"a\":1}").unwrap();
        assert_eq!((bytes(&fifo, 100), bytes(&link, 100), bytes(&plain, 3)), (None, None, None));
        assert_eq!(text(&plain, 7).as_deref(), Some("{\"a\":1}"));
        let mut unread = None;
        let mut said = |name: &str| json::<serde_json::Value>(&directory.join(name), &mut unread).is_some();
        assert!(said("plain") && !said("gone") && !said("plain/inside"));
        assert!(unread.is_none(), "what is not there was not read badly: {unread:?}");
        assert!(json::<Vec<u8>>(&plain, &mut unread).is_none());
        assert!(json::<serde_json::Value>(&fifo, &mut unread).is_none());
        assert!(unread.is_some_and(|error| error.to_string().contains("/plain: its content")), "the first");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
