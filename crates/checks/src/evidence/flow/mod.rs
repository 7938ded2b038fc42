//! Who wants packets through, and whether they suffer: our probes and the conversations of programs.

mod calls;
mod conversation;
mod datagram;
mod ended;
mod held_back;
mod probe;
mod proxied;
mod restarted;
mod seldom;
mod stalled;
mod tail;
mod talk;
#[cfg(test)]
mod tests;

pub use calls::TOO_BIG;
pub use conversation::{Seen, told};
pub use datagram::{datagrams_sent, is_deaf};
pub use talk::Why;

use super::case::{Case, Space};
use super::translate::Translators;
use super::way::Way;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;
use whydrop_model::ProbeResult;
use whydrop_model::flow::{Conversation, FlowDirection};

/// Processes of container engines that take connections for published ports and make their own to the container; names
/// as the kernel keeps them, 15 bytes.
const PUBLISHERS: [&str; 4] = ["docker-proxy", "rootlessport", "rootlesskit", "rootlessport-ch"];

/// A flow with its way, out and back.
#[derive(Clone, Debug)]
pub struct Flow<'a> {
    /// Its number: the index in [`Case::flows`].
    pub id: usize,
    /// Who it is.
    pub origin: Origin<'a>,
    /// Attempts: connections, or datagrams that want an answer; for a probe the packets that were meant to be sent.
    pub attempts: u64,
    /// Attempts with success.
    pub succeeded: u64,
    /// What went wrong.
    pub trouble: Trouble,
    /// True if it is more than an accident.
    suffers: bool,
    /// Packets of it that are gone.
    lost: u64,
    /// Where its packets pass.
    pub way: Way,
}

/// Who a flow is.
#[derive(Clone, Debug)]
pub enum Origin<'a> {
    /// A probe of ours.
    Probe(&'a ProbeResult),
    /// What a program does.
    Program(Rc<Conversation>),
}

/// What goes wrong with a flow; all zero and empty for one that is well.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trouble {
    /// Attempts that were refused.
    pub refused: u64,
    /// Attempts without any answer, those that could not leave included.
    pub unanswered: u64,
    /// Requests whose answer came from another address than was asked, so that no socket took it.
    pub strayed: u64,
    /// Attempts whose answer came late.
    pub late: u64,
    /// Connections that were cut by a reset, or ended early by the other side.
    pub reset: u64,
    /// Connections that the asked side ended without an answer to what it was sent, by a reset or in order.
    pub turned_away: u64,
    /// Segments or datagrams that were sent again.
    pub repeated: u64,
    /// Of them, those that the other end reported to have had already (DSACK).
    pub needless: u64,
    /// Of those sent again, tails of which no answer came: see `tail`.
    pub tails: u64,
    /// Seconds since which nothing moves although something waits.
    pub stalled_seconds: Option<f64>,
    /// Of that, what is waited for.
    pub waits_for: Option<Why>,
    /// Failures of system calls and errors of the socket, by errno name.
    pub errors: BTreeMap<String, u64>,
    /// Attempts that failed on this machine before anything was sent.
    pub unsent: u64,
    /// Big packets vanish while small ones pass.
    pub swallowed: bool,
}

impl Deref for Flow<'_> {
    type Target = Way;

    fn deref(&self) -> &Way {
        &self.way
    }
}

impl<'a> Flow<'a> {
    /// All flows of an observation, each with its number: the probes in their order, then the conversations in trouble.
    pub fn gather(case: Case<'a>) -> (Vec<Self>, Seen<'a>) {
        let probes = case.observation.probes.iter().enumerate();
        let nat = Translators::of(case);
        let mut flows: Vec<Self> = probes.map(|(id, probe)| probe::flow(case, &nat, id, probe)).collect();
        let (talks, seen) = conversation::flows(case, &nat, flows.len());
        flows.extend(talks);
        (flows, seen)
    }

    /// The probe, if it is one.
    pub fn probe(&self) -> Option<&'a ProbeResult> {
        match &self.origin {
            Origin::Probe(probe) => Some(probe),
            Origin::Program(_) => None,
        }
    }

    /// What a program does, if it is that.
    pub fn conversation(&self) -> Option<&Conversation> {
        match &self.origin {
            Origin::Probe(_) => None,
            Origin::Program(talk) => Some(talk.as_ref()),
        }
    }

    /// True if somebody outside of its namespace began it.
    pub fn is_inbound(&self) -> bool {
        self.conversation().is_some_and(|talk| talk.direction == FlowDirection::In)
    }

    /// True if somebody is harmed: something went wrong, and it is more than an accident.
    pub fn in_trouble(&self) -> bool {
        self.suffers
    }

    /// True if a translation on its way leads its requests back to where they began.
    pub fn returns_home(&self) -> bool {
        let (first, last) = (self.forward.hops.first(), self.forward.hops.last());
        let ends = first.zip(last).is_some_and(|(first, last)| first.inode == last.inode);
        ends && self.forward.hops.len() > 1 && self.start == last.map(|hop| hop.inode)
    }

    /// True if a process begins it that hands published ports on to containers.
    pub fn is_of_publisher(&self) -> bool {
        let owner = self.conversation().and_then(|talk| talk.owner.as_ref());
        owner.and_then(|owner| owner.comm.as_deref()).is_some_and(|comm| PUBLISHERS.contains(&comm))
    }

    /// True if not all was well, refusals aside: a loss, a late answer, a failed send or request, big packets swallowed.
    pub fn suffers(&self) -> bool {
        let mut but_refusals = Trouble { refused: 0, ..self.trouble.clone() };
        but_refusals.errors.remove("ECONNREFUSED");
        self.suffers && but_refusals != Trouble::default()
    }

    /// True if attempts were refused.
    pub fn refused(&self) -> bool {
        self.trouble.refused > 0
    }

    /// True if it waits for an acknowledgement of what was sent before the window: no packet of it had to die in the window.
    pub fn is_silent(&self) -> bool {
        self.trouble.waits_for == Some(Why::Unacknowledged) && self.lost == 0
    }

    /// Packets of it that are gone: probes without an answer, repeated segments, attempts that nobody answered.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The flow's namespace, if observed: where its program or prober sits.
    pub fn home(&self, case: Case<'a>) -> Option<Space<'a>> {
        case.space_by_inode(self.start?)
    }
}
