//! What the causes of wrong checksums share: the packets that they take, and their witnesses.

use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::damage::{self, Damage};
use crate::evidence::packet::Fit;
use crate::tell::BY_EVENTS;
use whydrop_model::{Cause, Direction};

/// A culprit that takes the damaged packets that arrive in these namespaces, told where what damages them is; its subject
/// is the interface by which most came.
pub fn culprit<'a>(spaces: Vec<Space<'a>>, told: Space<'a>, cause: &'static Cause) -> Culprit<'a> {
    let lost = || spaces.iter().flat_map(|space| damage::losses(*space));
    let events: u64 = lost().map(|loss| loss.packets).sum();
    let counted: u64 = spaces.iter().map(|space| damage::counted(*space)).sum();
    let busiest = lost().filter(|loss| loss.is_in(told)).max_by_key(|loss| loss.packets);
    let name = busiest.and_then(|loss| loss.link).map(|link| told.after.link_name(link));
    let subject = name.unwrap_or_else(|| "ip.receive".to_owned());
    let source = if counted > events { "snmp" } else { BY_EVENTS };
    let visited = spaces.clone();
    Culprit::new(told, cause, "ip.receive", Scope::Link, subject)
        .reaches()
        .direction(Direction::Receive)
        .meter(events.max(counted), Count::Exact, source)
        .has_no_duty(true)
        .concerns(spaces.iter().any(|space| space.is_target()))
        .takes(move |loss| sure(damage::is_damaged(loss) && spaces.iter().any(|space| loss.is_in(*space))))
        .harms(move |flow| {
            let visits = visited.iter().any(|space| flow.visits(*space));
            if flow.suffers() && visits { Fit::Maybe } else { Fit::No }
        })
}

/// The namespaces in which packets arrive damaged in the same way, if this one tells for all of them.
pub fn alike<'a>(space: Space<'a>, same: impl Fn(&Damage<'a>) -> bool) -> Option<Vec<Space<'a>>> {
    let all: Vec<Space<'a>> =
        space.case.spaces().filter(|there| damage::of(*there).is_some_and(|damage| same(&damage))).collect();
    let first = all.iter().all(|there| there.same(space) || space.speaks_for(*there));
    (first && all.iter().any(|there| there.same(space))).then_some(all)
}

/// The counters that rose, as witnesses.
pub fn witnesses(space: Space<'_>, story: Story) -> Story {
    let rise = |name: &str| space.mib(name) + space.mib6(name);
    damage::COUNTERS.iter().fold(story, |story, name| story.counter(name, rise(name)))
}
