//! What a rule is, and what it says.

use crate::case::Space;
use crate::coverage::Source;
use whydrop_model::action::Action;
use whydrop_model::finding::Step;
use whydrop_model::{
    Applicability, Cause, Direction, Evidence, Finding, Fix, Note, NoteStatus, Phrase, Severity, Text,
};

/// A rule: one cause, judged one namespace at a time.
#[derive(Clone, Copy)]
pub struct Rule {
    /// The cause that it can name.
    pub cause: &'static Cause,
    /// What it has to see to say "not this".
    pub needs: &'static [Source],
    /// Causes of which this one is a mere consequence when both are found on one way.
    pub consequence_of: &'static [&'static str],
    /// The judgement.
    pub judge: fn(Space<'_>) -> Judgement,
}

/// What a rule found in one namespace.
#[derive(Default)]
pub struct Judgement {
    /// Causes that cost packets now.
    pub suspects: Vec<Suspect>,
    /// Seen and judged innocent.
    pub notes: Vec<Note>,
    /// Packets that were dropped as they should be.
    pub excused: Vec<Excused>,
}

/// Packets of which a note says that dropping them was right: no loss, although the kernel reports the drops.
#[derive(Clone, Debug)]
pub struct Excused {
    /// Target id.
    pub target: String,
    /// Stage.
    pub stage: String,
    /// How many.
    pub packets: u64,
}

impl From<Vec<Suspect>> for Judgement {
    fn from(suspects: Vec<Suspect>) -> Self {
        Self { suspects, ..Self::default() }
    }
}

impl Judgement {
    /// Says that packets were dropped there as they should be.
    pub fn excuse(&mut self, space: Space<'_>, stage: &str, packets: u64) {
        let (target, stage) = (space.target().id.clone(), stage.to_owned());
        self.excused.push(Excused { target, stage, packets });
    }

    /// Adds a note.
    pub fn note(&mut self, space: Space<'_>, cause: &Cause, status: NoteStatus, subject: &str, text: Phrase) {
        self.notes.push(Note {
            cause: Some(cause.id.to_owned()),
            target: space.target().id.clone(),
            subject: subject.to_owned(),
            status,
            text,
        });
    }
}

/// A finding before correlation, with what correlation needs to know of it.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// The finding; its severity and confidence are settled later.
    pub finding: Finding,
    /// Index of the interface that it is about; none if it is about the whole namespace.
    pub device: Option<u32>,
    /// Numbers of the probes that it can harm.
    pub touches: Vec<usize>,
    /// How many of its packets drop events bear out that no other suspect accounts for.
    pub witnessed: u64,
    /// No set of witnesses makes it surer than this.
    pub at_most: f64,
    /// Causes of which this very suspect is a consequence, beyond those of its rule.
    pub follows: Vec<&'static str>,
    /// The cause that it brings about and is named by, if that is a suspect, too: undoing this one is then the fix.
    pub acts_as: Option<&'static str>,
    /// True if its own counter shows only a part of what it costs: a consequence without counter is folded under it.
    pub loses_more: bool,
    /// Packets that died of its consequences, at places of their own.
    pub besides: Vec<Besides>,
    /// True if it cost packets of other traffic than the probes, too: it then counts without a troubled probe.
    pub counted_alone: bool,
}

/// Packets that a folded consequence counted.
#[derive(Clone, Debug)]
pub struct Besides {
    /// Target id.
    pub target: String,
    /// Stage.
    pub stage: String,
    /// How many.
    pub packets: u64,
    /// What counted them.
    pub source: String,
}

impl Suspect {
    /// A suspect without witnesses.
    pub fn new(
        space: Space<'_>,
        cause: &'static Cause,
        stage: &str,
        subject: String,
        summary: Phrase,
    ) -> Self {
        let finding = Finding {
            cause: cause.id.to_owned(),
            target: space.target().id.clone(),
            stage: stage.to_owned(),
            direction: None,
            subject,
            severity: Severity::Warning,
            confidence: 0.0,
            packets_lost: None,
            counted_by: None,
            summary,
            explanation: cause.explanation(),
            exhibit: None,
            evidence: vec![],
            explains: vec![],
            fixes: vec![],
        };
        Self {
            finding,
            device: None,
            touches: vec![],
            witnessed: 0,
            at_most: 1.0,
            follows: vec![],
            acts_as: None,
            loses_more: false,
            besides: vec![],
            counted_alone: true,
        }
    }

