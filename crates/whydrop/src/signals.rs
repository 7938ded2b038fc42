//! SIGINT, SIGTERM and SIGHUP end the work early; the second one ends the program, unless it is changing something.

use crate::failure::Refusal;
use anyhow::{Context, Result};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::unregister;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use whydrop_model::text;

/// Status of a program that a signal ended.
pub const INTERRUPTED: u8 = 130;

/// A flag that the first SIGINT, SIGTERM or SIGHUP sets. The second one exits at once with status 130.
pub fn cancel_flag() -> Result<Arc<AtomicBool>> {
    Ok(Signals::watch()?.flag)
}

/// What signals do to a run that changes something.
#[derive(Debug)]
pub struct Signals {
    flag: Arc<AtomicBool>,
    exits: Vec<SigId>,
}

impl Signals {
    /// As [`cancel_flag`].
    pub fn watch() -> Result<Self> {
        let mut signals = Self { flag: Arc::new(AtomicBool::new(false)), exits: vec![] };
        // The order matters: the exit is armed by the flag that is set after it.
        signals.exit_on_second()?;
        for signal in wanted() {
            signal_hook::flag::register(signal, Arc::clone(&signals.flag)).with_context(no_handler)?;
        }
        Ok(signals)
    }

    /// The flag.
    pub fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// True once a signal came.
    pub fn came(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// From now on no signal ends the program: a change is under way, and must be proven or taken back.
    pub fn protect(&mut self) {
        for exit in self.exits.drain(..) {
            unregister(exit);
        }
    }

    /// The end of [`Signals::protect`]: nothing is left but to tell, so the next signal ends the program.
    pub fn release(&mut self) -> Result<()> {
        self.exit_on_second()
    }

    fn exit_on_second(&mut self) -> Result<()> {
        for signal in wanted() {
            let status = c_int::from(INTERRUPTED);
            let exit =
                signal_hook::flag::register_conditional_shutdown(signal, status, Arc::clone(&self.flag));
            self.exits.push(exit.with_context(no_handler)?);
        }
        Ok(())
    }
}

fn no_handler() -> Refusal {
    Refusal::new(text!("cannot install the handlers of signals", "无法安装信号处理程序"))
}

/// SIGHUP only if it is not ignored: `nohup` wants the run to outlive its terminal.
fn wanted() -> Vec<c_int> {
    let status = std::fs::read_to_string("/proc/self/status");
    let mask = status.iter().flat_map(|s| s.lines()).find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let ignored = ignored.is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 1);
    [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| *signal != SIGHUP || !ignored).collect()
}
