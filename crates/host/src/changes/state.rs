//! What was last known of a namespace, and what a look or an announcement makes another.

use super::things::{self, KINDS, Kind, Names, Thing};
use std::collections::{BTreeMap, BTreeSet};
use whydrop_model::{Phrase, Snapshot, Text, text};

/// Changes of one kind in one go that are told one by one.
const MOST: usize = 12;
/// Longer tables (the routes of the whole Internet) are not compared.
const MOST_THINGS: usize = 20_000;

const APPEARED: Text = text!("{kind} {thing} appeared", "出现{kind} {thing}");
const APPEARED_AS: Text = text!("{kind} {thing} appeared: {new}", "出现{kind} {thing}：{new}");
const GONE: Text = text!("{kind} {thing} is gone", "{kind} {thing} 已消失");
const OTHER: Text = text!("{kind} {thing}: {old} is now {new}", "{kind} {thing}：{old} 变为 {new}");

/// An announcement: what a thing is now; nothing if it is gone.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub kind: Kind,
    /// By what the thing is known.
    pub id: String,
    pub now: Option<Thing>,
    /// Port of the socket that asked for it.
    pub port: u32,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct State {
    pub names: Names,
    /// Only kinds that were read.
    kinds: BTreeMap<Kind, BTreeMap<String, Thing>>,
    /// CLOCK_MONOTONIC of the last announcement of a thing: older looks know less of it.
    heard_at: BTreeMap<(Kind, String), u64>,
    /// The same of a whole kind.
    read_at: BTreeMap<Kind, u64>,
}

/// A thing before and after.
type Pair = (Option<Thing>, Option<Thing>);

impl State {
    /// What a look that began at `began` (CLOCK_MONOTONIC) makes another. What was not read on both sides is not
    /// compared, nor what was announced since. Each with the begin of the look before it.
    pub fn look(&mut self, snapshot: &Snapshot) -> Vec<(u64, Phrase)> {
        let began = snapshot.monotonic_ns;
        if let Some(names) = things::names(snapshot) {
            self.names = names;
        }
        let mut out = vec![];
        for kind in KINDS {
            if let Some(seen) = things::of(kind, snapshot, &self.names) {
                let before = self.read_at.get(&kind).copied().unwrap_or(0);
                out.extend(self.whole(kind, seen, began).into_iter().map(|what| (before, what)));
            }
        }
        self.heard_at.retain(|_, at| *at >= began);
        out
    }

    /// All things of a kind, as they were read from `began` on.
    pub fn whole(&mut self, kind: Kind, seen: Vec<Thing>, began: u64) -> Vec<Phrase> {
        if self.read_at.get(&kind).is_some_and(|at| *at > began) {
            return vec![];
        }
        self.read_at.insert(kind, began);
        if seen.len() > MOST_THINGS {
            self.kinds.remove(&kind);
            return vec![];
        }
        let mut new: BTreeMap<String, Thing> =
            seen.into_iter().map(|thing| (thing.id.clone(), thing)).collect();
        let Some(old) = self.kinds.get(&kind) else {
            self.kinds.insert(kind, new);
            return vec![];
        };
        let later = self.heard_at.iter().filter(|((of, _), at)| *of == kind && **at >= began);
        for ((_, id), _) in later {
            match old.get(id) {
                Some(thing) => new.insert(id.clone(), thing.clone()),
                None => new.remove(id),
            };
        }
        let gone =
            old.iter().filter(|(id, _)| !new.contains_key(*id)).map(|(_, thing)| (Some(thing.clone()), None));
        let other = new.iter().map(|(id, thing)| (old.get(id).cloned(), Some(thing.clone())));
        let pairs: Vec<Pair> = gone.chain(other).filter(|(old, new)| old != new).collect();
        self.kinds.insert(kind, new);
        tell(kind, pairs)
    }

    /// What was announced in one go at `now` (CLOCK_MONOTONIC), each with the port of whoever asked for it. What goes
    /// and comes back in the same go is another, and what stays the same is nothing.
    pub fn hear(&mut self, heard: Vec<Heard>, now: u64) -> Vec<(Phrase, u32)> {
        let mut before: BTreeMap<(Kind, String), (Option<Thing>, u32)> = BTreeMap::new();
        for Heard { kind, id, now: thing, port } in heard {
            // What was never read has no before.
            let Some(known) = self.kinds.get_mut(&kind) else { continue };
            if thing.is_some() && known.len() >= MOST_THINGS {
                continue;
            }
            let old = match thing {
                Some(thing) => known.insert(id.clone(), thing),
                None => known.remove(&id),
            };
            self.heard_at.insert((kind, id.clone()), now);
            before.entry((kind, id)).or_insert((old, port));
        }
        let mut ports: BTreeMap<(Kind, u32), Vec<Pair>> = BTreeMap::new();
        for ((kind, id), (old, port)) in before {
            let new = self.kinds.get(&kind).and_then(|known| known.get(&id)).cloned();
            if old != new {
                ports.entry((kind, port)).or_default().push((old, new));
            }
        }
        let told = |((kind, port), pairs)| tell(kind, pairs).into_iter().map(move |what| (what, port));
        ports.into_iter().flat_map(told).collect()
    }
}

