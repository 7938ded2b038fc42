//! Files that whydrop writes: recordings, reports, captures. What is no regular file is written through, never
//! replaced.

use crate::error::{Error, Result};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use whydrop_model::{Text, text};

/// A FIFO's reader is waited for as long: both ends of a pipe start at about the same time.
const READER: Duration = Duration::from_secs(5);

/// How often is looked for it.
const TICK: Duration = Duration::from_millis(20);

/// Only the owner may read what tells a machine's addresses, rules and programs.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// What everybody may do with a new file, less the umask.
const USUAL: Mode = Mode::from_raw_mode(0o666);

/// Opens `path` for writing, emptied if it is a regular file, made if there is none. A device, a FIFO and what a
/// symbolic link points to are written through. A FIFO that nobody reads is an error after 5 seconds.
pub fn create(path: &Path) -> Result<File> {
    through(path, USUAL).map_err(|e| failed(path, &e))
}

/// Writes a file that only its owner may read: whole or not at all where `path` is a regular file or none (an
/// interrupted write leaves the old one), written through as [`create`] does where it is anything else.
pub fn private(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = match fs::symlink_metadata(path) {
        Ok(known) if !known.is_file() => through(path, PRIVATE).and_then(|mut file| {
            if file.metadata()?.is_file() {
                rustix::fs::fchmod(&file, PRIVATE)?;
            }
            file.write_all(bytes)
        }),
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        Ok(_) | Err(_) => replace(path, bytes),
    };
    written.map_err(|e| failed(path, &e))
}

fn failed(path: &Path, error: &io::Error) -> Error {
    const WRITE: Text = text!("write {object}", "写入 {object}");
    if error.raw_os_error() == Some(libc::ENXIO) {
        let why = text!("nobody reads it", "没有程序在读取它").phrase();
        return Error::new(WRITE, path.display().to_string(), why);
    }
    Error::io(WRITE, path.display().to_string(), error)
}

fn through(path: &Path, mode: Mode) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let until = Instant::now() + READER;
    let file = loop {
        match rustix::fs::open(path, flags | OFlags::TRUNC, mode) {
            Ok(file) => break file,
            // A FIFO without a reader; a socket never gets one.
            Err(Errno::NXIO) if Instant::now() < until && is_fifo(path) => std::thread::sleep(TICK),
            Err(e) => return Err(e.into()),
        }
    };
    // Only the opening must not wait.
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file.into())
}

fn is_fifo(path: &Path) -> bool {
    rustix::fs::stat(path).is_ok_and(|known| FileType::from_raw_mode(known.st_mode) == FileType::Fifo)
}

/// Through a temporary file beside it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
    let mut part = name.to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(part);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::open(&part, flags, PRIVATE)?);
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The write already failed; what matters is its error.
        fs::remove_file(&part).ok();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("whydrop-output-{}-{name}", std::process::id()));
        fs::remove_file(&path).ok();
        path
    }

    #[test]
    fn a_link_stays_and_its_target_takes_the_bytes() {
        let (link, target) = (scratch("link"), scratch("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for content in ["longer than the next", "next"] {
            private(&link, content.as_bytes()).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(&target).unwrap(), content);
            assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        }
        private(&target, b"whole").unwrap();
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(link).unwrap();
        fs::remove_file(target).unwrap();
    }

    #[test]
    fn a_fifo_stays_and_its_reader_is_waited_for() {
        let path = scratch("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, PRIVATE, 0).unwrap();
        let from = path.clone();
        let reader = std::thread::spawn(move || fs::read(from).unwrap());
        private(&path, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
        let began = Instant::now();
        let error = create(&path).unwrap_err().to_string();
        assert!(error.contains("nobody reads it") && began.elapsed() >= READER, "{error}");
        fs::remove_file(path).unwrap();
    }
}
