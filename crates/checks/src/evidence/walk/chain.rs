//! One chain, rule by rule, with the chains that it calls.

use super::super::packet::{Fit, Packet, State};
use super::ending::{Condition, End, Ending, RuleAt};
use super::fit::View;
use super::{Rules, translate};
use whydrop_model::netfilter::{Chain, Change, Field, Hook, Match, Rule, RuleVerdict};

/// Jumps deeper than this are taken for a loop: the kernel's own limit (`NFT_JUMP_STACK_SIZE`); a recording may hold
/// anything.
const MAX_JUMPS: usize = 16;

/// Rules that one walk asks at most: chains that call each other twice and more could ask for ever. Ten times the
/// largest rule set that is measured.
const MAX_RULES: usize = 1_000_000;

/// Endings that one base chain gives at most: each rule that may take the packet is one.
const MAX_ENDINGS: usize = 20_000;

/// A packet on its way through the chains of a hook.
pub(super) struct Walker<'r, 'a> {
    pub rules: &'r Rules<'a>,
    pub hook: Option<Hook>,
    /// False in front of connection tracking.
    pub tracked: bool,
    /// The packet as it is now.
    pub packet: Packet,
    /// Base chain in which it is.
    pub base: Option<&'a Chain>,
    /// Jumps that led to the chain in which it is.
    via: Vec<RuleAt<'a>>,
    /// Endings and passes of the base chain.
    pub endings: Vec<Ending<'a>>,
    /// Shapes in which the packet passes the base chain.
    pub passes: Vec<(Fit, Packet)>,
    asked: usize,
    exhausted: bool,
}

/// How a packet gets through a chain, seen from its first rule.
struct Course {
    /// How surely it is at the next rule.
    here: Fit,
    /// It may have left by a return, and looked like this.
    left: Option<Packet>,
    /// It may have ended.
    ended: bool,
}

impl Course {
    /// The packet ends, or goes elsewhere, as surely as that.
    fn stop(&mut self, fit: Fit) {
        self.here = if fit == Fit::Yes { Fit::No } else { Fit::Maybe };
    }

    fn end(&mut self, fit: Fit) {
        self.ended = true;
        self.stop(fit);
    }

    fn leave(&mut self, fit: Fit, packet: &Packet) {
        match &mut self.left {
            Some(left) => join(left, packet),
            None => self.left = Some(packet.clone()),
        }
        self.stop(fit);
    }
}

/// What is known of a packet that may look like either of two: they differ in what rules change, never in addresses.
fn join(packet: &mut Packet, other: &Packet) {
    packet.fields.retain(|field, number| other.fields.get(field) == Some(number));
    if packet.state != other.state {
        packet.state = Some(State::Unclear);
    }
}

impl<'r, 'a> Walker<'r, 'a> {
    pub fn new(rules: &'r Rules<'a>, hook: Option<Hook>, packet: &Packet) -> Self {
        Self {
            rules,
            hook,
            tracked: true,
            packet: packet.clone(),
            base: None,
            via: vec![],
            endings: vec![],
            passes: vec![],
            asked: 0,
            exhausted: false,
        }
    }

    /// How surely a rule drops or refuses the packet once it is there.
    pub fn dropped_by(&mut self, chain: &'a Chain, rule: &'a Rule) -> Fit {
        let at = RuleAt { chain, rule };
        let fit = self.asks(at);
        let drops = |(fit, verdict): (Fit, &RuleVerdict)| match verdict {
            RuleVerdict::Drop | RuleVerdict::Reject => fit,
            verdict if is_unread_map(verdict) => Fit::Maybe.min(fit),
            _ => Fit::No,
        };
        self.outcomes(fit, &rule.verdict).into_iter().map(drops).max().unwrap_or(Fit::No)
    }

    pub fn view(&self) -> View<'_, 'a> {
        View { packet: &self.packet, hook: self.hook, tracked: self.tracked, snapshot: self.rules.snapshot }
    }

