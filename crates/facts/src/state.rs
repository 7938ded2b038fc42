//! Settings and states that lose packets.

use crate::{find, tables};

/// A setting or state that loses packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// `link.no_carrier`.
    pub id: &'static str,
    /// Id of the stage where it loses them.
    pub stage: &'static str,
    /// True if no counter shows the loss.
    pub silent: bool,
    /// Where to read it.
    pub read: &'static str,
    /// When it is suspicious.
    pub flag_when: &'static str,
    /// What ends it.
    pub fix: &'static str,
    /// How to take that back.
    pub rollback: &'static str,
    /// What that risks.
    pub risk: &'static str,
    /// Settings that belong to it, by the last part of their names: `rp_filter`.
    pub sysctls: &'static [&'static str],
}

/// The state with this id.
pub fn state(id: &str) -> Option<&'static State> {
    find(tables::STATES, id, |s| s.id)
}

/// All states, by id.
pub const fn states() -> &'static [State] {
    tables::STATES
}

/// States that a setting belongs to, by its name as `sysctl` or a path gives it: `net.ipv4.conf.eth0.rp_filter`.
pub fn states_of_sysctl(name: &str) -> Vec<&'static State> {
    let last = name.rsplit(['.', '/']).next().unwrap_or(name);
    tables::STATES.iter().filter(|s| s.sysctls.contains(&last)).collect()
}
