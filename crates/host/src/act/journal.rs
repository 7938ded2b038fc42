//! The journal: what was changed and how it is taken back, on disk before the change happens.
//!
//! One file of JSON per transaction. A file is written beside, synchronised and renamed, so that a crash leaves the
//! old or the new one, never half of it. What is taken from it runs with whydrop's privileges, so a journal that
//! somebody else can write to is refused. Whoever changes something holds the journal's lock meanwhile.

use super::Undo;
use super::place::Identity;
use crate::error::{Error, Result};
use crate::sys::file;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use whydrop_model::target::Target;
use whydrop_model::{Lang, Text, shell, text};

/// Version of the files' form.
const SCHEMA: &str = "whydrop.journal.v2";
/// Larger files are not ours.
const SIZE_MAX: u64 = 16 << 20;
/// More files than this are not looked into.
const RECORDS_MAX: usize = 10_000;
/// A change takes milliseconds; switching a link on, up to two seconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(20);
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

/// How far a step has come. A crash can fall between two of these, so the way back looks before it does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// About to be made.
    Intended,
    /// Made.
    Done,
    /// Taken back, or found to be as before.
    Undone,
}

/// A step and its way back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undoing {
    /// Where.
    pub target: Target,
    /// Its namespace.
    pub place: Identity,
    /// The command that does the same, for people.
    pub command: String,
    /// The way back, in order.
    pub undo: Vec<Undo>,
    /// How far it has come.
    pub progress: Progress,
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
    /// True unless the machine was started anew since; the changes are gone then.
    pub fn is_of_this_boot(&self) -> Result<bool> {
        Ok(self.boot == boot()?)
    }

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
#[derive(Clone, Debug)]
pub struct Journal {
    directory: PathBuf,
}

/// The right to change something; given back when it is dropped, or when its process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _directory: File,
}

/// What stands in a journal.
#[derive(Debug)]
pub struct Listing {
    /// The oldest first.
    pub records: Vec<Record>,
    /// What could not be read: each error names its file.
    pub unreadable: Vec<Error>,
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

    /// Waits until nobody else makes a change or takes one back. The directory itself is locked, so that this works
    /// where nothing can be written.
    pub(super) fn lock(&self) -> Result<Lock> {
        let name = self.directory.display().to_string();
        let fail = |e: &std::io::Error| {
            Error::io(text!("lock the journal {object}", "锁定改动记录 {object}"), name.as_str(), e)
        };
        let directory = File::open(&self.directory).map_err(|e| fail(&e))?;
        let since = Instant::now();
        loop {
            match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _directory: directory }),
                Err(rustix::io::Errno::WOULDBLOCK) if since.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(LOCK_POLL);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(Error::new(
                        text!("lock the journal {object}", "锁定改动记录 {object}"),
                        name.as_str(),
                        text!("another whydrop is making a change", "另一个 whydrop 正在改动").phrase(),
                    ));
                }
                Err(e) => return Err(fail(&e.into())),
            }
        }
    }

    /// Begins a transaction without steps.
    pub(super) fn begin(&self, _lock: &Lock) -> Result<Record> {
        let now = jiff::Timestamp::now();
        let seconds = now.strftime("%Y%m%dT%H%M%SZ");
        // Two transactions of one second get different numbers.
        let id = (1..1000).map(|number| format!("{seconds}-{number}"));
        let id = id.into_iter().find(|id| std::fs::symlink_metadata(self.path(id)).is_err());
        let id = id.ok_or_else(|| {
            Error::new(
                text!("write {object}", "写入{object}"),
                text!("the journal", "改动记录"),
                text!("too many changes at once", "同时进行的改动太多").phrase(),
            )
        })?;
        let record = Record {
            schema: SCHEMA.to_owned(),
            id,
            time: now.to_string(),
            boot: boot()?,
            state: State::Begun,
            steps: vec![],
        };
        self.store(&record)?;
        Ok(record)
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

    /// All transactions that can be read, and what is wrong with the others.
    pub fn list(&self) -> Result<Listing> {
        let name = self.directory.display().to_string();
        let fail = |e: &std::io::Error| {
            Error::io(text!("read the journal {object}", "读取改动记录 {object}"), name.as_str(), e)
        };
        let mut listing = Listing { records: vec![], unreadable: vec![] };
        for entry in std::fs::read_dir(&self.directory).map_err(|e| fail(&e))?.take(RECORDS_MAX) {
            let name = entry.map_err(|e| fail(&e))?.file_name().to_string_lossy().into_owned();
            match name.strip_suffix(".json").map(|id| self.load(id)) {
                Some(Ok(record)) => listing.records.push(record),
                Some(Err(error)) => listing.unreadable.push(error),
                None => (),
            }
        }
        listing.records.sort_by(|a, b| (&a.time, &a.id).cmp(&(&b.time, &b.id)));
        Ok(listing)
    }

    /// One transaction.
    pub fn load(&self, id: &str) -> Result<Record> {
        let shown = shell::sanitize(id, 40);
        let fail = |why: Text| {
            Error::new(text!("find the change {object}", "找到改动 {object}"), shown.as_str(), why.phrase())
        };
        let refused = |e: &std::io::Error| {
            Error::io(text!("find the change {object}", "找到改动 {object}"), shown.as_str(), e)
        };
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(fail(text!("not a number of a change", "不是改动的编号")));
        }
        // Without waiting: whoever puts a FIFO there must not make anybody wait for ever.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(self.path(id));
        let file = opened.map_err(|e| refused(&e))?;
        if !file.metadata().map_err(|e| refused(&e))?.is_file() {
            return Err(fail(text!("its record is no regular file", "它的记录不是普通文件")));
        }
        let mut bytes = vec![];
        file.take(SIZE_MAX).read_to_end(&mut bytes).map_err(|e| refused(&e))?;
        let damaged = || fail(text!("its record is damaged", "它的记录已损坏"));
        let form: Form = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        if form.schema != SCHEMA || form.id != id {
            return Err(fail(text!("its record is of another version", "它的记录属于另一版本")));
        }
        serde_json::from_slice(&bytes).map_err(|_| damaged())
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }
}