/// In words.
fn tell(kind: Kind, pairs: Vec<Pair>) -> Vec<Phrase> {
    let word = kind.word().phrase();
    let same = |text: &str| Phrase::same(text);
    let mut out = vec![];
    for (old, new) in without_returned(pairs) {
        let one = |text: Text, thing: &Thing| text.with(&[("kind", &word), ("thing", &same(&thing.label))]);
        match (old, new) {
            (Some(old), Some(new)) if old.label == new.label => {
                let (was, is) = differing(&old.value, &new.value);
                let thing = same(&new.label);
                let words = [("kind", &word), ("thing", &thing), ("old", &same(&was)), ("new", &same(&is))];
                out.push(OTHER.with(&words));
            }
            (old, new) => {
                out.extend(old.map(|thing| one(GONE, &thing)));
                out.extend(new.map(|thing| match thing.value.as_str() {
                    "" => one(APPEARED, &thing),
                    value => {
                        let label = same(&thing.label);
                        APPEARED_AS.with(&[("kind", &word), ("thing", &label), ("new", &same(value))])
                    }
                }));
            }
        }
    }
    let more = out.len().saturating_sub(MOST);
    out.truncate(MOST);
    if more > 0 {
        let rest = text!("and {n} more of this kind", "另有 {n} 处同类改动");
        out.push(rest.fill(&[("n", &more)]));
    }
    out
}

/// Of `name=value` words only those that differ; anything else whole.
fn differing(old: &str, new: &str) -> (String, String) {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let pairs: Vec<(String, String)> = words(old).into_iter().zip(words(new)).collect();
    let named = |(a, b): &(String, String)| matches!((a.split_once('='), b.split_once('=')), (Some((a, _)), Some((b, _))) if a == b);
    if !pairs.iter().all(named) || words(old).len() != words(new).len() {
        return (old.to_owned(), new.to_owned());
    }
    let (was, is): (Vec<_>, Vec<_>) = pairs.into_iter().filter(|(a, b)| a != b).unzip();
    (was.join(" "), is.join(" "))
}

/// Leaves out what appeared as it went: a rule set that was written again is no change.
fn without_returned(pairs: Vec<Pair>) -> Vec<Pair> {
    let reads = |thing: &Thing| (thing.label.clone(), thing.value.clone());
    let mut gone: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        if let (Some(old), None) = pair {
            gone.entry(reads(old)).or_default().push(index);
        }
    }
    let mut returned: BTreeSet<usize> = BTreeSet::new();
    for (index, pair) in pairs.iter().enumerate() {
        if let (None, Some(new)) = pair
            && let Some(went) = gone.get_mut(&reads(new)).and_then(Vec::pop)
        {
            returned.extend([index, went]);
        }
    }
    let stays = |(index, _): &(usize, Pair)| !returned.contains(index);
    pairs.into_iter().enumerate().filter(stays).map(|(_, pair)| pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(id: &str, label: &str, value: &str) -> Thing {
        Thing { id: id.to_owned(), label: label.to_owned(), value: value.to_owned() }
    }

    fn said(phrases: Vec<Phrase>) -> Vec<String> {
        phrases.into_iter().map(|phrase| phrase.en).collect()
    }

    #[test]
    fn a_look_names_what_came_went_and_became_another() {
        let mut state = State::default();
        let first = vec![thing("1", "eth0", "state=up mtu=1500"), thing("2", "eth1", "up")];
        assert!(state.whole(Kind::Link, first.clone(), 1).is_empty(), "the first look");
        assert!(state.whole(Kind::Link, first, 2).is_empty());
        let second = vec![thing("1", "eth0", "state=down mtu=1500"), thing("3", "eth2", "up")];
        assert_eq!(
            said(state.whole(Kind::Link, second, 3)),
            [
                "interface eth1 is gone",
                "interface eth0: state=up is now state=down",
                "interface eth2 appeared: up"
            ]
        );
        let many = (0..20).map(|n| thing(&format!("n{n}"), "x", "up")).collect();
        assert_eq!(state.whole(Kind::Link, many, 4).len(), MOST + 1);
    }

    #[test]
    fn an_announcement_is_told_once_and_an_older_look_does_not_undo_it() {
        let mut state = State::default();
        state.whole(Kind::Address, vec![thing("a", "a", "")], 1);
        let heard =
            |id: &str, now: Option<Thing>| Heard { kind: Kind::Address, id: id.to_owned(), now, port: 7 };
        let told = state.hear(vec![heard("a", None), heard("b", Some(thing("b", "b", "")))], 10);
        let told: Vec<_> = told.into_iter().map(|(what, port)| (what.en, port)).collect();
        assert_eq!(told, [("address a is gone".to_owned(), 7), ("address b appeared".to_owned(), 7)]);
        assert!(state.whole(Kind::Address, vec![thing("a", "a", "")], 9).is_empty(), "an older look");
        assert!(state.whole(Kind::Address, vec![thing("b", "b", "")], 11).is_empty());
        // Gone and back in one go, and the same again.
        let go = vec![heard("b", None), heard("b", Some(thing("b", "b", "")))];
        assert!(state.hear(go, 12).is_empty());
    }

    #[test]
    fn rules_that_are_written_again_are_no_change() {
        let mut state = State::default();
        state.whole(Kind::Rule, vec![thing("1", "INPUT: a", ""), thing("2", "INPUT: b", "")], 1);
        let again = vec![thing("3", "INPUT: a", ""), thing("4", "INPUT: b", ""), thing("5", "INPUT: b", "")];
        assert_eq!(said(state.whole(Kind::Rule, again, 2)), ["rule INPUT: b appeared"]);
    }
}
