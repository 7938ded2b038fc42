//! Filters attached with tc.

pub mod action_drop;
pub mod bpf_drop;
pub mod bpf_mangle;
pub mod mirred_redirect;
pub mod police;
#[cfg(test)]
mod tests;

use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, fill_words};
use whydrop_model::action::TC_INGRESS;
use whydrop_model::delta::Change;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::{Link, TcAction, TcFilter};
use whydrop_model::{Cause, Direction, Phrase, Text, text};

/// Parent of filters on clsact ingress and egress.
const CLSACT_INGRESS: u32 = 0xffff_fff2;

/// Longest program name shown (BPF_OBJ_NAME_LEN is 16, with the file's name more).
const MAX_NAME: usize = 64;

const DROPPED: Text = text!("the action's drop counter rose by {n}", "该动作的丢弃计数 +{n}");
const HOOK_DROPPED: Text = text!("{kind} of {dev} counted {n} drops", "{dev} 的 {kind} 计数丢弃 {n} 个");
const DELETE: Text = text!(
    "delete the filter: tc filter del dev DEV ingress|egress pref N",
    "删除该过滤器：tc filter del dev DEV ingress|egress pref N"
);

/// What drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// gact drop.
    Action,
    /// police.
    Police,
    /// A BPF program.
    Bpf,
}

fn judge_filters<'a>(space: Space<'a>, cause: &'static Cause, found: Found, summary: Text) -> Judgement<'a> {
    let links = space.links();
    let culprits = links.flat_map(|link| match found {
        Found::Bpf => by_program(space, cause, link, summary),
        _ => by_action(space, cause, link, found, summary),
    });
    culprits.collect::<Vec<_>>().into()
}

fn by_action<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    link: &'a Link,
    found: Found,
    summary: Text,
) -> Vec<Culprit<'a>> {
    let mut out = vec![];
    for filter in filters(space, link) {
        for (index, action) in filter.actions.iter().enumerate() {
            let kind = match action.kind.as_str() {
                "gact" if action.verdict.as_deref().is_some_and(|v| v.contains("drop")) => Found::Action,
                "police" => Found::Police,
                _ => continue,
            };
            let lost = rise(space, filter, index, action);
            if kind != found {
                continue;
            }
            let at = At { space, link, parent: filter.parent, filter: Some(filter) };
            let culprit = at.culprit(cause, lost, move || {
                let show = ["tc", "-s", "filter", "show", "dev", link.name.as_str(), side(filter.parent)];
                let story = at.story(summary);
                match lost.filter(|n| *n > 0) {
                    Some(n) => story.evidence(DROPPED.fill(&[("n", &n)]), "tc action", &show),
                    None => story,
                }
            });
            out.push(match lost {
                Some(lost) => culprit.meter(lost, Count::Exact, "tc action"),
                None => culprit,
            });
        }
    }
    out
}

/// Drops of clsact that no action counted belong to a program; so do the kernel's drop events where no clsact counts
/// them (tcx).
fn by_program<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    link: &'a Link,
    summary: Text,
) -> Vec<Culprit<'a>> {
    let actions =
        filters(space, link).flat_map(|f| f.actions.iter().enumerate().map(move |(i, a)| (f, i, a)));
    let by_actions: u64 = actions.map(|(f, i, a)| rise(space, f, i, a).unwrap_or(0)).sum();
    let hook = space.after.qdiscs.iter().find(|q| q.link == link.index && q.parent == TC_INGRESS);
    let counted = hook.filter(|_| space.before.qdiscs.is_present());
    let counted = counted.map(|q| space.qdisc_drops(q).saturating_sub(by_actions));
    let programs = || filters(space, link).filter(|f| f.kind == "bpf");
    let mut places: Vec<(u32, Option<&'a TcFilter>)> = vec![];
    for program in programs() {
        if !places.iter().any(|(parent, _)| side(*parent) == side(program.parent)) {
            places.push((program.parent, Some(program)));
        }
    }
    // TC_EGRESS is also the reason of drops inside queues: only TC_INGRESS speaks for a program that is not listed.
    let arrived =
        space.losses().filter(|loss| loss.is_at(space, link.index) && loss.is_at_stage("tc.ingress"));
    let arrived: u64 = arrived.map(|loss| loss.packets).sum();
    // An action whose counter is not known may have taken them.
    let blind =
        |action: &TcAction| matches!(action.kind.as_str(), "gact" | "police") && action.stats.is_none();
    let counts = !filters(space, link).any(|f| side(f.parent) == "ingress" && f.actions.iter().any(blind));
    if places.is_empty() && counts && arrived > by_actions + counted.unwrap_or(0) {
        places.push((CLSACT_INGRESS, None));
    }
    let alone = places.len() == 1;
    let culprits = places.into_iter().map(|(parent, filter)| {
        let at = At { space, link, parent, filter };
        let lost = counted.filter(|_| filter.is_some());
        // What the kernel reports although clsact counted nothing is no less this program's.
        let unseen = lost == Some(0) && arrived > by_actions && !at.transmits();
        let culprit = at.culprit(cause, lost, move || {
            let story = at.story(summary);
            match hook.zip(lost.filter(|n| *n > 0)) {
                Some((hook, n)) => story.evidence(
                    HOOK_DROPPED.fill(&[("kind", &hook.kind), ("dev", &link.name), ("n", &n)]),
                    "qdisc counter",
                    &["tc", "-s", "qdisc", "show", "dev", &link.name],
                ),
                None => story,
            }
        });
        // One counter for both directions: with a program on each side it limits either.
        let count = if alone { Count::Exact } else { Count::AtMost };
        match lost.filter(|_| !unseen) {
            Some(lost) => culprit.meter(lost, count, "clsact drops"),
            None => culprit,
        }
    });
    culprits.collect()
}

