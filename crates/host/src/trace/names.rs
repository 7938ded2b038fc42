//! Numbers to names: functions, reasons, owners. Functions are read on a thread beside the loading of the BPF program,
//! for that takes tens of milliseconds and the first drop should be shown within a tenth of a second.

use super::owner::Owners;
use super::reasons::Reasons;
use super::symbols::Symbols;
use crate::error::Result;
use std::thread::{self, JoinHandle};
use whydrop_model::drops::SocketOwner;

/// Callers kept of a stack: enough to pass a hook's own functions up to the one that called the hook.
const CALLERS: usize = 10;

/// Names for one tracer.
pub struct Names {
    loading: Option<JoinHandle<Result<Symbols>>>,
    symbols: Symbols,
    failed: Option<String>,
    /// Empty until whoever read the kernel's types sets them.
    pub reasons: Reasons,
    owners: Option<Owners>,
}

impl Names {
    /// Begins to read.
    pub fn start(owners: bool) -> Self {
        let mut names = Self {
            loading: None,
            symbols: Symbols::default(),
            failed: None,
            reasons: Reasons::default(),
            owners: owners.then(Owners::default),
        };
        match thread::Builder::new().name("names".into()).spawn(Symbols::read) {
            Ok(thread) => names.loading = Some(thread),
            Err(_) => names.take(Symbols::read()),
        }
        names
    }

    /// Without symbols a drop is still counted; it then shows no function.
    fn take(&mut self, read: Result<Symbols>) {
        match read {
            Ok(symbols) => self.symbols = symbols,
            Err(error) => self.failed = Some(error.to_string()),
        }
    }

    fn symbols(&mut self) -> &Symbols {
        if let Some(loading) = self.loading.take() {
            self.take(loading.join().unwrap_or_else(|_| Symbols::read()));
        }
        &self.symbols
    }

    /// What could not be read, each with the reason.
    pub fn failed(&mut self) -> Vec<String> {
        self.symbols();
        self.failed.iter().cloned().collect()
    }

    /// Name of a reason, as [`Reasons::name`].
    pub fn reason(&self, number: u32) -> String {
        self.reasons.name(number)
    }

    /// Function of an address, and the offset in it; empty if unknown.
    pub fn function(&mut self, address: u64) -> (String, Option<u32>) {
        match self.symbols().find(address) {
            Some((name, offset)) => (name.to_owned(), Some(offset)),
            None => (String::new(), None),
        }
    }

    /// Who called the function that dropped: the stack without the tracer's own frames and without that function.
    pub fn callers(&mut self, stack: &[u64], location: u64) -> Vec<String> {
        let Some(at) = stack.iter().position(|&address| address == location) else { return vec![] };
        let symbols = self.symbols();
        let callers = stack.iter().skip(at + 1).take(CALLERS);
        callers
            .map(|&address| symbols.find(address).map_or_else(|| "?".into(), |(name, _)| name.to_owned()))
            .collect()
    }

    /// Owner of a socket, if owners were asked for.
    pub fn owner(&mut self, socket_inode: Option<u64>, cgroup_id: Option<u64>) -> Option<SocketOwner> {
        self.owners.as_mut()?.find(socket_inode, cgroup_id)
    }
}
