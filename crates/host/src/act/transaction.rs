//! Several changes as one: all of them, or none.

use super::journal::{Journal, Record, State, Undoing, boot, reopen};
use super::{announced, take_back};
use crate::error::{Error, Result};
use crate::sys::netns::Netns;
use whydrop_model::finding::Step;
use whydrop_model::target::Target;
use whydrop_model::text;

/// Changes that are made and taken back together.
#[derive(Debug)]
pub struct Transaction;

impl Transaction {
    /// Makes the changes in order, each in its namespace, and returns the transaction's id in the journal. If one
    /// fails, those before it are taken back and its error is returned.
    pub fn apply(journal: &Journal, steps: &[(&Target, &Netns, &Step)]) -> Result<String> {
        let mut record = journal.begin()?;
        for (target, netns, step) in steps {
            if let Err(error) = make(journal, &mut record, target, netns, step) {
                return Err(match roll_back(journal, &mut record) {
                    Ok(()) => error,
                    Err(worse) => Error::new(
                        text!("take back {object}", "撤销 {object}"),
                        record.id,
                        text!(
                            "{worse}; it was to be taken back because: {error}",
                            "{worse}；撤销的起因：{error}"
                        )
                        .with(&[("worse", &worse.phrase()), ("error", &error.phrase())]),
                    ),
                });
            }
        }
        record.state = State::Applied;
        journal.store(&record)?;
        Ok(record.id)
    }

    /// Takes a transaction back, the last step first. What was already taken back stays so: after an error it can be
    /// tried again.
    pub fn undo(journal: &Journal, id: &str) -> Result<()> {
        let mut record = journal.load(id)?;
        if record.state == State::Undone {
            return Err(Error::new(
                text!("take back {object}", "撤销 {object}"),
                id,
                text!("it was taken back already", "它已经撤销过").phrase(),
            ));
        }
        if record.boot != boot()? {
            return Err(Error::new(
                text!("take back {object}", "撤销 {object}"),
                id,
                text!("the machine has been started anew since", "此后机器重启过").phrase(),
            ));
        }
        roll_back(journal, &mut record)
    }
}

fn make(journal: &Journal, record: &mut Record, target: &Target, netns: &Netns, step: &Step) -> Result<()> {
    let argv = step.action.argv();
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let at = record.steps.len();
    let command = target.command_line(&words);
    let mut write = |undo: &[super::Undo]| {
        record.steps.truncate(at);
        record.steps.push(Undoing {
            target: target.clone(),
            command: command.clone(),
            undo: undo.to_vec(),
            undone: false,
        });
        journal.store(record)
    };
    let done = announced(netns, &step.action, &mut write)?;
    // Only now is it known which handle the kernel gave, or which routes went along.
    write(&done.undo)
}

fn roll_back(journal: &Journal, record: &mut Record) -> Result<()> {
    for at in (0..record.steps.len()).rev() {
        let Some(step) = record.steps.get_mut(at).filter(|step| !step.undone) else { continue };
        let netns = reopen(&step.target)?;
        for undo in &step.undo {
            take_back(&netns, undo)?;
        }
        step.undone = true;
        journal.store(record)?;
    }
    record.state = State::Undone;
    journal.store(record)
}
