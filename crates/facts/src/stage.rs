//! The packet's way through the kernel.

use crate::{Counter, Reason, State, tables};
use whydrop_model::Text;

/// Which way a stage belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Receive.
    Rx,
    /// Forwarding.
    Fwd,
    /// Transmit.
    Tx,
    /// Inside the machine.
    Local,
    /// Any.
    Any,
    /// No place of a packet: the machine's supply of CPU and memory.
    Host,
}

/// Layer of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the field's own words")]
pub enum Layer {
    Phy,
    Nic,
    Driver,
    Core,
    L2,
    L3,
    L4,
    Socket,
    App,
    Host,
}

/// A stage of the packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// `rx.nf_input`.
    pub id: &'static str,
    /// Which way.
    pub path: Path,
    /// Layer.
    pub layer: Layer,
    /// What it is.
    pub title: Text,
    /// Names of it in reports: `netfilter.input`.
    pub aliases: &'static [&'static str],
    /// Kernel functions of it.
    pub functions: &'static [&'static str],
    /// Tools that show it.
    pub tools: &'static [&'static str],
    /// Tracepoints of it.
    pub tracepoints: &'static [&'static str],
}

impl Stage {
    /// Counters of this stage.
    pub fn counters(&self) -> impl Iterator<Item = &'static Counter> {
        let id = self.id;
        tables::COUNTERS.iter().filter(move |c| c.stage == id)
    }

    /// Drop reasons of this stage.
    pub fn reasons(&self) -> impl Iterator<Item = &'static Reason> {
        let id = self.id;
        tables::REASONS.iter().filter(move |r| r.stage == id)
    }

    /// Settings and states that lose packets here.
    pub fn states(&self) -> impl Iterator<Item = &'static State> {
        let id = self.id;
        tables::STATES.iter().filter(move |s| s.stage == id)
    }
}

/// The stage with this id, or with this name in reports.
pub fn stage(id: &str) -> Option<&'static Stage> {
    tables::STAGES.iter().find(|s| s.id == id || s.aliases.contains(&id))
}

/// All stages in the order in which a packet meets them, receive before forward before transmit.
pub const fn stages() -> &'static [Stage] {
    tables::STAGES
}
