//! The journal: what was changed and how it is taken back, on disk before the change happens.
//!
//! One file of JSON per transaction. A file is written beside, synchronised and renamed, so that a crash leaves the
//! old or the new one, never half of it. What is taken from it runs with whydrop's privileges, so a journal that
//! somebody else can write to is refused.

use super::Undo;
use crate::error::{Error, Result};
use crate::sys::file;
use crate::sys::netns::Netns;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use whydrop_model::target::{Entry, Target};
use whydrop_model::{Lang, Text, shell, text};

/// Version of the files' form.
const SCHEMA: &str = "whydrop.journal.v1";
/// Larger files are not ours.
const SIZE_MAX: u64 = 16 << 20;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How far a transaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Written down; some of its steps may have been made. Stays after a crash.
    Begun,
    /// All steps were made.
    Applied,
    /// Taken back.
    Undone,
}

/// A step and its way back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undoing {
    /// Where.
    pub target: Target,
    /// The command that does the same, for people.
    pub command: String,
    /// The way back, in order.
    pub undo: Vec<Undo>,
    /// True once it was taken back.
    pub undone: bool,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Form of this file.
    schema: String,
    /// Name of the transaction and of its file.
    pub id: String,
    /// RFC 3339, UTC.
    pub time: String,
    /// Boot in which the changes were made; after another boot they are gone.
    pub boot: String,
    /// How far it has come.
    pub state: State,
    /// Its steps, in the order in which they were made; they are taken back from the last to the first.
    pub steps: Vec<Undoing>,
}

impl Record {
    /// One line for people.
    pub fn line(&self, lang: Lang) -> String {
        let state = match self.state {
            State::Begun => text!("interrupted", "中断"),
            State::Applied => text!("applied", "已执行"),
            State::Undone => text!("taken back", "已撤销"),
        };
        let commands: Vec<&str> = self.steps.iter().map(|step| step.command.as_str()).collect();
        format!("{}  {}  {}  {}", self.id, self.time, state.get(lang), commands.join("; "))
    }
}

