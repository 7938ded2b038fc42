//! What `diagnose`, `fix` and `record` share: which namespaces, which probes, how long.

use super::target_args::TargetArgs;
use crate::failure::Refusal;
use crate::progress::{Line, Telling};
use crate::settings::say;
use crate::signals;
use anyhow::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use whydrop_host::observe::{self, Plan};
use whydrop_host::targets;
use whydrop_model::shell::sanitize;
use whydrop_model::{Observation, text};
use whydrop_probe::ProbeSpec;
use whydrop_report::error::Problem;

/// SYNs of a probe that the user named, unless the window is too short for them.
const NAMED_COUNT: u32 = 50;

/// GETs of an http:// or https:// probe: enough to tell a slow answer from a slow moment.
const HTTP_COUNT: u32 = 3;

/// The first window of those that grow.
const FIRST_WINDOW: Duration = Duration::from_secs(1);

/// Shortest and longest window. Below, counters of the kernel's timers say nothing.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Where to look, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct ObserveArgs {
    /// What to diagnose.
    #[command(flatten)]
    pub place: TargetArgs,
    /// Probes.
    #[arg(long = "probe", value_name = "URL", help = say(text!(
        "Probe this while observing: tcp://host:port, http://host/path and more (repeatable)",
        "观察期间探测此地址：tcp://主机:端口、http://主机/路径等（可重复）")))]
    pub probes: Vec<String>,
    /// Where probes start.
    #[arg(long, value_name = "TARGET",
          help = say(text!("Where probes start (default: here)", "探测从哪里发出（默认：当前命名空间）")))]
    pub from: Option<String>,
    /// How long.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration,
          help = say(text!("How long to observe: 5s, 500ms, 1m", "观察多久：5s、500ms、1m")))]
    pub duration: Duration,
    /// Send nothing.
    #[arg(long, conflicts_with = "probes", help = say(text!("Send nothing at all", "完全不发包")))]
    pub passive: bool,
    /// No drop events.
    #[arg(long, help = say(text!("Do not use the kernel's drop events", "不使用内核丢包事件")))]
    pub no_trace: bool,
    /// System calls, too.
    #[arg(long, conflicts_with = "no_trace", help = say(text!(
        "Count system calls that fail, too; every call of the machine takes some 50 ns longer meanwhile",
        "同时统计失败的系统调用；期间本机每个系统调用约慢 50 纳秒")))]
    pub syscalls: bool,
}

/// Reads a length of time: `5s`, `500ms`, `1m`, or bare seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok()),
    };
    let parsed = parsed.ok_or_else(|| {
        say(text!("not a length of time: write 0.5, 500ms or 2s", "不是时长：应写成 0.5、500ms 或 2s"))
            .to_owned()
    })?;
    if (SHORTEST..=LONGEST).contains(&parsed) {
        return Ok(parsed);
    }
    Err(say(text!("must lie between 100ms and 24h", "必须在 100ms 与 24h 之间")).to_owned())
}

impl ObserveArgs {
    /// Opens the namespaces and reads the URLs. Nothing has been sent or changed when this fails.
    pub fn plan(&self) -> Result<Plan> {
        let found = self.place.open()?;
        let from = match &self.from {
            Some(word) => targets::resolve_with(word, &found.engines)?,
            None => targets::host()?,
        };
        let probes = self.probes.iter().map(|url| named_probe(url)).collect::<Result<_>>()?;
        Ok(Plan {
            targets: found.resolved,
            missing: found.missing,
            from,
            window: self.duration,
            probes,
            passive: self.passive,
            trace: !self.no_trace,
            engines: found.engines,
            calls: self.syscalls,
        })
    }

    /// Resolves and observes for commands that change nothing: SIGINT and SIGTERM end the program at any time, and
    /// the window early, with what was seen until then.
    pub fn observe_once(&self, telling: Telling) -> Result<Observation> {
        // Engines and files may keep it waiting: nothing is caught yet.
        let plan = self.plan()?;
        let cancel = signals::cancel_flag()?;
        let observation = self.observe_plan(&plan, &cancel, telling)?;
        // From now on the next one ends the program.
        cancel.store(true, Ordering::Relaxed);
        Ok(observation)
    }

    /// As [`ObserveArgs::observe_once`], in windows that grow from a second on until one is `sure` or the time is over.
    /// The answer is that of the last window alone.
    pub fn observe_until(
        &self,
        telling: Telling,
        sure: &dyn Fn(&Observation) -> Result<bool>,
    ) -> Result<Observation> {
        let mut plan = self.plan()?;
        let cancel = signals::cancel_flag()?;
        let (mut left, mut window) = (plan.window, FIRST_WINDOW);
        loop {
            // A rest that is shorter than the window before it would only know less.
            plan.window = if left < window * 2 { left } else { window };
            left = left.saturating_sub(plan.window);
            let observation = self.observe_plan(&plan, &cancel, telling)?;
            if left.is_zero() || cancel.load(Ordering::Relaxed) || sure(&observation)? {
                cancel.store(true, Ordering::Relaxed);
                return Ok(observation);
            }
            window = plan.window * 2;
        }
    }

    /// Observes namespaces that are open already, with a progress line.
    pub fn observe_plan(&self, plan: &Plan, cancel: &AtomicBool, telling: Telling) -> Result<Observation> {
        let targets = plan.targets.iter().map(|found| found.target.clone()).collect();
        let line = Line::new(targets, plan.window, telling);
        Ok(observe::observe(plan, cancel, &|at| line.update(at))?)
    }
}

fn named_probe(url: &str) -> Result<ProbeSpec> {
    let mut spec = ProbeSpec::parse(url).map_err(|error| {
        let shown = sanitize(url, 120);
        let what = text!("cannot use the probe \"{url}\"", "无法使用探测 \"{url}\"").fill(&[("url", &shown)]);
        let tries = Some("whydrop diagnose --probe tcp://10.0.0.2:80 --probe http://10.0.0.2/".to_owned());
        Refusal(Problem { what, reason: Some(error.phrase()), tries, ..Problem::default() })
    })?;
    spec.count = Some(if spec.scheme.is_http() { HTTP_COUNT } else { NAMED_COUNT });
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
        for bad in ["", "-5s", "0", "1y", "nan", "5 parsecs", "1e99"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
