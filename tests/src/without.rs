//! Programs that run where something of the kernel is out of reach.

use crate::whydrop;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::process::Command;

/// whydrop in a mount namespace of its own, in which empty file systems hide these folders.
pub fn without_folders(folders: &[&str]) -> Command {
    let program = whydrop();
    let hide = "for folder in $FOLDERS; do mount -t tmpfs none $folder || exit 9; done; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide, "sh"]).arg(program.get_program());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("FOLDERS", folders.join(" "));
    command
}

/// Runs `work` on a thread that gets EPERM from these system calls, as does every program that it starts: what a
/// container's seccomp profile does.
pub fn without_calls<R: Send>(calls: &[i64], work: impl FnOnce() -> R + Send) -> R {
    let rules = calls.iter().map(|&call| (call, vec![])).collect();
    let refusal = SeccompAction::Errno(libc::EPERM as u32);
    let architecture = std::env::consts::ARCH.try_into().expect("seccompiler knows this machine");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture).expect("a filter");
    let filter: BpfProgram = filter.try_into().expect("compiles");
    std::thread::scope(|scope| {
        let limited = scope.spawn(move || {
            seccompiler::apply_filter(&filter).expect("the kernel takes the filter");
            work()
        });
        limited.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