/// A directory of transactions.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// The journal of this machine: below /var/lib/whydrop for root, else below the user's own state.
    pub fn open() -> Result<Self> {
        let root = rustix::process::geteuid().is_root();
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state = || variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
        let base = if root { Some(PathBuf::from("/var/lib")) } else { state() };
        let base = base.ok_or_else(|| {
            Error::new(
                text!("open {object}", "打开{object}"),
                text!("the journal", "改动记录"),
                text!("there is no home directory", "没有主目录").phrase(),
            )
        })?;
        Self::at(&base.join("whydrop/journal"))
    }

    /// A journal in this directory, which is made if need be.
    pub fn at(directory: &Path) -> Result<Self> {
        let name = directory.display().to_string();
        let fail = |e: &std::io::Error| {
            Error::io(text!("open the journal {object}", "打开改动记录 {object}"), name.as_str(), e)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|e| fail(&e))?;
        let found = std::fs::metadata(directory).map_err(|e| fail(&e))?;
        if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
            return Err(Error::new(
                text!("open the journal {object}", "打开改动记录 {object}"),
                name,
                text!("others can write to it", "其他用户可以写入它").phrase(),
            ));
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// Begins a transaction without steps.
    pub(super) fn begin(&self) -> Result<Record> {
        let now = jiff::Timestamp::now();
        let seconds = now.strftime("%Y%m%dT%H%M%SZ");
        let record = |number: u32| Record {
            schema: SCHEMA.to_owned(),
            id: format!("{seconds}-{number}"),
            time: now.to_string(),
            boot: String::new(),
            state: State::Begun,
            steps: vec![],
        };
        // Two transactions of one second get different numbers, also when two processes begin them at once.
        let mut free = None;
        for record in (1..1000).map(record) {
            if self.claim(&record.id)? {
                free = Some(record);
                break;
            }
        }
        let mut record = free.ok_or_else(|| {
            Error::new(
                text!("write {object}", "写入{object}"),
                text!("the journal", "改动记录"),
                text!("too many changes at once", "同时进行的改动太多").phrase(),
            )
        })?;
        record.boot = boot()?;
        self.store(&record)?;
        // A claim that stays costs a number of that second, nothing else.
        std::fs::remove_file(self.claim_path(&record.id)).ok();
        Ok(record)
    }

    /// Takes a number, until its record stands: only one process can make the file that says so.
    fn claim(&self, id: &str) -> Result<bool> {
        let claim = self.claim_path(id);
        let fail = |e: std::io::Error| {
            Error::io(text!("write {object}", "写入 {object}"), claim.display().to_string(), &e)
        };
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&claim) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(fail(e)),
            // The record of another process stands already.
            Ok(_) if self.path(id).exists() => std::fs::remove_file(&claim).map(|()| false).map_err(fail),
            Ok(_) => Ok(true),
        }
    }

    /// Writes a transaction down for good.
    pub(super) fn store(&self, record: &Record) -> Result<()> {
        let path = self.path(&record.id);
        let beside = path.with_extension("new");
        let name = path.display().to_string();
        let fail = |e: std::io::Error| Error::io(text!("write {object}", "写入 {object}"), name.as_str(), &e);
        let bytes = serde_json::to_vec_pretty(record).map_err(|e| fail(e.into()))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut new = options.open(&beside).map_err(fail)?;
        new.write_all(&bytes).and_then(|()| new.sync_all()).map_err(fail)?;
        std::fs::rename(&beside, &path).map_err(fail)?;
        // The name is on disk only once the directory is.
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(fail)
    }

    /// All transactions, the oldest first.
    pub fn list(&self) -> Result<Vec<Record>> {
        let name = self.directory.display().to_string();
        let fail = |e: &std::io::Error| {
            Error::io(text!("read the journal {object}", "读取改动记录 {object}"), name.as_str(), e)
        };
        let mut ids = vec![];
        for entry in std::fs::read_dir(&self.directory).map_err(|e| fail(&e))? {
            let name = entry.map_err(|e| fail(&e))?.file_name();
            ids.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
        }
        let mut records: Vec<Record> = ids.iter().map(|id| self.load(id)).collect::<Result<_>>()?;
        records.sort_by(|a, b| (&a.time, &a.id).cmp(&(&b.time, &b.id)));
        Ok(records)
    }

    /// The last transaction that was not taken back and that is of this boot.
    pub fn last(&self) -> Result<Option<Record>> {
        let boot = boot()?;
        let open = |record: &Record| record.state != State::Undone && record.boot == boot;
        Ok(self.list()?.into_iter().rfind(open))
    }

    /// One transaction.
    pub fn load(&self, id: &str) -> Result<Record> {
        let shown = shell::sanitize(id, 40);
        let fail = |why: Text| {
            Error::new(text!("find the change {object}", "找到改动 {object}"), shown.as_str(), why.phrase())
        };
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(fail(text!("not a number of a change", "不是改动的编号")));
        }
        let path = self.path(id);
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path);
        let file = opened.map_err(|e| {
            Error::io(text!("find the change {object}", "找到改动 {object}"), shown.as_str(), &e)
        })?;
        let mut bytes = vec![];
        file.take(SIZE_MAX)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(text!("read {object}", "读取 {object}"), shown.as_str(), &e))?;
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|_| fail(text!("its record is damaged", "它的记录已损坏")))?;
        if record.schema != SCHEMA || record.id != id {
            return Err(fail(text!("its record is of another version", "它的记录属于另一版本")));
        }
        Ok(record)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn claim_path(&self, id: &str) -> PathBuf {
        self.path(id).with_extension("claim")
    }
}

/// Id of this boot.
pub(super) fn boot() -> Result<String> {
    Ok(file::read(BOOT_ID)?.trim().to_owned())
}

/// Opens the namespace of a target again; refuses another one that took its place.
pub(super) fn reopen(target: &Target) -> Result<Netns> {
    let netns = match &target.entry {
        Entry::Here => Netns::current(),
        Entry::Path(path) => Netns::open(Path::new(path)),
        Entry::Pid(pid) => Netns::open(Path::new(&format!("/proc/{pid}/ns/net"))),
    }?;
    if netns.inode() != target.netns_inode {
        return Err(Error::new(
            text!("enter {object}", "进入 {object}"),
            target.id.as_str(),
            text!("another namespace has taken its place", "它的位置已被另一个命名空间占用").phrase(),
        ));
    }
    Ok(netns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_that_begin_at_once_get_numbers_of_their_own() {
        let directory = std::env::temp_dir().join(format!("wd-journal-{}", std::process::id()));
        let journal = Journal::at(&directory).expect("a journal");
        let mut ids: Vec<String> = std::thread::scope(|scope| {
            let begin = || journal.begin().map(|record| record.id);
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic").expect("a number")).collect()
        });
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 16);
        assert_eq!(journal.list().expect("a list").len(), 16);
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
