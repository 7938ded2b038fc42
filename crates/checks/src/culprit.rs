//! What a rule gives back: something that takes packets or harms flows, and what to say of it once it is known how many.

use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::loss::Loss;
use whydrop_model::{Cause, Direction, Evidence, Fix, Phrase, Text, text};

/// What a culprit is about, the special before the general.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// A rule, filter or program.
    Rule,
    /// A socket or the process behind it.
    Socket,
    /// A neighbour.
    Neighbour,
    /// A route or policy rule.
    Route,
    /// An interface or its queue.
    Link,
    /// A netfilter hook: a policy.
    Hook,
    /// A namespace.
    Netns,
    /// The machine, or what lies beyond it.
    Machine,
}

/// How a culprit's own counter is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// It took exactly as many.
    Exact,
    /// It may have taken more, by ways that the counter does not see.
    AtLeast,
    /// Others are counted by it, too.
    AtMost,
}

/// The culprit's own counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its rise in the window, in packets.
    pub packets: u64,
    /// How to read it.
    pub count: Count,
    /// Its name: `rule counter`, `qdisc drops`.
    pub source: String,
}

/// Packets whose absence shows as a symptom: each as it would be met at one place.
pub type Missing<'a> = Vec<Loss<'a>>;

type Takes<'a> = Box<dyn Fn(&Loss<'a>) -> Fit + 'a>;
type Harms<'a> = Box<dyn Fn(&Flow<'a>) -> Fit + 'a>;
type Tell<'a> = Box<dyn Fn(&Share<'_, 'a>) -> Story + 'a>;

/// Something that may have taken packets or harmed flows.
pub struct Culprit<'a> {
    /// Its cause.
    pub cause: &'static Cause,
    /// Where it stands.
    pub space: Space<'a>,
    /// Stage of a packet's way (facts' `stages.toml`).
    pub stage: String,
    /// What it is about.
    pub scope: Scope,
    /// The thing to change, in the same words in both languages.
    pub subject: String,
    /// The interface that it is about.
    pub device: Option<u32>,
    /// Which way the packets went.
    pub direction: Option<Direction>,
    /// Its counter, if it has one.
    pub meter: Option<Meter>,
    /// Symptoms only: packets that something else took.
    pub misses: Missing<'a>,
    /// No set of witnesses makes it surer than this.
    pub at_most: f64,
    /// What a note says if it took only packets that nobody in view misses; none if it can have no duty.
    pub duty: Option<Text>,
    /// True if what it takes of nobody's flow was never meant to arrive.
    pub innocent: bool,
    /// True if it is a fault of a namespace that was asked about even if nothing met it in the window.
    pub by_itself: bool,
    /// True if who misses what it takes was asked about, wherever it stands itself.
    pub concerns: bool,
    /// True if it is there on purpose and a fault only where somebody in view misses what it took.
    pub needs_harm: bool,
    /// True if what it misses was taken on purpose to bring it about: it is then the name of what its roots do.
    pub names_roots: bool,
    /// True if it may take packets in other namespaces than its own, such as at the other end of its link.
    pub reaches: bool,
    takes: Takes<'a>,
    harms: Harms<'a>,
    tell: Tell<'a>,
}

/// What an assignment gave to a culprit.
#[derive(Clone, Debug)]
pub struct Share<'s, 'a> {
    /// Packets that are charged to it; none if they cannot be counted.
    pub packets: Option<u64>,
    /// Losses that it took, with how many packets of each.
    pub losses: Vec<(&'s Loss<'a>, u64)>,
    /// Flows in trouble that it harms, or whose packets it took.
    pub flows: Vec<&'s Flow<'a>>,
}

impl<'s, 'a> Share<'s, 'a> {
    /// Drop events among what it took.
    pub fn events(&self) -> u64 {
        self.losses.iter().filter(|(loss, _)| loss.count.is_some()).map(|(_, n)| n).sum()
    }

