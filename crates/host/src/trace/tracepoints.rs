//! The tracepoints beside that of drops. Each one is optional: a kernel without it, or one that refuses it, only loses
//! what it tells of.

use super::{NEEDED, Step};
use aya::programs::{BtfTracePoint, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use whydrop_model::Reading;

/// Tracepoints of signals that are only counted by place, and the programs for them.
pub const SIGNALS: [(&str, &str); 4] = [
    ("sock:sock_rcvqueue_full", "sock_rcvqueue_full"),
    ("sock:sock_exceed_buf_limit", "sock_exceed_buf_limit"),
    ("xdp:xdp_exception", "xdp_exception"),
    ("devlink:devlink_trap_report", "devlink_trap_report"),
];
/// Of both kinds: counted by place, and by conversation.
pub const RETRANSMIT: (&str, &str) = ("tcp:tcp_retransmit_skb", "tcp_retransmit_skb");
/// Tracepoints of conversations.
pub const FLOWS: [(&str, &str); 5] = [
    ("tcp:tcp_retransmit_synack", "flow_synack"),
    ("tcp:tcp_receive_reset", "flow_receive_reset"),
    ("tcp:tcp_send_reset", "flow_send_reset"),
    ("sock:inet_sk_error_report", "flow_error"),
    ("icmp:icmp_send", "flow_icmp"),
];
/// The one that every system call passes.
pub const CALLS: (&str, &str) = ("raw_syscalls:sys_exit", "failed_call");
/// The one that every connection passes several times.
pub const STATES: &str = "sock:inet_sock_set_state";

/// What was attached.
#[derive(Default)]
pub struct Attached {
    /// By tracepoint: watched, or why not.
    pub state: BTreeMap<String, Reading<()>>,
    /// The programs that run.
    pub programs: Vec<OwnedFd>,
}

impl Attached {
    /// Attaches a program to its tracepoint.
    pub fn raw(&mut self, ebpf: &mut Ebpf, (tracepoint, program): (&str, &str)) {
        let attached = attach_raw(ebpf, tracepoint, program);
        self.keep(tracepoint, attached);
    }

    /// Attaches the program of [`STATES`]: the one that follows pointers directly where the program of drops may, too.
    pub fn states(&mut self, ebpf: &mut Ebpf, step: Step, btf: &Btf) {
        let raw = |ebpf: &mut Ebpf| attach_raw(ebpf, STATES, "flow_state_raw_tp");
        let attached = match step {
            Step::TpBtf => attach_typed(ebpf, STATES, "flow_state_tp_btf", btf).or_else(|_| raw(ebpf)),
            _ => raw(ebpf),
        };
        self.keep(STATES, attached);
    }

    fn keep(&mut self, tracepoint: &str, attached: Result<OwnedFd, ProgramError>) {
        let reading = match attached {
            Ok(program) => {
                self.programs.push(program);
                Reading::Present(())
            }
            Err(error) => why(tracepoint, &error),
        };
        self.state.insert(tracepoint.to_owned(), reading);
    }

    /// What is hidden, in a sentence each. A tracepoint that the kernel does not have hides nothing: what it would
    /// tell of is not there either.
    pub fn unwatched(&self) -> Vec<String> {
        let told = |(tracepoint, reading): (&String, &Reading<()>)| match reading {
            Reading::Denied(why) | Reading::Failed(why) => Some(format!("cannot watch {tracepoint}: {why}")),
            Reading::Present(()) | Reading::Absent(_) => None,
        };
        self.state.iter().filter_map(told).collect()
    }
}

fn attach_raw(ebpf: &mut Ebpf, tracepoint: &str, program: &str) -> Result<OwnedFd, ProgramError> {
    let program = ebpf.program_mut(program).ok_or(ProgramError::UnexpectedProgramType)?;
    let program: &mut RawTracePoint = program.try_into()?;
    program.load()?;
    program.attach(name(tracepoint))?;
    program.fd()?.as_fd().try_clone_to_owned().map_err(ProgramError::IOError)
}

fn attach_typed(
    ebpf: &mut Ebpf,
    tracepoint: &str,
    program: &str,
    btf: &Btf,
) -> Result<OwnedFd, ProgramError> {
    let program = ebpf.program_mut(program).ok_or(ProgramError::UnexpectedProgramType)?;
    let program: &mut BtfTracePoint = program.try_into()?;
    program.load(name(tracepoint), btf)?;
    program.attach()?;
    program.fd()?.as_fd().try_clone_to_owned().map_err(ProgramError::IOError)
}

/// Without the subsystem.
pub fn name(tracepoint: &str) -> &str {
    tracepoint.split_once(':').map_or(tracepoint, |(_, name)| name)
}

fn why(tracepoint: &str, error: &ProgramError) -> Reading<()> {
    let io = match error {
        ProgramError::SyscallError(error) => &error.io_error,
        ProgramError::LoadError { io_error, .. } => io_error,
        error => return Reading::Failed(error.to_string()),
    };
    match io.raw_os_error() {
        Some(libc::ENOENT) => Reading::Absent(format!("this kernel has no {tracepoint}")),
        Some(libc::EPERM | libc::EACCES) if !matches!(error, ProgramError::LoadError { .. }) => {
            Reading::Denied(NEEDED.to_owned())
        }
        _ => Reading::Failed(format!("{io}")),
    }
}