    /// Packets that it and its consequences counted; lost probes are among them.
    pub fn counted(&self) -> u64 {
        let besides: u64 = self.besides.iter().map(|besides| besides.packets).sum();
        self.finding.packets_lost.unwrap_or(0) + besides
    }

    /// Sets the interface.
    pub fn on(mut self, link: u32) -> Self {
        self.device = Some(link);
        self
    }

    /// Sets the direction.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.finding.direction = Some(direction);
        self
    }

    /// Packets lost in the window, and the counter that said so.
    pub fn packets(mut self, packets: u64, counted_by: &str) -> Self {
        self.finding.packets_lost = Some(packets);
        self.finding.counted_by = Some(counted_by.to_owned());
        self
    }

    /// What acts, verbatim.
    pub fn exhibit(mut self, text: String) -> Self {
        self.finding.exhibit = Some(text);
        self
    }

    /// A witness that speaks for it. `source` names the interface; two witnesses of one source count as one.
    pub fn evidence(mut self, claim: Phrase, source: &str, reproduce: &[&str]) -> Self {
        self.finding.evidence.push(Evidence {
            claim,
            source: source.to_owned(),
            reproduce: reproduce.iter().map(|s| (*s).to_owned()).collect(),
            supports: true,
        });
        self
    }

    /// A counter of snmp or netstat that rose, as a witness.
    pub fn counter(self, name: &str, rise: u64) -> Self {
        let claim = COUNTER_ROSE.fill(&[("name", &name), ("n", &rise)]);
        let nstat = name.replace('.', "");
        self.evidence(claim, "/proc/net/netstat", &["nstat", "-asz", &nstat])
    }

    /// Drop events of the kernel as a witness; none are no witness.
    pub fn drop_events(self, events: u64, reason: &str) -> Self {
        match events {
            0 => self,
            n => self.evidence(EVENTS.fill(&[("n", &n), ("reason", &reason)]), "drop events", &[]),
        }
    }

    /// Adds a fix; the first one is the smallest.
    pub fn fix(mut self, fix: Fix) -> Self {
        self.finding.fixes.push(fix);
        self
    }

    /// Names the probes that it can harm.
    pub fn touches(mut self, probes: Vec<usize>) -> Self {
        self.touches = probes;
        self
    }

    /// Limits the confidence.
    pub fn at_most(mut self, confidence: f64) -> Self {
        self.at_most = confidence;
        self
    }

    /// Names further causes under which it is folded.
    pub fn follows(mut self, causes: &[&'static str]) -> Self {
        self.follows.extend(causes);
        self
    }

    /// Names the cause that it brings about.
    pub fn acts_as(mut self, cause: &'static str) -> Self {
        self.acts_as = Some(cause);
        self
    }

    /// True if this very suspect, not only its rule, goes under this cause.
    pub fn is_tied_to(&self, cause: &str) -> bool {
        self.acts_as == Some(cause) || self.follows.contains(&cause)
    }

    /// It is a cause only if a probe was lost on its way.
    pub fn needs_probe(mut self) -> Self {
        self.counted_alone = false;
        self
    }
}

const COUNTER_ROSE: Text = whydrop_model::text!("{name} rose by {n}", "{name} 计数 +{n}");
const EVENTS: Text = whydrop_model::text!(
    "the kernel reported {n} drops with reason {reason}",
    "内核报告了 {n} 次丢弃，原因 {reason}"
);

/// Fills placeholders with words that differ by language.
pub fn fill_words(text: Text, words: &[(&str, &Phrase)]) -> Phrase {
    let arguments = |pick: fn(&Phrase) -> &String| -> Vec<(&str, &dyn std::fmt::Display)> {
        words.iter().map(|(name, phrase)| (*name, pick(phrase) as &dyn std::fmt::Display)).collect()
    };
    Phrase { en: text.fill(&arguments(|p| &p.en)).en, zh: text.fill(&arguments(|p| &p.zh)).zh }
}

/// A fix made of changes in one namespace.
pub fn fix(space: Space<'_>, title: Phrase, applicability: Applicability, actions: Vec<Action>) -> Fix {
    let target = &space.target().id;
    let steps = actions.into_iter().map(|action| Step { target: target.clone(), action }).collect();
    Fix { title, applicability, steps, persist: None, caution: None }
}

/// A fix that only a person can make.
pub fn manual(title: Text) -> Fix {
    Fix {
        title: title.phrase(),
        applicability: Applicability::Manual,
        steps: vec![],
        persist: None,
        caution: None,
    }
}
