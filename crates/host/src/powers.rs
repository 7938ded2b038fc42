//! What this process may do, and what it gives up: narrowed before it looks at anything, all of it gone before it
//! judges what others wrote.
//!
//! Capabilities, Landlock and seccomp hold for one thread and for those that it starts. So they are given up when no
//! other thread is left; or by a thread that does one thing and ends ([`without`]).

use crate::error::{Error, Result};
use crate::sys::caps;
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};
use rustix::io::Errno;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::time::{Duration, Instant};
use whydrop_model::{Phrase, text};

/// A worker is joined a moment before the kernel forgets its thread; on a machine with too much to do that moment may be
/// seconds (seen: over two, in an emulated guest).
const LEAVING: Duration = Duration::from_secs(30);
/// How often is looked.
const TICK: Duration = Duration::from_millis(1);

/// Newest Landlock that is asked for; an older kernel enforces what it has.
const LANDLOCK: ABI = ABI::V6;

/// What stands in the way from now on, beside the missing capabilities and no_new_privs.
#[derive(Clone, Debug)]
pub struct Walls {
    /// No file can be opened, changed or removed, and no TCP port used; or why not.
    pub landlock: std::result::Result<(), Phrase>,
    /// System calls of [`REFUSED`] are refused; or why not.
    pub seccomp: std::result::Result<(), Phrase>,
}

/// Gives up everything: all capabilities of all sets, privileges by exec, files, sockets, other processes. What is
/// open stays usable: standard output, and the file of the report. Fails if another thread runs on or the kernel
/// keeps a capability; a missing Landlock or seccomp is told in the result.
pub fn give_up() -> Result<Walls> {
    alone()?;
    wall_in()
}

/// Does something that needs no privilege, in a thread that has none, while the others keep theirs: what others wrote
/// is judged so by a command that goes on to change what it found. The thread shares the memory of the process.
pub fn without<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let start = text!("start {object}", "启动{object}");
        let judge = std::thread::Builder::new().name("judge".to_owned());
        let thread = judge
            .spawn_scoped(scope, || wall_in().map(|_| work()))
            .map_err(|e| Error::io(start, text!("a thread that judges", "用于判断的线程"), &e))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Waits until the calling thread is the only one.
fn alone() -> Result<()> {
    let give_up = text!("give up {object}", "放弃{object}");
    let powers = text!("the privileges", "特权");
    let until = Instant::now() + LEAVING;
    loop {
        let threads = threads().map_err(|e| Error::io(give_up, powers, &e))?;
        match threads {
            1 => return Ok(()),
            n if Instant::now() >= until => {
                let why = text!("{n} threads still run", "仍有 {n} 个线程在运行").fill(&[("n", &n)]);
                return Err(Error::new(give_up, powers, why));
            }
            _ => std::thread::sleep(TICK),
        }
    }
}

