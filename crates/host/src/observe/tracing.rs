//! The tracer of one observation after the other. To start it takes as long as to read fifty namespaces, so that it is
//! kept as long as the next observation needs the same one.

use crate::trace::{LadderReport, NEEDED, Recording, TraceOptions, Traced, Tracer};
use whydrop_model::{DropLog, FlowLog, Reading};

/// A tracer at work, and what it was started for.
pub(super) struct Tracing {
    /// Inodes of the namespaces that it watches.
    netns: Vec<u64>,
    /// The modules that it knows the functions and the drop reasons of.
    modules: Vec<String>,
    /// It watches system calls.
    calls: bool,
    recording: Recording,
}

impl Tracing {
    /// The one that was kept, if it watches these namespaces; else another.
    pub fn of(kept: Option<Self>, netns: Vec<u64>) -> Result<Self, LadderReport> {
        let modules = modules();
        if let Some(kept) = kept.filter(|kept| kept.netns == netns && kept.modules == modules) {
            return Ok(kept);
        }
        // The old one has gone by now: of some kinds there can be only one.
        let options = TraceOptions { netns: netns.clone(), flows: true, ..TraceOptions::default() };
        let recording = Tracer::start(&options)?.record();
        Ok(Self { netns, modules, calls: false, recording })
    }

    /// Begins the window, in which system calls that fail are watched, or are not.
    pub fn begin(&mut self, calls: bool) {
        if calls && !self.calls {
            self.recording.watch_calls();
            self.calls = true;
        }
        self.recording.restart();
    }

    /// The recording, to ask it during the window and to hold it.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// What the window gave, and the tracer for the next one, if it goes on. One that watches system calls without need
    /// does not: that slows every one of the machine.
    pub fn end(self, calls: bool) -> (Readings, Option<Self>) {
        match self.recording.window() {
            Some(Traced { drops, flows }) => {
                ((Reading::Present(drops), flows), Some(self).filter(|kept| kept.calls == calls))
            }
            None => match self.recording.stop() {
                Ok(Traced { drops, flows }) => ((Reading::Present(drops), flows), None),
                Err(error) => ((error.reading(NEEDED), error.reading(NEEDED)), None),
            },
        }
    }
}

/// Drops and conversations of a window.
pub(super) type Readings = (Reading<DropLog>, Reading<FlowLog>);

/// What there is of a window without a tracer.
pub(super) fn untraced(refused: Option<&LadderReport>) -> Readings {
    match refused {
        None => {
            let why = "not wanted (--no-trace)".to_owned();
            (Reading::Absent(why.clone()), Reading::Absent(why))
        }
        Some(ladder) if ladder.is_denied() => {
            (Reading::Denied(NEEDED.to_owned()), Reading::Denied(NEEDED.to_owned()))
        }
        // The kernel has drops, and no way to them worked: that hides something.
        Some(ladder) => (Reading::Failed(ladder.to_string()), Reading::Failed(ladder.to_string())),
    }
}

/// Name and address of the loaded modules; without the right to see addresses, the names. None where the kernel has no
/// modules.
fn modules() -> Vec<String> {
    let list = std::fs::read_to_string("/proc/modules").ok();
    list.iter().flat_map(|list| list.lines()).filter_map(module).collect()
}

/// `nf_tables 290816 12 nft_ct,nft_chain_nat, Live 0xffffffffc0a51000`: the number of users changes all the time.
fn module(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    Some(format!("{} {}", words.next()?, words.nth(4)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_the_same_whoever_uses_it() {
        let named = module("nf_tables 290816 12 nft_ct,nft_chain_nat, Live 0xffffffffc0a51000 (E)");
        assert_eq!(named.as_deref(), Some("nf_tables 0xffffffffc0a51000"));
        assert_eq!(named, module("nf_tables 290816 0 - Live 0xffffffffc0a51000 (E)"));
        assert_eq!(module(""), None);
    }
}
