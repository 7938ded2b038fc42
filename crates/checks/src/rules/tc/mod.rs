//! Filters attached with tc.

pub mod action_drop;
pub mod bpf_drop;
pub mod police;
#[cfg(test)]
mod tests;

use crate::case::Space;
use crate::rule::{Judgement, Suspect, fill_words, manual};
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

/// The cause of drops by the filters of a device in one direction, if only one kind of them can drop.
pub fn cause_at(space: Space<'_>, link: u32, transmits: bool) -> Option<&'static str> {
    let here = |f: &&TcFilter| f.link == link && (side(f.parent) == "egress") == transmits;
    let filters: Vec<&TcFilter> = space.after.filters.iter().filter(here).collect();
    let acts = |kind: &str| filters.iter().flat_map(|f| &f.actions).any(|action| action.kind == kind);
    let programs = filters.iter().any(|f| f.kind == "bpf");
    let kinds = [
        // A program attached by tcx is no filter: nothing else drops on arrival where there is none.
        (programs || (filters.is_empty() && !transmits), bpf_drop::CAUSE.id),
        (acts("gact"), action_drop::CAUSE.id),
        (acts("police"), police::CAUSE.id),
    ];
    let mut found = kinds.into_iter().filter(|(there, _)| *there).map(|(_, cause)| cause);
    found.next().filter(|_| space.after.filters.is_present() && found.next().is_none())
}

fn judge_filters(space: Space<'_>, cause: &'static Cause, found: Found, summary: Text) -> Judgement {
    let links = space.links();
    let suspects = links.flat_map(|link| match found {
        Found::Bpf => by_program(space, cause, link, summary).into_iter().collect::<Vec<_>>(),
        _ => by_action(space, cause, link, found, summary),
    });
    suspects.collect::<Vec<_>>().into()
}

fn by_action(
    space: Space<'_>,
    cause: &'static Cause,
    link: &Link,
    found: Found,
    summary: Text,
) -> Vec<Suspect> {
    let mut out = vec![];
    for filter in space.after.filters.iter().filter(|f| f.link == link.index) {
        for (index, action) in filter.actions.iter().enumerate() {
            let kind = match action.kind.as_str() {
                "gact" if action.verdict.as_deref().is_some_and(|v| v.contains("drop")) => Found::Action,
                "police" => Found::Police,
                _ => continue,
            };
            let lost = rise(space, filter, index, action);
            if kind != found || lost == 0 {
                continue;
            }
            let suspect = suspect(space, cause, link, filter.parent, Some(filter), summary);
            let show = ["tc", "-s", "filter", "show", "dev", link.name.as_str(), side(filter.parent)];
            let claim = DROPPED.fill(&[("n", &lost)]);
            out.push(
                suspect
                    .packets(lost, "tc action")
                    .evidence(claim, "tc action", &show)
                    .drop_events(space.drops_because(&[reason(filter.parent)]), reason(filter.parent)),
            );
        }
    }
    out
}

/// Drops of clsact that no action counted belong to a program; so do the kernel's drop events where no clsact counts
/// them (tcx).
fn by_program(space: Space<'_>, cause: &'static Cause, link: &Link, summary: Text) -> Option<Suspect> {
    let filters = || space.after.filters.iter().filter(|f| f.link == link.index);
    let by_actions: u64 =
        filters().flat_map(|f| f.actions.iter().enumerate().map(move |(i, a)| rise(space, f, i, a))).sum();
    let hook = space.after.qdiscs.iter().find(|q| q.link == link.index && q.parent == TC_INGRESS);
    let counted = hook.map_or(0, |q| space.qdisc_drops(q)).saturating_sub(by_actions);
    let at = |reason: &str| -> u64 {
        let here = space.drop_counts().filter(|c| c.reason == reason && c.link == Some(link.index));
        here.map(|c| c.drops).sum()
    };
    let (ingress, egress) = (at("TC_INGRESS"), at("TC_EGRESS"));
    // TC_EGRESS is also the reason of drops inside queues: only TC_INGRESS speaks for a program that is not listed.
    let program = filters().find(|f| f.kind == "bpf");
    let lost = match program {
        Some(_) => counted.max((ingress + egress).saturating_sub(by_actions)),
        None => ingress.saturating_sub(by_actions).saturating_sub(counted),
    };
    if lost == 0 {
        return None;
    }
    let parent = program.map_or(CLSACT_INGRESS, |f| f.parent);
    let mut out = suspect(space, cause, link, parent, program, summary)
        .packets(lost, if counted > 0 { "clsact drops" } else { "drop events" })
        .drop_events(ingress + egress, reason(parent));
    if let Some(hook) = hook.filter(|_| counted > 0) {
        let words: [(&str, &dyn std::fmt::Display); 3] =
            [("kind", &hook.kind), ("dev", &link.name), ("n", &counted)];
        out = out.evidence(
            HOOK_DROPPED.fill(&words),
            "qdisc counter",
            &["tc", "-s", "qdisc", "show", "dev", &link.name],
        );
    }
    Some(out)
}

fn suspect(
    space: Space<'_>,
    cause: &'static Cause,
    link: &Link,
    parent: u32,
    filter: Option<&TcFilter>,
    summary: Text,
) -> Suspect {
    let transmits = side(parent) == "egress";
    let way = match transmits {
        true => Phrase { en: "outgoing".into(), zh: "出站".into() },
        false => Phrase { en: "incoming".into(), zh: "入站".into() },
    };
    let subject = match filter {
        Some(f) => format!("{} {}, filter pref {}", link.name, side(parent), f.preference),
        None => format!("{} {}", link.name, side(parent)),
    };
    let summary = fill_words(summary, &[("dev", &Phrase::same(link.name.as_str())), ("way", &way)]);
    let stage = if transmits { "tc.egress" } else { "tc.ingress" };
    let mut out = Suspect::new(space, cause, stage, subject, summary)
        .direction(if transmits { Direction::Transmit } else { Direction::Receive })
        .on(link.index)
        .touches(space.probes_via(link.index))
        .fix(manual(DELETE));
    if let Some(program) = filter.and_then(|f| f.program.as_ref()) {
        out = out.exhibit(sanitize(program, MAX_NAME));
    }
    out
}

fn side(parent: u32) -> &'static str {
    match parent {
        CLSACT_INGRESS | TC_INGRESS | 0xffff_0000 => "ingress",
        _ => "egress",
    }
}

fn reason(parent: u32) -> &'static str {
    if side(parent) == "ingress" { "TC_INGRESS" } else { "TC_EGRESS" }
}

/// Rise of an action's drop counter in the window.
fn rise(space: Space<'_>, filter: &TcFilter, index: usize, action: &TcAction) -> u64 {
    let key = |f: &TcFilter| (f.link, f.parent, f.preference, f.handle);
    let before = space.before.filters.iter().find(|f| key(f) == key(filter) && f.kind == filter.kind);
    let old = before.and_then(|f| f.actions.get(index)).and_then(|a| a.stats.as_ref()).map(|s| s.drops);
    match Change::of_u32(old, action.stats.as_ref().map(|s| s.drops)) {
        Change::Rose(n) => n,
        Change::Appeared(n) if before.is_none() && space.before.filters.is_present() => n,
        _ => 0,
    }
}