    /// Walks the rules; `here` is how surely the packet comes to the first one. The answer is how surely it comes out
    /// at the end, once it is there.
    pub fn chain(&mut self, chain: &'a Chain, rules: &'a [Rule], here: Fit) -> Fit {
        let mut course = Course { here, left: None, ended: false };
        for rule in rules {
            self.asked += 1;
            if self.asked > MAX_RULES || self.endings.len() > MAX_ENDINGS {
                if !std::mem::replace(&mut self.exhausted, true) {
                    self.unknown(course.here, None, format!("more than {MAX_RULES} rules"));
                }
                course.end(Fit::Maybe);
                break;
            }
            let at = RuleAt { chain, rule };
            let fit = self.asks(at);
            if fit == Fit::No {
                continue;
            }
            if let RuleVerdict::Map(_) = &rule.verdict {
                for (fit, verdict) in self.outcomes(fit, &rule.verdict) {
                    self.act(&mut course, at, fit, verdict);
                }
            } else {
                self.act(&mut course, at, fit, &rule.verdict);
            }
            if course.here == Fit::No {
                break;
            }
        }
        let (fell, returned) = (course.here != Fit::No, course.left.is_some());
        match course.left {
            Some(left) if fell => join(&mut self.packet, &left),
            Some(left) => self.packet = left,
            None => {}
        }
        match (fell || returned, course.ended) {
            (false, _) => Fit::No,
            (true, true) => Fit::Maybe,
            (true, false) => Fit::Yes,
        }
    }

    /// Asks the conditions of a rule in their order, and makes its changes between them.
    fn asks(&mut self, at: RuleAt<'a>) -> Fit {
        let mut fit = Fit::Yes;
        for condition in &at.rule.matches {
            if let Match::Change(change) = condition {
                self.change(*change, fit);
                continue;
            }
            fit = fit.min(self.view().fits(condition));
            if fit == Fit::No {
                break;
            }
        }
        fit
    }

    /// What a rule may do: a verdict map has a verdict for each entry, and takes at most one.
    fn outcomes(&self, fit: Fit, verdict: &'a RuleVerdict) -> Vec<(Fit, &'a RuleVerdict)> {
        let RuleVerdict::Map(entries) = verdict else { return vec![(fit, verdict)] };
        let view = self.view();
        let mut maybe = vec![];
        for (key, verdict) in entries {
            match view.fits(key) {
                Fit::No => {}
                Fit::Maybe => maybe.push((fit.min(Fit::Maybe), verdict)),
                // What no other entry fits: perhaps one of them does.
                Fit::Yes if !maybe.is_empty() && *key == Match::AllOf(vec![]) => {
                    maybe.push((fit.min(Fit::Maybe), verdict));
                }
                Fit::Yes => return vec![(fit, verdict)],
            }
        }
        maybe
    }

    fn act(&mut self, course: &mut Course, at: RuleAt<'a>, fit: Fit, verdict: &'a RuleVerdict) {
        let here = course.here.min(fit);
        let end = match verdict {
            RuleVerdict::Continue => return,
            RuleVerdict::Return => return course.leave(fit, &self.packet),
            RuleVerdict::Jump(name) | RuleVerdict::Goto(name) => {
                let goto = matches!(verdict, RuleVerdict::Goto(_));
                return self.call(course, at, fit, name, goto);
            }
            RuleVerdict::Accept => {
                self.pass(here, self.packet.clone());
                End::Accept
            }
            RuleVerdict::Drop => End::Drop,
            RuleVerdict::Reject => End::Reject,
            RuleVerdict::Queue(number) => End::Queue(*number),
            RuleVerdict::Nat(nat) => match translate::translated(self, nat) {
                Some(packet) => {
                    self.pass(here, packet);
                    self.push(End::Translated((**nat).clone()), here, at);
                    return course.end(fit);
                }
                None => {
                    self.unknown(here, Some(at), format!("{} to an unknown address", nat.kind.word()));
                    return course.end(fit);
                }
            },
            RuleVerdict::Tproxy { .. } => {
                // Whether a socket takes it is the socket's secret: it must be a transparent one.
                self.pass(here.min(Fit::Maybe), self.packet.clone());
                self.push(End::Accept, here.min(Fit::Maybe), at);
                self.push(End::Drop, here.min(Fit::Maybe), at);
                return course.end(fit);
            }
            RuleVerdict::Other(name) => {
                self.unknown(here, Some(at), name.clone());
                return course.end(fit.min(Fit::Maybe));
            }
            RuleVerdict::Map(_) => {
                self.unknown(here, Some(at), "a map in a map".to_owned());
                return course.end(fit.min(Fit::Maybe));
            }
        };
        self.push(end, here, at);
        course.end(fit);
    }

