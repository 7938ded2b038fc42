//! Several changes as one: all of them, or none.

use super::journal::{Journal, Progress, Record, State, Undoing};
use super::place::{self, Identity};
use super::worker::Worker;
use super::{Undo, look, perform};
use crate::error::{Error, Result};
use crate::sys::netns::Netns;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use whydrop_model::finding::Step;
use whydrop_model::target::Target;
use whydrop_model::text;

/// Changes that were made together, with the threads that can take them back.
#[derive(Debug)]
pub struct Transaction {
    journal: Journal,
    id: String,
    /// By inode.
    workers: BTreeMap<u64, Worker>,
}

/// What became of one step on the way back.
#[derive(Debug)]
pub enum Outcome {
    /// Taken back now.
    Undone,
    /// It was as before already.
    AsBefore,
    /// It could not be taken back, and stands.
    Failed(Error),
}

/// What became of all steps, the last one first.
#[derive(Debug)]
pub struct TakenBack {
    /// Command of the step, and its outcome.
    pub steps: Vec<(String, Outcome)>,
    /// Why the journal does not know of it. It can be tried again then: nothing is taken back twice.
    pub unrecorded: Option<Error>,
}

impl TakenBack {
    /// The first step that stands.
    pub fn failed(&self) -> Option<&Error> {
        self.steps.iter().find_map(|(_, outcome)| match outcome {
            Outcome::Failed(error) => Some(error),
            Outcome::Undone | Outcome::AsBefore => None,
        })
    }
}

/// The record while it grows; the threads that make changes write into it, too.
#[derive(Clone)]
struct Book {
    journal: Journal,
    record: Arc<Mutex<Record>>,
}

impl Book {
    /// A thread that panicked has stored what it had.
    fn open(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, at: usize, step: Undoing) -> Result<()> {
        let mut record = self.open();
        record.steps.truncate(at);
        record.steps.push(step);
        self.journal.store(&record)
    }
}

impl Transaction {
    /// Makes the changes in order, each in its namespace. If one fails, those before it are taken back and its error
    /// is returned. Nothing is changed if a target's name no longer leads to the namespace that is held.
    pub fn apply(journal: &Journal, steps: &[(&Target, &Netns, &Step)]) -> Result<Self> {
        let mut workers = BTreeMap::new();
        let mut places = vec![];
        for (target, netns, _) in steps {
            place::unchanged(target, netns)?;
            if let std::collections::btree_map::Entry::Vacant(free) = workers.entry(netns.inode()) {
                free.insert(Worker::enter(netns)?);
            }
            places.push(Identity::of(netns)?);
        }
        let lock = journal.lock()?;
        let record = journal.begin(&lock)?;
        let made = Self { journal: journal.clone(), id: record.id.clone(), workers };
        let book = Book { journal: journal.clone(), record: Arc::new(Mutex::new(record)) };
        let all = steps.iter().zip(&places).enumerate();
        let mut done = Ok(());
        for (at, ((target, netns, step), place)) in all {
            done = done.and_then(|()| made.make(&book, at, target, *place, netns, step));
        }
        let done = done.and_then(|()| {
            let mut record = book.open();
            record.state = State::Applied;
            journal.store(&record)
        });
        let Err(error) = done else { return Ok(made) };
        let mut record = book.open();
        let back = made.roll_back(&mut record);
        Err(match back.failed() {
            None => error,
            Some(worse) => Error::new(
                text!("take back {object}", "撤销 {object}"),
                made.id.as_str(),
                text!("{worse}; it was to be taken back because: {error}", "{worse}；撤销的起因：{error}")
                    .with(&[("worse", &worse.phrase()), ("error", &error.phrase())]),
            ),
        })
    }

