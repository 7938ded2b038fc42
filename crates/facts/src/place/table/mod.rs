//! The table behind [`super::of_event`]: the first row that fits decides.
//!
//! Reasons: include/net/dropreason-core.h up to 6.18. Functions: where those kernels and 5.10, 6.1, 6.12 drop, as
//! seen in their sources or, for the places of tests/tests/trace_places.rs, as the kernel reported them.

mod host;
mod link;
mod network;
mod transmit;
mod transport;

use super::{Drop, Place};
use crate::Class;
use whydrop_model::{Text, text};

/// Stage of netfilter drops until the hook is known.
pub const NETFILTER: &str = "netfilter";
/// Functions that drop what they cannot hand to an NFQUEUE: nobody has it open, or it is full (nf_queue.c:nf_queue).
pub const TO_QUEUE: &[&str] = &["nf_queue", "__nf_queue", "nf_hook_queue"];
const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// No row fits.
pub const UNKNOWN: Place = Place {
    stage: "unknown",
    cause: None,
    class: Class::Conditional,
    why: text!("whydrop does not know this place", "whydrop 不认识这个位置"),
};

/// One row: every condition that is given must hold.
pub struct Row {
    reasons: &'static [&'static str],
    functions: &'static [&'static str],
    callers: &'static [&'static str],
    protocol: Option<u8>,
    /// Flags that are looked at, and what they must be.
    tcp_flags: Option<(u8, u8)>,
    /// Only packets that were sent to many.
    multicast: bool,
    pub place: Place,
}

impl Row {
    pub fn matches(&self, drop: Drop<'_>) -> bool {
        let fits =
            |names: &[&str], name: &str| names.is_empty() || names.iter().any(|n| is_or_begins(n, name));
        let reason = if drop.reason.is_empty() { "NOT_SPECIFIED" } else { drop.reason };
        fits(self.reasons, reason)
            && fits(self.functions, drop.function)
            && (self.callers.is_empty() || drop.stack.iter().any(|caller| fits(self.callers, caller)))
            && (self.protocol.is_none() || self.protocol == drop.protocol)
            && (!self.multicast || drop.multicast)
            && self.tcp_flags.is_none_or(|(mask, value)| drop.tcp_flags.is_some_and(|f| f & mask == value))
    }

    const fn on(mut self, functions: &'static [&'static str]) -> Self {
        self.functions = functions;
        self
    }

    const fn under(mut self, callers: &'static [&'static str]) -> Self {
        self.callers = callers;
        self
    }

    const fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = Some(protocol);
        self
    }

    const fn flags(mut self, mask: u8, value: u8) -> Self {
        self.tcp_flags = Some((mask, value));
        self
    }

    const fn multicast(mut self) -> Self {
        self.multicast = true;
        self
    }

    const fn cause(mut self, cause: &'static str) -> Self {
        self.place.cause = Some(cause);
        self
    }
}

/// `unix_*` stands for every name that begins with `unix_`.
fn is_or_begins(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

const fn row(class: Class, stage: &'static str, reasons: &'static [&'static str], why: Text) -> Row {
    Row {
        reasons,
        functions: &[],
        callers: &[],
        protocol: None,
        tcp_flags: None,
        multicast: false,
        place: Place { stage, cause: None, class, why },
    }
}

/// Reasons that say nothing.
const SILENT: &[&str] = &["NOT_SPECIFIED"];

/// All rows, in the order in which they are asked.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    [host::ROWS, link::ROWS, network::ROWS, transport::ROWS, transmit::ROWS].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use whydrop_model::Lang;

    #[test]
    fn every_cause_and_stage_is_well_formed() {
        for row in rows() {
            assert!(
                !row.reasons.is_empty() || !row.functions.is_empty(),
                "{} fits everything",
                row.place.stage
            );
            assert!(row.place.cause.is_none_or(|cause| crate::cause_ids().any(|id| id == cause)));
            assert!(row.place.why.en.is_ascii() && !row.place.why.zh.is_ascii());
            assert_eq!(row.place.why.placeholders(Lang::En), row.place.why.placeholders(Lang::Zh));
        }
    }
}
