//! Programs that run where something of the kernel or the machine is out of reach.

use crate::whydrop;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

/// `nobody`: any user without privileges.
const NOBODY: u32 = 65534;

/// whydrop as a user without privileges. It is started by its open file: the folders above it may be closed to others, as
/// /root is.
pub fn without_root() -> Command {
    static PROGRAM: OnceLock<File> = OnceLock::new();
    let program = whydrop();
    let file = PROGRAM.get_or_init(|| File::open(program.get_program()).expect("the program is there"));
    let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.arg0("whydrop").uid(NOBODY).gid(NOBODY);
    command
}

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
    without_calls_errno(calls, libc::EPERM, work)
}

/// The same with another errno: what older container engines and kernels without the call answer.
pub fn without_calls_errno<R: Send>(calls: &[i64], errno: i32, work: impl FnOnce() -> R + Send) -> R {
    let rules = calls.iter().map(|&call| (call, vec![])).collect();
    let refusal = SeccompAction::Errno(errno.unsigned_abs());
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
