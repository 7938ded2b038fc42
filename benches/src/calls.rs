//! A load that only makes system calls, with and without a window open, and with failed calls watched, which is off
//! unless asked for: that slows every call of the machine.

use crate::measure::{Comparison, Cost};
use crate::watcher::with_window;
use anyhow::Result;
use whydrop_tests::Namespace;
use whydrop_tests::probe_net::netns;

/// Calls of one round: cheap ones, so that what comes on top shows.
const CALLS: u32 = 10_000_000;

/// The same calls three times.
pub fn run() -> Result<Vec<Comparison>> {
    let namespace = Namespace::new("calls");
    let netns = netns(&namespace);
    let call = || -> Result<Cost> {
        Cost::of_call(|| {
            for _ in 0..CALLS {
                // The C library remembers a process's own number; that of its parent it asks for.
                std::hint::black_box(rustix::process::getppid());
            }
            Ok(())
        })
    };
    let compared = Comparison::run(
        "10,000,000 system calls",
        9,
        vec![
            ("nothing", Box::new(call)),
            ("whydrop's window", Box::new(|| with_window(&[&netns], false, call))),
            ("whydrop's window, --syscalls", Box::new(|| with_window(&[&netns], true, call))),
        ],
    )?;
    Ok(vec![compared])
}