    /// Sampled packets that it took.
    pub fn sampled(&self) -> impl Iterator<Item = &'a whydrop_model::DropEvent> {
        self.losses.iter().filter_map(|(loss, _)| loss.event)
    }

    /// The kind of loss of which it took most.
    pub fn most(&self) -> Option<&'s Loss<'a>> {
        self.losses.iter().max_by_key(|(_, n)| *n).map(|(loss, _)| *loss)
    }
}

/// What there is to say of a culprit that did harm.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// One sentence.
    pub summary: Phrase,
    /// What acts, verbatim.
    pub exhibit: Option<String>,
    /// Handle by which the kernel knows the rule that acts.
    pub handle: Option<u64>,
    /// Witnesses beside the drop events, the flows and the probes, which are added for every culprit.
    pub evidence: Vec<Evidence>,
    /// What ends it, the smallest change first.
    pub fixes: Vec<Fix>,
}

const DUTY: Text = text!(
    "took {n} {n|packet|packets} that nobody in view misses",
    "处理掉了 {n} 个在可见范围内无人需要的包"
);
const COUNTER_ROSE: Text = text!("{name} rose by {n}", "{name} 计数 +{n}");

impl<'a> Culprit<'a> {
    /// One that takes nothing and harms nobody yet.
    pub fn new(space: Space<'a>, cause: &'static Cause, stage: &str, scope: Scope, subject: String) -> Self {
        Self {
            cause,
            space,
            stage: stage.to_owned(),
            scope,
            subject,
            device: None,
            direction: None,
            meter: None,
            misses: vec![],
            at_most: 1.0,
            duty: Some(DUTY),
            innocent: false,
            by_itself: false,
            concerns: false,
            needs_harm: false,
            names_roots: false,
            reaches: false,
            takes: Box::new(|_| Fit::No),
            harms: Box::new(|_| Fit::No),
            tell: Box::new(move |_| Story { summary: cause.title.phrase(), ..Story::default() }),
        }
    }

    /// One that takes what died in its namespace at a place that admits this cause only.
    pub fn at_place(
        space: Space<'a>,
        cause: &'static Cause,
        stage: &str,
        scope: Scope,
        subject: String,
    ) -> Self {
        let id = cause.id;
        Self::new(space, cause, stage, scope, subject)
            .takes(move |loss| sure(loss.is_in(space) && loss.is_of(id)))
    }

    /// Sets the interface.
    pub fn on(mut self, link: u32) -> Self {
        self.device = Some(link);
        self
    }

    /// Sets the direction.
    pub fn direction(mut self, direction: impl Into<Option<Direction>>) -> Self {
        self.direction = direction.into();
        self
    }

    /// Packets that its own counter counted in the window.
    pub fn meter(mut self, packets: u64, count: Count, source: &str) -> Self {
        self.meter = Some(Meter { packets, count, source: source.to_owned() });
        self
    }