fn filters<'a>(space: Space<'a>, link: &'a Link) -> impl Iterator<Item = &'a TcFilter> {
    space.after.filters.iter().filter(|f| f.link == link.index)
}

/// Where a filter stands, or a program that is none.
#[derive(Clone, Copy)]
struct At<'a> {
    space: Space<'a>,
    link: &'a Link,
    parent: u32,
    filter: Option<&'a TcFilter>,
}

impl<'a> At<'a> {
    fn side(self) -> &'static str {
        side(self.parent)
    }

    fn transmits(self) -> bool {
        self.side() == "egress"
    }

    fn stage(self) -> &'static str {
        if self.transmits() { "tc.egress" } else { "tc.ingress" }
    }

    /// `lost` is what its counter says; none if that is not known.
    fn culprit(self, cause: &'static Cause, lost: Option<u64>, tell: impl Fn() -> Story + 'a) -> Culprit<'a> {
        let Self { space, link, filter, .. } = self;
        let subject = match filter {
            Some(f) => format!("{} {}, filter pref {}", link.name, self.side(), f.preference),
            None => format!("{} {}", link.name, self.side()),
        };
        let direction = if self.transmits() { Direction::Transmit } else { Direction::Receive };
        Culprit::new(space, cause, self.stage(), Scope::Rule, subject)
            .direction(direction)
            .on(link.index)
            .takes(move |loss| self.takes(loss))
            .harms(move |flow| {
                let met = lost.is_some_and(|n| n > 0) && flow.suffers();
                sure(
                    met && (!self.transmits() && flow.passes(space, link.index)
                        || self.transmits() && flow.leaves_by(space, link.index)),
                )
            })
            .tell(move |_| tell())
    }

    fn takes(self, loss: &Loss<'a>) -> Fit {
        let here = loss.is_at(self.space, self.link.index);
        // Kernels without reasons only know the function, which is that of the stack's entrance.
        let nameless = loss.kind == Kind::MayBeHarm && loss.is_at_stage("link.receive") && !self.transmits();
        match here {
            true if loss.is_at_stage(self.stage()) => Fit::Yes,
            true if nameless || loss.kind == Kind::Imagined => Fit::Maybe,
            _ => Fit::No,
        }
    }

    fn story(self, summary: Text) -> Story {
        let way = match self.transmits() {
            true => Phrase { en: "outgoing".into(), zh: "出站".into() },
            false => Phrase { en: "incoming".into(), zh: "入站".into() },
        };
        let words = [("dev", &Phrase::same(self.link.name.as_str())), ("way", &way)];
        let story = Story::new(fill_words(summary, &words)).fix(manual(DELETE));
        match self.filter.and_then(|f| f.program.as_ref()) {
            Some(program) => story.exhibit(sanitize(program, MAX_NAME)),
            None => story,
        }
    }
}

/// The side of its interface on which a filter hangs: `ingress` or `egress`.
pub fn side(parent: u32) -> &'static str {
    match parent {
        CLSACT_INGRESS | TC_INGRESS | 0xffff_0000 => "ingress",
        _ => "egress",
    }
}

/// Rise of an action's drop counter in the window; none if it has none, or the filters were not read before it.
fn rise(space: Space<'_>, filter: &TcFilter, index: usize, action: &TcAction) -> Option<u64> {
    if !space.before.filters.is_present() {
        return None;
    }
    let key = |f: &TcFilter| (f.link, f.parent, f.preference, f.handle);
    let before = space.before.filters.iter().find(|f| key(f) == key(filter) && f.kind == filter.kind);
    let old = before.and_then(|f| f.actions.get(index)).and_then(|a| a.stats.as_ref()).map(|s| s.drops);
    let now = action.stats.as_ref()?.drops;
    Some(match Change::of_u32(old, Some(now)) {
        Change::Rose(n) => n,
        Change::Appeared(n) if before.is_none() => n,
        _ => 0,
    })
}
