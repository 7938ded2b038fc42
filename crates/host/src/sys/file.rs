//! Reading files: small ones of /proc, and those that somebody named, of which nothing is taken on trust.

use crate::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};
use whydrop_model::{Text, text};

/// Who writes into a pipe may take so long for all of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Each family of files, and one of it that every kernel has: where that is missing, nothing is said by the absence
/// of another (no /proc, or one that is covered).
const FAMILIES: [(&str, &str); 2] =
    [("/proc/thread-self/net/", "/proc/thread-self/net/dev"), ("/proc/sys/net/", "/proc/sys/net/core")];

/// Longer than nearly every file of /proc.
const PAGE: usize = 4096;

const READ: Text = text!("read {object}", "读取 {object}");

/// The whole file as text; bytes that are not UTF-8 become U+FFFD. Relative to the calling thread's namespace for
/// `/proc/thread-self/net` and `/proc/sys/net` (never use `/proc/self/net`: that is the main thread's).
pub fn read(path: &str) -> Result<String> {
    let whole = |file: File| {
        // With room for most files at once, and without a question for their size, which is 0 in /proc.
        let mut bytes = Vec::with_capacity(PAGE);
        file.take(u64::MAX).read_to_end(&mut bytes).map(|_| bytes)
    };
    File::open(path).and_then(whole).map(text_of).map_err(|e| refused(path, &e))
}

/// A setting below /proc/sys. The kernel gives all of it to the first read that has room.
pub fn setting(path: &str) -> Result<String> {
    let mut bytes = [0; PAGE];
    let length =
        File::open(path).and_then(|mut file| file.read(&mut bytes)).map_err(|e| refused(path, &e))?;
    match bytes.get(..length).filter(|text| text.len() < PAGE) {
        Some(text) => Ok(text_of(text.to_vec())),
        None => read(path),
    }
}

fn refused(path: &str, error: &io::Error) -> Error {
    let family = FAMILIES.iter().find(|(family, _)| path.starts_with(family));
    match family.filter(|(_, always)| !Path::new(always).exists()) {
        Some(_) => Error::family(READ, path, error),
        None => Error::io(READ, path, error),
    }
}

fn text_of(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// The whole of a file that somebody named, at most `limit` bytes. Neither a FIFO without a writer nor one that drips
/// holds it up for more than 10 seconds; a directory and a socket are errors.
pub fn bounded(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let name = || path.display().to_string();
    let file = open(path).map_err(|e| Error::io(READ, name(), &e))?;
    let mut bytes = vec![];
    let until = Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !readable(&file, left).map_err(|e| Error::io(READ, name(), &e))? {
            let why = text!("it does not end within {n} seconds", "{n} 秒内没有读完");
            return Err(Error::new(READ, name(), why.fill(&[("n", &PATIENCE.as_secs())])));
        }
        let room = (limit + 1).saturating_sub(bytes.len()) as u64;
        match (&file).take(room.min(1 << 20)).read_to_end(&mut bytes) {
            Ok(0) => return Ok(bytes),
            Ok(_) => (),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => (),
            Err(e) => return Err(Error::io(READ, name(), &e)),
        }
        if bytes.len() > limit {
            let why = text!("it is larger than {n} MiB", "它大于 {n} MiB");
            return Err(Error::new(READ, name(), why.fill(&[("n", &(limit >> 20))])));
        }
    }
}

/// Opens what may be anything, without waiting for another end.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// True as soon as a read does not wait; false when the time is up.
fn readable(file: &File, left: Duration) -> io::Result<bool> {
    // A regular file is always ready, and says so.
    if FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::RegularFile {
        return Ok(true);
    }
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    match poll(&mut fds, Some(&left)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(left.tv_sec > 0),
        Err(e) => Err(e.into()),
    }
}

/// An error for a file whose text is not what the kernel writes.
pub fn malformed(path: &str) -> Error {
    Error::new(
        text!("understand {object}", "解读 {object}"),
        path,
        text!("it has an unknown form", "格式未知").phrase(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_an_error_in_time() {
        let path = std::env::temp_dir().join(format!("whydrop-file-{}", std::process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let began = Instant::now();
        let error = bounded(&path, 9).unwrap_err().to_string();
        assert!(error.contains("10 seconds") && began.elapsed() < PATIENCE * 2, "{error}");
        std::fs::remove_file(&path).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(bounded(&path, 9).unwrap_err().to_string().contains("No such device"));
        std::fs::remove_file(&path).unwrap();
        assert!(bounded(Path::new("/tmp"), 9).unwrap_err().to_string().contains("irectory"));
        assert!(bounded(Path::new("/dev/zero"), 9).unwrap_err().to_string().contains("larger"));
        assert_eq!(bounded(Path::new("/dev/null"), 9).unwrap(), b"");
    }

    #[test]
    fn a_pipe_gives_all_that_is_written() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut write = File::from(write);
        let writer = std::thread::spawn(move || {
            for part in ["a", "b"] {
                io::Write::write_all(&mut write, part.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&read));
        let path = Path::new(&path);
        assert_eq!(bounded(path, 9).unwrap(), b"ab");
        writer.join().unwrap();
    }
}