    /// The one predicate: does it take this packet, which died at a known place or is imagined at one?
    pub fn takes(mut self, takes: impl Fn(&Loss<'a>) -> Fit + 'a) -> Self {
        self.takes = Box::new(takes);
        self
    }

    /// Can it have done to this flow what ails it? Packets of a flow that nobody saw die are charged by this.
    pub fn harms(mut self, harms: impl Fn(&Flow<'a>) -> Fit + 'a) -> Self {
        self.harms = Box::new(harms);
        self
    }

    /// Harms all flows that pass its interface.
    pub fn harms_via(self, link: u32) -> Self {
        let space = self.space;
        self.harms(move |flow| sure(flow.passes(space, link)))
    }

    /// It is a symptom that shows where these packets do not come.
    pub fn misses(mut self, missing: Missing<'a>) -> Self {
        self.misses.extend(missing);
        self
    }

    /// Limits the confidence.
    pub fn at_most(mut self, confidence: f64) -> Self {
        self.at_most = confidence;
        self
    }

    /// Says what a note says if only strangers' packets were taken; `{n}` is their number.
    pub fn duty(mut self, text: Text) -> Self {
        self.duty = Some(text);
        self
    }

    /// Says that it protects nobody, whoever sent what it takes.
    pub fn has_no_duty(mut self, none: bool) -> Self {
        self.duty = self.duty.filter(|_| !none);
        self
    }

    /// Says that what it takes of nobody's flow was never meant to arrive: forged packets, a traceroute's.
    pub fn innocent(mut self) -> Self {
        self.innocent = true;
        self
    }

    /// Makes it a fault by itself: the namespace is cut off, whether or not somebody tries.
    pub fn by_itself(mut self, yes: bool) -> Self {
        self.by_itself = yes;
        self
    }

    /// Says that who misses what it takes was asked about.
    pub fn concerns(mut self, target: bool) -> Self {
        self.concerns = target;
        self
    }

    /// Makes its counter alone no fault: it is there on purpose.
    pub fn needs_harm(mut self) -> Self {
        self.needs_harm = true;
        self
    }

    /// Folds its roots under itself: people know the trouble by this name, and the roots are how it comes about.
    pub fn names_roots(mut self) -> Self {
        self.names_roots = true;
        self
    }

    /// Lets it take packets in other namespaces, too.
    pub fn reaches(mut self) -> Self {
        self.reaches = true;
        self
    }

    /// What to say of it.
    pub fn tell(mut self, tell: impl Fn(&Share<'_, 'a>) -> Story + 'a) -> Self {
        self.tell = Box::new(tell);
        self
    }

    /// How it fits a loss at a known place.
    pub fn fit(&self, loss: &Loss<'a>) -> Fit {
        (self.takes)(loss)
    }

    /// How it fits what ails a flow.
    pub fn fit_of_flow(&self, flow: &Flow<'a>) -> Fit {
        (self.harms)(flow)
    }

    /// Its story.
    pub fn story(&self, share: &Share<'_, 'a>) -> Story {
        (self.tell)(share)
    }

    /// True if its counter certainly saw nothing.
    pub fn stood_still(&self) -> bool {
        self.meter.as_ref().is_some_and(|meter| meter.packets == 0 && meter.count == Count::Exact)
    }
}

/// Yes or no.
pub fn sure(yes: bool) -> Fit {
    if yes { Fit::Yes } else { Fit::No }
}

impl Story {
    /// One that begins with this sentence.
    pub fn new(summary: Phrase) -> Self {
        Self { summary, ..Self::default() }
    }

    /// Shows what acts, verbatim.
    pub fn exhibit(mut self, text: String) -> Self {
        self.exhibit = Some(text);
        self
    }

    /// Names the rule that acts by its handle.
    pub fn handle(mut self, handle: Option<u64>) -> Self {
        self.handle = handle;
        self
    }

    /// A witness that speaks for it. `source` names the interface; two witnesses of one source count as one.
    pub fn evidence(mut self, claim: Phrase, source: &str, reproduce: &[&str]) -> Self {
        self.evidence.push(Evidence {
            claim,
            source: source.to_owned(),
            reproduce: reproduce.iter().map(|s| (*s).to_owned()).collect(),
            target: None,
            supports: true,
        });
        self
    }

    /// The same, of a witness that is in another namespace.
    pub fn evidence_in(self, there: Space<'_>, claim: Phrase, source: &str, reproduce: &[&str]) -> Self {
        let mut story = self.evidence(claim, source, reproduce);
        story.evidence.iter_mut().last().expect("it was just added").target = Some(there.target().id.clone());
        story
    }

    /// A counter of snmp or netstat that rose, as a witness; one that stood still is none.
    pub fn counter(self, name: &str, rise: u64) -> Self {
        if rise == 0 {
            return self;
        }
        let claim = COUNTER_ROSE.fill(&[("name", &name), ("n", &rise)]);
        let nstat = name.replace('.', "");
        self.evidence(claim, "/proc/net/netstat", &["nstat", "-asz", &nstat])
    }

    /// Adds a fix; the first one is the smallest.
    pub fn fix(mut self, fix: Fix) -> Self {
        self.fixes.push(fix);
        self
    }
}
