//! Processors on which packets wait because programs have all the time.

use super::case::Case;
use whydrop_model::snapshot::{CpuTimes, SoftnetCpu};

/// A processor that idles more has time for packets.
const IDLE: f64 = 0.05;
/// A processor that gives more of its time to soft and hard interrupts is busy with packets itself.
const INTERRUPTS: f64 = 0.25;
/// Clock ticks (100 a second) of which a share says something.
const MEASURED: u64 = 50;

/// A processor whose soft interrupts are starved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Starved {
    /// CPU number.
    pub cpu: u32,
    /// Packets that its backlog had no room for in the window.
    pub dropped: u64,
    /// Packets that wait in it now; none before 5.10.
    pub waiting: u64,
    /// Share of the time that programs, the kernel for them and the hypervisor took.
    pub programs: f64,
    /// Share of the time that interrupts of both kinds got.
    pub interrupts: f64,
    /// Share of the time that the hypervisor took.
    pub stolen: f64,
}

impl<'a> Case<'a> {
    /// Processors without idle time and with little for interrupts, where packets pile up.
    pub fn starved_cpus(self) -> Vec<Starved> {
        let [before, after] = &self.observation.machine;
        let mut out = vec![];
        for now in after.cpu_times.iter() {
            let was = before.cpu_times.iter().find(|was| was.cpu == now.cpu);
            let rows = |cpus: &'a [SoftnetCpu]| cpus.iter().find(|row| row.cpu == now.cpu);
            let (old, new) =
                (before.softnet.get().and_then(|c| rows(c)), after.softnet.get().and_then(|c| rows(c)));
            let (Some(was), Some(old), Some(new)) = (was, old, new) else { continue };
            out.extend(starved(was, now, old, new));
        }
        out
    }

    /// True if most of what the backlogs dropped was dropped where programs have all the time.
    pub fn starves(self) -> bool {
        let dropped: u64 = self.starved_cpus().iter().map(|cpu| cpu.dropped).sum();
        dropped > 0 && 2 * dropped >= self.backlog_drops()
    }
}

fn starved(was: &CpuTimes, now: &CpuTimes, old: &SoftnetCpu, new: &SoftnetCpu) -> Option<Starved> {
    let spent = |of: fn(&CpuTimes) -> u64| of(now).saturating_sub(of(was));
    let (idle, stolen) = (spent(|t| t.idle) + spent(|t| t.iowait), spent(|t| t.steal));
    let interrupts = spent(|t| t.irq) + spent(|t| t.softirq);
    let programs = spent(|t| t.user) + spent(|t| t.system) + stolen;
    let all = idle + interrupts + programs;
    let share = |part: u64| part as f64 / all.max(1) as f64;
    let busy = all >= MEASURED && share(idle) <= IDLE && share(interrupts) <= INTERRUPTS;
    let dropped = new.dropped.saturating_sub(old.dropped);
    let waiting = new.backlog.unwrap_or(0);
    // What waits at both ends may be two bursts; that nothing was worked off in between tells.
    let stands = waiting > 0 && old.backlog.is_some_and(|n| n > 0) && new.processed == old.processed;
    let known = Starved {
        cpu: now.cpu,
        dropped,
        waiting,
        programs: share(programs),
        interrupts: share(interrupts),
        stolen: share(stolen),
    };
    (busy && (dropped > 0 || stands)).then_some(known)
}