    fn call(&mut self, course: &mut Course, at: RuleAt<'a>, fit: Fit, name: &str, goto: bool) {
        let here = course.here.min(fit);
        let called = self.rules.chain(at.chain, name).filter(|_| self.via.len() < MAX_JUMPS);
        // The kernel refuses circles.
        let called = called.filter(|called| !self.via.iter().any(|at| std::ptr::eq(at.chain, *called)));
        let Some(called) = called else {
            self.unknown(here, Some(at), format!("chain {name}"));
            return course.end(fit.min(Fit::Maybe));
        };
        let before = (fit != Fit::Yes).then(|| self.packet.clone());
        self.via.push(at);
        let out = self.chain(called, &called.rules, here);
        self.via.pop();
        if out != Fit::Yes {
            course.ended = true;
            course.here = if fit == Fit::Yes && out == Fit::No { Fit::No } else { Fit::Maybe };
        }
        if goto && out != Fit::No {
            course.leave(fit, &self.packet);
        }
        if let Some(before) = before {
            join(&mut self.packet, &before);
        }
    }

    /// The packet passes the base chain, in this shape.
    pub fn pass(&mut self, fit: Fit, packet: Packet) {
        match self.passes.iter_mut().find(|(_, known)| *known == packet) {
            Some((known, _)) => *known = fit.max(*known),
            None => self.passes.push((fit, packet)),
        }
    }

    fn push(&mut self, end: End, fit: Fit, at: RuleAt<'a>) {
        let because = self.conditions(at);
        self.endings.push(Ending {
            end,
            fit,
            base: self.base,
            rule: Some(at),
            via: self.via.clone(),
            because,
        });
    }

    fn unknown(&mut self, fit: Fit, at: Option<RuleAt<'a>>, why: String) {
        let fit = fit.min(Fit::Maybe);
        let because = at.map(|at| self.conditions(at)).into_iter().flatten().collect();
        let end = End::Unknown(why);
        self.endings.push(Ending { end, fit, base: self.base, rule: at, via: self.via.clone(), because });
    }

    /// Conditions of a rule and of the jumps to it on which the ending hangs.
    fn conditions(&self, at: RuleAt<'a>) -> Vec<Condition<'a>> {
        let view = self.view();
        let asked = self.via.iter().copied().chain([at]);
        let asked = asked.flat_map(|at| at.rule.matches.iter().map(move |asks| (at, asks)));
        asked
            .map(|(at, asks)| Condition { at, asks, fit: view.fits(asks) })
            .filter(|condition| condition.fit == Fit::Maybe || condition.asks.is_measured())
            .collect()
    }

    fn change(&mut self, change: Change, fit: Fit) {
        let old = |field: Field| self.packet.fields.get(&field).copied();
        let (field, new) = match change {
            Change::Notrack => return self.untrack(fit),
            Change::Blur(field) => (field, None),
            Change::Set { field, clear: u32::MAX, value } => (field, Some(value)),
            Change::Set { field, clear, value } => (field, old(field).map(|n| (n & !clear) ^ value)),
            Change::Copy { from, mask, to, clear } => {
                let kept = if clear == u32::MAX { Some(0) } else { old(to).map(|n| n & !clear) };
                (to, kept.zip(old(from)).map(|(kept, n)| kept ^ (n & mask)))
            }
        };
        let same = new.is_some() && new == old(field);
        match new {
            Some(number) if fit == Fit::Yes => drop(self.packet.fields.insert(field, number)),
            _ if same => {}
            _ => drop(self.packet.fields.remove(&field)),
        }
    }

    /// A packet that is tracked already stays so.
    fn untrack(&mut self, fit: Fit) {
        if !self.tracked {
            self.packet.state = Some(if fit == Fit::Yes { State::Untracked } else { State::Unclear });
        }
    }
}

/// True for a verdict map whose entries are not known: which of them drop cannot be told.
pub fn is_unread_map(verdict: &RuleVerdict) -> bool {
    matches!(verdict, RuleVerdict::Other(name) if name == "vmap")
}
