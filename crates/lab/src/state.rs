//! Which labs stand: a file per lab below /run/whydrop/lab, so that another process can take one down.

use crate::site::{Place, Site};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use whydrop_host::build;
use whydrop_host::error::{Error, Result};
use whydrop_host::sys::file;
use whydrop_model::text;

const DIRECTORY: &str = "/run/whydrop/lab";
/// Bytes of such a file; it has some hundred.
const LARGEST: usize = 64 << 10;
/// How long the process that holds a lab may take to end.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// A lab that stands, or whose process ended without taking it down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// First part of the names of its namespaces.
    pub name: String,
    /// Id of its fault.
    pub fault: String,
    /// Process that holds its services and traffic.
    pub pid: i32,
    /// Start time of that process in clock ticks since boot (proc_pid_stat(5), field 22): pids are used again.
    pub started: u64,
}

/// The claim of this process on a name; given up when it is dropped.
#[derive(Debug)]
pub struct Claim {
    name: String,
}

impl State {
    /// Claims a name for this process. What a killed process left behind under that name is removed; a lab whose
    /// process lives is an error.
    pub fn claim(name: &str, fault: &str) -> Result<Claim> {
        let path = path_of(name)?;
        let fail = |e: &std::io::Error| {
            Error::io(
                text!("keep the state of the lab in {object}", "把现场的状态写入 {object}"),
                path.display().to_string(),
                e,
            )
        };
        if let Some(state) = Self::find(name)? {
            if state.is_alive() {
                let hint = text!("whydrop lab down --name {name}", "whydrop lab down --name {name}");
                return Err(Error::new(
                    text!("build the lab {object}", "搭建现场 {object}"),
                    name,
                    text!("it stands already ({fault})", "它已经存在（{fault}）")
                        .fill(&[("fault", &state.fault)]),
                )
                .with_hint(hint.fill(&[("name", &name)])));
            }
            state.remove()?;
        }
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let started = start_time(pid).ok_or_else(|| {
            Error::new(
                text!("read {object}", "读取 {object}"),
                "/proc/self/stat",
                text!("no start time in it", "其中没有启动时间").phrase(),
            )
        })?;
        let state = Self { name: name.to_owned(), fault: fault.to_owned(), pid, started };
        DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY).map_err(|e| fail(&e))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
        let text = serde_json::to_vec(&state).map_err(|e| fail(&e.into()))?;
        file.and_then(|mut file| file.write_all(&text)).map_err(|e| fail(&e))?;
        Ok(Claim { name: name.to_owned() })
    }

    /// All labs that stand or were left behind.
    pub fn list() -> Result<Vec<Self>> {
        let fail = |e: &std::io::Error| Error::io(text!("list {object}", "列出 {object}"), DIRECTORY, e);
        let entries = match std::fs::read_dir(DIRECTORY) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(fail(&e)),
        };
        let mut states = vec![];
        for entry in entries {
            states.extend(Self::read(&entry.map_err(|e| fail(&e))?.path())?);
        }
        states.sort_by(|a: &Self, b| a.name.cmp(&b.name));
        Ok(states)
    }

    /// The lab of this name, if there is one.
    pub fn find(name: &str) -> Result<Option<Self>> {
        Self::read(&path_of(name)?)
    }

    /// Ends the process that holds the lab, and removes what it may have left.
    pub fn take_down(&self) -> Result<()> {
        let fail = |e: rustix::io::Errno| {
            Error::io(
                text!("end {object}", "结束{object}"),
                text!("the lab's process {pid}", "现场的进程 {pid}").fill(&[("pid", &self.pid)]),
                &e.into(),
            )
        };
        // The handle first: between the check and the signal the pid cannot change its owner.
        let handle = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(handle) = handle.filter(|_| self.is_alive()) {
            pidfd_send_signal(&handle, Signal::TERM).map_err(fail)?;
            let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&PATIENCE)).map_err(fail)?;
            if ended == 0 {
                return Err(Error::new(
                    text!("end {object}", "结束{object}"),
                    text!("the lab's process {pid}", "现场的进程 {pid}").fill(&[("pid", &self.pid)]),
                    text!("it does not end", "它没有退出").phrase(),
                ));
            }
        }
        self.remove()
    }

    fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match file::bounded(path, LARGEST) {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error),
        };
        // A file cut short by a full disk or a kill names no process any more; its name is still the lab's.
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
        Ok(serde_json::from_slice(&bytes)
            .ok()
            .or_else(|| Some(Self { name: name?, fault: "unknown".into(), pid: 0, started: 0 })))
    }

    fn is_alive(&self) -> bool {
        self.pid > 0 && start_time(self.pid) == Some(self.started)
    }

    fn remove(&self) -> Result<()> {
        remove_names(&self.name)?;
        let path = path_of(&self.name)?;
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(text!("remove {object}", "删除 {object}"), path.display().to_string(), &e))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // In a destructor there is nobody to tell; `lab down` finds what is left.
        path_of(&self.name).map(std::fs::remove_file).ok();
    }
}

fn remove_names(name: &str) -> Result<()> {
    [Place::Client, Place::Router, Place::Server]
        .iter()
        .try_for_each(|place| build::remove(&Site::namespace(name, *place)))
}

/// A lab's name becomes part of names of files and namespaces.
fn path_of(name: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 40 || !name.chars().all(plain) {
        return Err(Error::new(
            text!("use the name {object}", "使用名称 {object}"),
            format!("{name:?}"),
            text!("letters, digits, - and _ only, at most 40", "只能使用字母、数字、- 和 _，最多 40 个字符")
                .phrase(),
        ));
    }
    Ok(Path::new(DIRECTORY).join(name))
}

/// Field 22 of /proc/PID/stat; none for a process that has ended, reaped or not. The name in field 2 may hold
/// blanks and parentheses.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_names() {
        for name in ["", "..", "a/b", "a b", "x\n"] {
            assert!(path_of(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let started = start_time(pid).expect("own start time");
        let state = |started| State { name: "x".into(), fault: "y".into(), pid, started };
        assert!(state(started).is_alive());
        assert!(!state(started + 1).is_alive());
    }
}
