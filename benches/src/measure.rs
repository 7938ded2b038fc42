//! What a piece of work costs, and several ways of doing it side by side.

use anyhow::{Context, Result, bail};
use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wait4::Wait4;

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Time on the clock.
    pub wall: Duration,
    /// User and system time, where it was measured.
    pub cpu: Option<Duration>,
    /// Largest resident memory in bytes, where it was measured.
    pub peak: Option<u64>,
}

impl Cost {
    /// Runs a program to its end. `accept` are the exit statuses that are no failure.
    pub fn of(command: &mut Command, accept: &[i32]) -> Result<Self> {
        let started = Instant::now();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let used = command.spawn().with_context(|| format!("starting {command:?}"))?.wait4()?;
        let wall = started.elapsed();
        if !used.status.code().is_some_and(|status| accept.contains(&status)) {
            bail!("{command:?} ended with {}", used.status);
        }
        let cpu = Some(used.rusage.utime + used.rusage.stime);
        Ok(Self { wall, cpu, peak: Some(used.rusage.maxrss) })
    }

    /// Times a function of this process.
    pub fn of_call<T>(call: impl FnOnce() -> Result<T>) -> Result<Self> {
        let started = Instant::now();
        // Kept until the clock has been read, so that freeing it is not part of the work.
        let _result = call()?;
        Ok(Self { wall: started.elapsed(), cpu: None, peak: None })
    }
}

/// A way of doing the work: its name, and what runs it once.
pub type Way<'a> = (&'a str, Box<dyn FnMut() -> Result<Cost> + 'a>);

/// The median cost of several ways of doing the same work.
pub struct Comparison {
    work: String,
    costs: Vec<(String, Cost)>,
}

impl Comparison {
    /// Runs every way `rounds` times, in turns: what disturbs the machine disturbs all of them.
    pub fn run(work: &str, rounds: usize, mut ways: Vec<Way<'_>>) -> Result<Self> {
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); ways.len()];
        for _ in 0..rounds {
            for ((name, way), costs) in ways.iter_mut().zip(&mut costs) {
                costs.push(way().with_context(|| format!("{work}: {name}"))?);
            }
        }
        let names = ways.iter().map(|(name, _)| (*name).to_owned());
        Ok(Self { work: work.to_owned(), costs: names.zip(costs.into_iter().map(median)).collect() })
    }
}

/// Each quantity's own median. `costs` is not empty.
fn median(mut costs: Vec<Cost>) -> Cost {
    let middle = costs.len() / 2;
    costs.sort_by_key(|cost| cost.wall);
    let wall = costs[middle].wall;
    costs.sort_by_key(|cost| cost.cpu);
    let cpu = costs[middle].cpu;
    costs.sort_by_key(|cost| cost.peak);
    Cost { wall, cpu, peak: costs[middle].peak }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, cost)) in self.costs.iter().enumerate() {
            let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
            let cpu = cost.cpu.map_or("-".to_owned(), milliseconds);
            let peak =
                cost.peak.map_or("-".to_owned(), |bytes| format!("{:.0} MiB", bytes as f64 / 1_048_576.0));
            let end = if index + 1 < self.costs.len() { "\n" } else { "" };
            write!(f, "| {} | {name} | {} | {cpu} | {peak} |{end}", self.work, milliseconds(cost.wall))?;
        }
        Ok(())
    }
}
