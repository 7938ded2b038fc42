//! A lab that goes on any exit: normal, by an error, by a signal, even by SIGKILL.

use crate::failure::Refusal;
use anyhow::{Context, Result};
use std::io::Read;
use std::process::{Child, ChildStdin, Command, Stdio};
use whydrop_lab::{Claim, Fault, Lab, State};
use whydrop_model::text;
use whydrop_report::error::Problem;

/// A lab of this process.
pub struct Standing {
    // Dropped in this order: what stands, the claim on its name, the sweeper that has nothing left to do.
    lab: Lab,
    _claim: Claim,
    _sweeper: Sweeper,
}

impl Standing {
    /// Builds the lab, well and under traffic.
    pub fn build(fault: Fault, name: &str) -> Result<Self> {
        need_root()?;
        if let Some(missing) = fault.missing() {
            let what = text!("cannot set up {fault}", "无法制造 {fault}").fill(&[("fault", &fault.id)]);
            let tries = Some("whydrop lab list".to_owned());
            return Err(Refusal(Problem { what, reason: Some(missing), tries, ..Problem::default() }).into());
        }
        let claim = State::claim(name, fault.id)?;
        let sweeper = Sweeper::start(name)?;
        let lab = Lab::build(fault, name)?;
        Ok(Self { lab, _claim: claim, _sweeper: sweeper })
    }

    /// The lab.
    pub fn lab(&mut self) -> &mut Lab {
        &mut self.lab
    }
}

/// Refuses early and in words: the first failed system call would name a detail.
pub fn need_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Refusal(Problem {
        what: text!("cannot build network namespaces", "无法创建网络命名空间").phrase(),
        needs: Some(
            text!(
                "root; nothing outside the new namespaces is touched",
                "root 权限；不会改动新命名空间以外的任何东西"
            )
            .phrase(),
        ),
        tries: Some("sudo whydrop demo".to_owned()),
        ..Problem::default()
    })
    .into())
}

/// A process of its own that waits for the end of this one and removes what a sudden death leaves behind.
struct Sweeper {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Sweeper {
    fn start(name: &str) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args(["lab", "sweep", "--name", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(Refusal::new(text!("cannot start the process that cleans up", "无法启动清理进程")))?;
        let lifeline = child.stdin.take();
        Ok(Self { child, lifeline })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // It ends by itself; a zombie is all that a failed wait could leave.
        self.child.wait().ok();
    }
}

/// The sweeper's part: waits until the writing end of its stdin is gone, which the kernel closes however a process
/// ends, then takes down what is still claimed.
pub fn sweep(name: &str) -> Result<u8> {
    // A session of its own: Ctrl-C goes to the process that is watched, not to its watcher. Fails only for a
    // process group leader, which a child is not.
    rustix::process::setsid().ok();
    let claimed = State::find(name)?;
    std::io::stdin()
        .lock()
        .read_to_end(&mut vec![])
        .context(Refusal::new(text!("cannot wait for the lab's end", "无法等待现场结束")))?;
    if let Some(state) =
        claimed.filter(|state| State::find(name).is_ok_and(|now| now.as_ref() == Some(state)))
    {
        state.take_down()?;
    }
    Ok(0)
}
