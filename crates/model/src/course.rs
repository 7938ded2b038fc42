//! The way of a packet as the tables of a machine would treat it: what `whydrop way` shows. Nothing was sent.

use crate::text::Phrase;
use std::net::IpAddr;

/// A way, out and back.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// The URL as given.
    pub url: String,
    /// Target id of the namespace that it starts in.
    pub from: String,
    /// The address that is asked.
    pub address: IpAddr,
    /// The request's steps, in order.
    pub request: Vec<CourseStep>,
    /// The answer's, as far as the request comes to somebody who would answer.
    pub answer: Vec<CourseStep>,
    /// Where it ends.
    pub end: CourseEnd,
    /// The target in which it ends.
    pub target: String,
    /// One sentence about the end.
    pub summary: Phrase,
}

/// Where a way ends, as far as the tables tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CourseEnd {
    /// Somebody takes the request, and the answer comes back.
    Arrives,
    /// A rule or a policy drops.
    Dropped,
    /// A rule refuses.
    Rejected,
    /// A queue to user space takes it.
    Queued,
    /// There is no route.
    NoRoute,
    /// A route or policy rule refuses.
    Refused,
    /// A namespace that it needs does not forward.
    NotForwarded,
    /// Nobody listens.
    NotListening,
    /// The neighbour does not answer.
    NoNeighbour,
    /// The routes lead in a circle.
    Circles,
    /// It leaves what is in view.
    OutOfSight,
    /// Something on the way cannot be decided.
    Unclear,
}

impl CourseEnd {
    /// The word of the JSON form.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Arrives => "arrives",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
            Self::Queued => "queued",
            Self::NoRoute => "no_route",
            Self::Refused => "refused",
            Self::NotForwarded => "not_forwarded",
            Self::NotListening => "not_listening",
            Self::NoNeighbour => "no_neighbour",
            Self::Circles => "circles",
            Self::OutOfSight => "out_of_sight",
            Self::Unclear => "unclear",
        }
    }
}

/// What a step does to the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CourseFate {
    /// It goes on.
    Passes,
    /// It goes on with another address or port.
    Translated,
    /// It ends.
    Ends,
    /// It may end: that cannot be decided, or depends on what came before.
    May,
}

impl CourseFate {
    /// The word of the JSON form.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Translated => "translated",
            Self::Ends => "ends",
            Self::May => "may_end",
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct CourseStep {
    /// Target id of the namespace.
    pub target: String,
    /// Stage id: `netfilter.forward`, `route.input`, `neighbour`, `qdisc.transmit`, `socket.lookup`, `link`.
    pub stage: String,
    /// What it does.
    pub fate: CourseFate,
    /// In words.
    pub text: Phrase,
    /// Rules that could have let the packet pass, each with the first field that it does not fit.
    pub tried: Vec<CourseRule>,
}

/// A rule that was tried and did not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CourseRule {
    /// Table, chain and number.
    pub rule: String,
    /// The first condition that the packet does not fit.
    pub missed: String,
}
