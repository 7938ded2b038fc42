//! Numbers to names: functions, reasons, owners. Read on a thread beside the loading of the BPF program, for each
//! takes tens of milliseconds and the first drop should be shown within a tenth of a second.

use super::owner::Owners;
use super::reasons::Reasons;
use super::symbols::Symbols;
use std::thread::{self, JoinHandle};
use whydrop_model::drops::SocketOwner;

/// Callers kept of a stack: enough to pass a hook's own functions up to the one that called the hook.
const CALLERS: usize = 10;

/// Names for one tracer.
pub struct Names {
    loading: Option<JoinHandle<Tables>>,
    tables: Tables,
    owners: Option<Owners>,
}

/// Empty where it could not be read; `failed` says why.
#[derive(Default)]
struct Tables {
    symbols: Symbols,
    reasons: Reasons,
    failed: Vec<String>,
}

impl Tables {
    /// Without symbols or names a drop is still counted; it then shows its number, or no function.
    fn read() -> Self {
        let mut tables = Self::default();
        match Symbols::read() {
            Ok(symbols) => tables.symbols = symbols,
            Err(error) => tables.failed.push(error.to_string()),
        }
        match Reasons::read() {
            Ok(reasons) => tables.reasons = reasons,
            Err(error) => tables.failed.push(error.to_string()),
        }
        tables
    }
}

impl Names {
    /// Begins to read.
    pub fn start(owners: bool) -> Self {
        let owners = owners.then(Owners::default);
        match thread::Builder::new().name("names".into()).spawn(Tables::read) {
            Ok(thread) => Self { loading: Some(thread), tables: Tables::default(), owners },
            Err(_) => Self { loading: None, tables: Tables::read(), owners },
        }
    }

    fn tables(&mut self) -> &Tables {
        if let Some(loading) = self.loading.take() {
            self.tables = loading.join().unwrap_or_else(|_| Tables::read());
        }
        &self.tables
    }

    /// What could not be read, each with the reason.
    pub fn failed(&mut self) -> Vec<String> {
        self.tables().failed.clone()
    }

    /// Name of a reason, as [`Reasons::name`].
    pub fn reason(&mut self, number: u32) -> String {
        self.tables().reasons.name(number)
    }

    /// Function of an address, and the offset in it; empty if unknown.
    pub fn function(&mut self, address: u64) -> (String, Option<u32>) {
        match self.tables().symbols.find(address) {
            Some((name, offset)) => (name.to_owned(), Some(offset)),
            None => (String::new(), None),
        }
    }

    /// Who called the function that dropped: the stack without the tracer's own frames and without that function.
    pub fn callers(&mut self, stack: &[u64], location: u64) -> Vec<String> {
        let Some(at) = stack.iter().position(|&address| address == location) else { return vec![] };
        let symbols = &self.tables().symbols;
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
