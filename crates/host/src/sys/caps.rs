//! Capabilities of the calling thread, by name: which it has, and giving them up.

use crate::error::{Error, Result};
pub use rustix::thread::CapabilitySet;
use rustix::thread::{
    CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use std::io;
use whydrop_model::text;

/// What observing needs, each for the reason that `self-check` tells, and no more:
/// - NET_ADMIN, NET_RAW, NET_BIND_SERVICE: rules and queues; raw probes; probes from a source port;
/// - SYS_ADMIN, SYS_PTRACE: other namespaces, and the processes of others;
/// - BPF, PERFMON, SYSLOG, IPC_LOCK, SYS_RESOURCE: the kernel's drop events, the names of its functions, and the
///   memory of its maps (charged to RLIMIT_MEMLOCK before 5.11);
/// - DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER: an engine's socket, and a recording in the folder of the user behind sudo;
/// - SETPCAP: to give up the rest.
pub const OBSERVE: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYSLOG)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETPCAP);

/// What opening a named file needs, and giving up the rest.
pub const OPEN: CapabilitySet =
    CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH).union(CapabilitySet::SETPCAP);

/// Names of the effective capabilities of the calling thread, `CAP_NET_ADMIN` style, in the kernel's order. Those
/// that this build has no name for are left out.
pub fn effective() -> io::Result<Vec<String>> {
    Ok(names(capabilities(None)?.effective))
}

/// Names of a set, as [`effective`] has them.
pub fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

/// Keeps only those of `kept` that the calling thread has: in all of its sets, for good, also over an exec.
pub fn keep(kept: CapabilitySet) -> Result<()> {
    let fail = |e: rustix::io::Errno| {
        Error::io(
            text!("give up {object}", "放弃{object}"),
            text!("capabilities", "能力（capabilities）"),
            &e.into(),
        )
    };
    set_no_new_privs(true).map_err(fail)?;
    let now = capabilities(None).map_err(fail)?;
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        // EINVAL: the kernel has no more of them.
        let Ok(held) = capability_is_in_bounding_set(one) else { break };
        if held && !kept.contains(one) && now.effective.contains(CapabilitySet::SETPCAP) {
            remove_capability_from_bounding_set(one).map_err(fail)?;
        }
    }
    // A kernel before 4.3 has no ambient set.
    clear_ambient_capability_set().ok();
    let sets = CapabilitySets {
        effective: now.effective & kept,
        permitted: now.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(fail)
}

/// Gives up all of them.
pub fn drop_all() -> Result<()> {
    keep(CapabilitySet::empty())
}