/// What every version of the form has.
#[derive(Deserialize)]
struct Form {
    schema: String,
    id: String,
}

/// Id of this boot.
pub(super) fn boot() -> Result<String> {
    Ok(file::read(BOOT_ID)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("wd-journal-{name}-{}", std::process::id()))
    }

    #[test]
    fn transactions_that_begin_at_once_get_numbers_of_their_own() {
        let directory = directory("at-once");
        let journal = Journal::at(&directory).expect("a journal");
        let mut ids: Vec<String> = std::thread::scope(|scope| {
            let begin = || journal.lock().and_then(|lock| journal.begin(&lock)).map(|record| record.id);
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic").expect("a number")).collect()
        });
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 16);
        assert_eq!(journal.list().expect("a list").records.len(), 16);
        std::fs::remove_dir_all(&directory).expect("removed");
    }

    /// One bad file must not hide the good ones, nor hang whoever lists them.
    #[test]
    fn what_cannot_be_read_is_named_and_skipped() {
        let directory = directory("bad");
        let journal = Journal::at(&directory).expect("a journal");
        let good = journal.lock().and_then(|lock| journal.begin(&lock)).expect("a record").id;
        let put = |name: &str, text: &str| {
            std::fs::write(directory.join(format!("{name}.json")), text).expect("written");
        };
        put("damaged", "{");
        put("newer", r#"{"schema": "whydrop.journal.v9", "id": "newer", "steps": 7}"#);
        put("n\u{1b}ame", "{}");
        std::fs::create_dir(directory.join("folder.json")).expect("made");
        std::os::unix::fs::symlink("/dev/zero", directory.join("link.json")).expect("made");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            directory.join("fifo.json"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .expect("made");
        let listing = journal.list().expect("a list");
        assert_eq!(listing.records.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), [good]);
        let mut said: Vec<String> = listing.unreadable.iter().map(ToString::to_string).collect();
        said.sort();
        let why = ["damaged", "another version", "not a number", "no regular file", "no regular file"];
        for word in why {
            assert!(said.iter().any(|line| line.contains(word)), "{word} in {said:?}");
        }
        assert_eq!(said.len(), 6);
        assert!(said.iter().all(|line| !line.contains('\u{1b}')), "{said:?}");
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