    /// Its number in the journal.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn make(
        &self,
        book: &Book,
        at: usize,
        target: &Target,
        place: Identity,
        netns: &Netns,
        step: &Step,
    ) -> Result<()> {
        let argv = step.action.argv();
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        // A change that cannot be typed is told by the reason for it.
        let command = target.command_line(&words).unwrap_or_else(|reason| reason.en);
        let target = target.clone();
        let undoing = move |undo: &[Undo], progress| Undoing {
            target: target.clone(),
            place,
            command: command.clone(),
            undo: undo.to_vec(),
            progress,
        };
        let worker = self.workers.get(&netns.inode()).ok_or_else(|| gone(&self.id))?;
        let (action, book) = (step.action.clone(), book.clone());
        worker.run(move || {
            let mut announce = |undo: &[Undo]| book.write(at, undoing(undo, Progress::Intended));
            let undo = perform(&action, None, &mut announce)?;
            // Only now is it known which handle the kernel gave, or which routes went along.
            book.write(at, undoing(&undo, Progress::Done))
        })?
    }

    /// Commands of the steps that do not stand any more: somebody else has undone them.
    pub fn fallen(&self) -> Result<Vec<String>> {
        let mut fallen = vec![];
        for step in self.journal.load(&self.id)?.steps {
            // The first thing of a step is the step itself; what follows went with it.
            let Some(first) = step.undo.first().cloned() else { continue };
            let worker = self.workers.get(&step.target.netns_inode).ok_or_else(|| gone(&self.id))?;
            if worker.run(move || look::as_before(&first))?? {
                fallen.push(step.command);
            }
        }
        Ok(fallen)
    }

    /// Takes it back, as far as that was not done yet.
    pub fn take_back(&self) -> Result<TakenBack> {
        let _lock = self.journal.lock()?;
        let mut record = self.journal.load(&self.id)?;
        Ok(self.roll_back(&mut record))
    }

    /// Takes a transaction of the journal back, the last step first. What is as before stays so, a step that fails is
    /// told and keeps no other from being taken back.
    pub fn undo(journal: &Journal, id: &str) -> Result<TakenBack> {
        let _lock = journal.lock()?;
        let mut record = journal.load(id)?;
        let refuse = |why: whydrop_model::Text| {
            Error::new(text!("take back {object}", "撤销 {object}"), id, why.phrase())
        };
        if record.state == State::Undone {
            return Err(refuse(text!("it was taken back already", "它已经撤销过")));
        }
        if !record.is_of_this_boot()? {
            return Err(refuse(text!("the machine has been started anew since", "此后机器重启过")));
        }
        let made = Self { journal: journal.clone(), id: id.to_owned(), workers: BTreeMap::new() };
        Ok(made.roll_back(&mut record))
    }

    fn roll_back(&self, record: &mut Record) -> TakenBack {
        let mut steps = vec![];
        for step in record.steps.iter_mut().rev().filter(|step| step.progress != Progress::Undone) {
            let outcome = self.back(step).unwrap_or_else(Outcome::Failed);
            if !matches!(outcome, Outcome::Failed(_)) {
                step.progress = Progress::Undone;
            }
            steps.push((step.command.clone(), outcome));
        }
        if record.steps.iter().all(|step| step.progress == Progress::Undone) {
            record.state = State::Undone;
        }
        TakenBack { steps, unrecorded: self.journal.store(record).err() }
    }

    /// Takes one step back. All of its parts are tried; the first error counts.
    fn back(&self, step: &Undoing) -> Result<Outcome> {
        let opened;
        let worker = match self.workers.get(&step.target.netns_inode) {
            Some(worker) => worker,
            None => {
                opened = Worker::enter(&place::reopen(&step.target, step.place)?)?;
                &opened
            }
        };
        let (mut failed, mut changed) = (None, false);
        for undo in step.undo.iter().cloned() {
            let done = worker.run(move || {
                let there = look::as_before(&undo)?;
                if !there {
                    perform(&undo.action, Some(&undo), &mut |_| Ok(()))?;
                }
                Ok(!there)
            });
            match done.and_then(|done| done) {
                Ok(now) => changed |= now,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => Err(error),
            None if changed => Ok(Outcome::Undone),
            None => Ok(Outcome::AsBefore),
        }
    }
}

/// True if a step that stands could be taken back: its namespace is there. The error says why not.
pub fn reachable(record: &Record) -> Result<()> {
    let mut trouble = None;
    for step in record.steps.iter().filter(|step| step.progress != Progress::Undone) {
        match place::reopen(&step.target, step.place) {
            Ok(_) => return Ok(()),
            Err(error) => trouble = Some(error),
        }
    }
    trouble.map_or(Ok(()), Err)
}

fn gone(id: &str) -> Error {
    Error::new(
        text!("take back {object}", "撤销 {object}"),
        id,
        text!("its namespace is not held", "没有持有它的命名空间").phrase(),
    )
}
