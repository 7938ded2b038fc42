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

/// The cost of several ways of doing the same work; the first is what the others are held against.
pub struct Comparison {
    work: String,
    ways: Vec<(String, Vec<Cost>)>,
}

/// How many times as fast as the first way another is: the median over the rounds, and the quartiles. Both of a round
/// ran one after the other, so that what slows the machine for longer slows both.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    low: f64,
    median: f64,
    high: f64,
}

/// Where the quartiles are this far apart, of the median, the machine was too noisy to tell ways apart by less.
const NOISE: f64 = 0.10;

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
        Ok(Self { work: work.to_owned(), ways: names.zip(costs).collect() })
    }

    fn ratio(&self, costs: &[Cost]) -> Ratio {
        let first = self.ways.iter().take(1).flat_map(|(_, costs)| costs);
        let ratio = |(first, this): (&Cost, &Cost)| first.wall.as_secs_f64() / this.wall.as_secs_f64();
        let mut ratios: Vec<f64> = first.zip(costs).map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |share: f64| ratios[((ratios.len() - 1) as f64 * share).round() as usize];
        Ratio { low: at(0.25), median: at(0.5), high: at(0.75) }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low, median, high } = self;
        let noisy = if (high - low) / median > NOISE { ", noisy" } else { "" };
        write!(f, "{median:.2} ({low:.2} to {high:.2}{noisy})")
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
        for (index, (name, costs)) in self.ways.iter().enumerate() {
            let cost = median(costs.clone());
            let ratio = if index > 0 { self.ratio(costs).to_string() } else { "1".to_owned() };
            let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
            let cpu = cost.cpu.map_or("-".to_owned(), milliseconds);
            let peak =
                cost.peak.map_or("-".to_owned(), |bytes| format!("{:.0} MiB", bytes as f64 / 1_048_576.0));
            let end = if index + 1 < self.ways.len() { "\n" } else { "" };
            let wall = milliseconds(cost.wall);
            write!(f, "| {} | {name} | {wall} | {ratio} | {cpu} | {peak} |{end}", self.work)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let cost = |ms| Cost { wall: Duration::from_millis(ms), cpu: None, peak: None };
        let (mut bare, mut watched) = ([10, 20, 40].into_iter(), [20, 40, 80].into_iter());
        let compared = Comparison::run(
            "work",
            3,
            vec![
                ("nothing", Box::new(|| Ok(cost(bare.next().context("a round")?)))),
                ("watched", Box::new(|| Ok(cost(watched.next().context("a round")?)))),
            ],
        );
        let shown = compared.expect("three rounds").to_string();
        assert!(shown.ends_with("| work | watched | 40.0 ms | 0.50 (0.50 to 0.50) | - | - |"), "{shown}");
    }
}