/// Threads of this process; where there is no /proc, as in an empty root, 2 for all that is more than one.
fn threads() -> std::io::Result<usize> {
    match std::fs::read_dir("/proc/self/task") {
        Ok(tasks) => Ok(tasks.count()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(if is_single()? { 1 } else { 2 }),
        Err(error) => Err(error),
    }
}

/// Whether the calling thread is the only one, by the kernel's own check: it unshares a thread group of one, which changes
/// nothing, and refuses any other (check_unshare_flags() in kernel/fork.c).
#[allow(unsafe_code)] // unshare(2) is unsafe in rustix
fn is_single() -> std::io::Result<bool> {
    let group = UnshareFlags::from_bits_retain(libc::CLONE_THREAD.unsigned_abs());
    // SAFETY: nothing is unshared: it succeeds only where there is nothing to part with.
    match unsafe { unshare_unsafe(group) } {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The calling thread's part.
fn wall_in() -> Result<Walls> {
    caps::drop_all()?;
    Ok(Walls { landlock: no_files(), seccomp: no_calls() })
}

/// A Landlock domain that handles everything and allows nothing.
fn no_files() -> std::result::Result<(), Phrase> {
    let restrict = || -> std::result::Result<_, RulesetError> {
        Ruleset::default()
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .restrict_self()
    };
    match restrict() {
        Ok(status) if status.ruleset != RulesetStatus::NotEnforced => Ok(()),
        Ok(_) => Err(text!("this kernel has no Landlock", "此内核没有 Landlock").phrase()),
        Err(e) => Err(Phrase::same(e.to_string())),
    }
}

/// System calls that nobody needs who only computes and writes to what is open: other files, programs, processes,
/// sockets, namespaces, and the kernel itself.
#[rustfmt::skip]
pub const REFUSED: &[libc::c_long] = &[
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_open_by_handle_at, libc::SYS_renameat, libc::SYS_renameat2,
    libc::SYS_unlinkat, libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_mkdirat, libc::SYS_mknodat,
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_truncate,
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev, libc::SYS_pidfd_open, libc::SYS_pidfd_getfd, libc::SYS_pidfd_send_signal,
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen,
    libc::SYS_accept, libc::SYS_accept4, libc::SYS_io_uring_setup,
    libc::SYS_setns, libc::SYS_unshare, libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root,
    libc::SYS_chroot, libc::SYS_move_mount, libc::SYS_open_tree, libc::SYS_fsopen, libc::SYS_fspick,
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_init_module,
    libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load, libc::SYS_reboot,
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl, libc::SYS_swapon, libc::SYS_settimeofday,
    #[cfg(target_arch = "x86_64")] libc::SYS_open,
    #[cfg(target_arch = "x86_64")] libc::SYS_creat,
    #[cfg(target_arch = "x86_64")] libc::SYS_rename,
    #[cfg(target_arch = "x86_64")] libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")] libc::SYS_link,
    #[cfg(target_arch = "x86_64")] libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")] libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")] libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")] libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")] libc::SYS_chown,
    #[cfg(target_arch = "x86_64")] libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")] libc::SYS_fork,
    #[cfg(target_arch = "x86_64")] libc::SYS_vfork,
];

/// A seccomp filter that refuses [`REFUSED`] with EPERM. A list of what is allowed would be tied to one libc.
fn no_calls() -> std::result::Result<(), Phrase> {
    let install = || -> std::result::Result<(), seccompiler::Error> {
        let rules = REFUSED.iter().map(|&call| (call, vec![])).collect();
        let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let machine = std::env::consts::ARCH.try_into()?;
        let filter: BpfProgram =
            SeccompFilter::new(rules, SeccompAction::Allow, refusal, machine)?.try_into()?;
        seccompiler::apply_filter(&filter)
    };
    install().map_err(|e| Phrase::same(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::ErrorKind;

    /// Runs `check` on a thread of its own, which ends with what it gave up.
    fn apart(check: impl FnOnce() + Send + 'static) {
        std::thread::spawn(check).join().unwrap();
    }

    #[test]
    fn nothing_is_left_to_the_thread() {
        apart(|| {
            let walls = wall_in().unwrap();
            let status = {
                // Opened before, as the report's file is.
                assert!(caps::effective().unwrap().is_empty());
                File::open("/proc/thread-self/status")
            };
            assert_eq!(status.unwrap_err().kind(), ErrorKind::PermissionDenied);
            assert_eq!(walls.seccomp, Ok(()));
            assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err());
            assert!(crate::Netns::unshare().is_err());
            assert!(std::process::Command::new("/bin/true").status().is_err());
            assert!(rustix::thread::no_new_privs().unwrap());
        });
        // The others keep what they had.
        File::open("/proc/thread-self/status").unwrap();
    }

    #[test]
    fn work_without_powers_has_none_and_its_caller_keeps_them() {
        let before = caps::effective().unwrap();
        let refused = without(|| File::open("/proc/thread-self/status").is_err()).unwrap();
        assert!(refused);
        assert_eq!(caps::effective().unwrap(), before);
        File::open("/proc/thread-self/status").unwrap();
    }

    #[test]
    fn other_threads_are_noticed_without_proc() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(!is_single().unwrap());
        drop(stop);
        other.join().unwrap().unwrap_err();
    }

    #[test]
    fn landlock_alone_closes_the_files_where_the_kernel_has_it() {
        apart(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            if no_files().is_ok() {
                assert_eq!(File::open("/etc/passwd").unwrap_err().kind(), ErrorKind::PermissionDenied);
                let made = File::create(std::env::temp_dir().join("whydrop-landlock"));
                assert_eq!(made.unwrap_err().kind(), ErrorKind::PermissionDenied);
            }
        });
    }
}
