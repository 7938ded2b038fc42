//! A thread that stays in a namespace, made before anything is changed: the way back must not fail because no thread
//! can be started any more.

use crate::error::{Error, Result};
use crate::sys::netns::Netns;
use std::sync::mpsc::{Sender, channel};
use whydrop_model::text;

type Job = Box<dyn FnOnce() + Send>;

/// Runs work in one namespace.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Sender<Job>,
}

impl Worker {
    /// Starts the thread. It ends when this value goes.
    pub fn enter(netns: &Netns) -> Result<Self> {
        let netns = netns.try_clone()?;
        let (jobs, wanted) = channel::<Job>();
        let (ready, entered) = channel();
        let work = move || {
            let inside = netns.enter();
            let failed = inside.is_err();
            // Whoever waits for it is there: it waits right below.
            if ready.send(inside).is_err() || failed {
                return;
            }
            for job in wanted {
                job();
            }
        };
        std::thread::Builder::new()
            .name("act".into())
            .spawn(work)
            .map_err(|e| Error::io(text!("start {object}", "启动{object}"), text!("a thread", "线程"), &e))?;
        entered.recv().map_err(|_| ended())??;
        Ok(Self { jobs })
    }

    /// Does the work there and waits for it.
    pub fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Result<R> {
        let (done, result) = channel();
        // A receiver that is gone is one that panicked, and then nobody asks.
        let job = move || drop(done.send(work()));
        self.jobs.send(Box::new(job)).map_err(|_| ended())?;
        result.recv().map_err(|_| ended())
    }
}

fn ended() -> Error {
    Error::new(
        text!("use {object}", "使用{object}"),
        text!("the thread inside the namespace", "命名空间内的线程"),
        text!("it ended by an error of its own", "它因自身错误而结束").phrase(),
    )
}
