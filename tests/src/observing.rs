//! An observation around what a test does: it begins before the first packet and ends after the last.

use crate::Namespace;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;
use whydrop_host::observe::{Plan, Progress, observe};
use whydrop_host::targets;
use whydrop_model::{Observation, Report};

/// Nobody waits longer: the test ends the observation.
const LONGEST: Duration = Duration::from_secs(60);

/// A running observation without probes.
#[derive(Debug)]
pub struct Observing {
    cancel: Arc<AtomicBool>,
    thread: JoinHandle<Observation>,
}

impl Observing {
    /// Begins to observe these namespaces; returns when all that follows lies inside the window.
    pub fn start(namespaces: &[&Namespace]) -> Self {
        let resolve = |n: &&Namespace| targets::resolve(&n.target()).expect("a namespace");
        let plan = Plan {
            targets: namespaces.iter().map(resolve).collect(),
            missing: vec![],
            from: targets::host().expect("this namespace"),
            window: LONGEST,
            probes: vec![],
            passive: true,
            trace: true,
            engines: whydrop_host::containers::Engines::default(),
            calls: false,
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let (begun, begins) = channel();
        let ends = Arc::clone(&cancel);
        let begun = std::sync::Mutex::new(begun);
        let thread = std::thread::spawn(move || {
            let tell = |_: &Progress| drop(begun.lock().map(|begun| begun.send(())));
            observe(&plan, &ends, &tell).expect("an observation")
        });
        begins.recv_timeout(LONGEST).expect("the window begins");
        Self { cancel, thread }
    }

    /// Ends the window and judges.
    pub fn stop(self) -> Report {
        whydrop_checks::judge(&self.observation())
    }

    /// Ends the window; what was seen, without a judgement.
    pub fn observation(self) -> Observation {
        self.cancel.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}
