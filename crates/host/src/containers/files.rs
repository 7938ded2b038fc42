//! State files of engines and runtimes: some of them lie where any user can write.

use rustix::fs::{FileType, Mode, OFlags, fstat};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of one state file: a store's list has some 500 for each container.
pub(super) const LARGE: usize = 64 << 20;

/// At most `limit` bytes of a regular file; none if there is none, it is something else, or it is larger.
pub(super) fn bytes(path: &PathBuf, limit: usize) -> Option<Vec<u8>> {
    // Neither a FIFO nor a link that somebody put there may hold it up or lead it elsewhere.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file: File = rustix::fs::open(path, flags, Mode::empty()).ok()?.into();
    if FileType::from_raw_mode(fstat(&file).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut out = vec![];
    file.take(limit as u64 + 1).read_to_end(&mut out).ok()?;
    (out.len() <= limit).then_some(out)
}

/// The same as text.
pub(super) fn text(path: &PathBuf, limit: usize) -> Option<String> {
    bytes(path, limit).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The same as JSON; none as well if it is not what the type says.
pub(super) fn json<T: serde::de::DeserializeOwned>(path: &PathBuf) -> Option<T> {
    serde_json::from_slice(&bytes(path, LARGE)?).ok()
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
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
