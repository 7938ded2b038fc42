//! What a rule is, and what it says.

use crate::coverage::Source;
use crate::culprit::Culprit;
use crate::evidence::case::Space;
use whydrop_model::{Cause, Note, NoteStatus, Phrase, Text};

/// A rule: one cause, judged one namespace at a time.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The cause that it can name.
    pub cause: &'static Cause,
    /// What it has to see to say "not this".
    pub needs: &'static [Source],
    /// The judgement.
    pub judge: fn(Space<'_>) -> Judgement<'_>,
}

/// What a rule found in one namespace.
#[derive(Default)]
pub struct Judgement<'a> {
    /// What takes packets or may have taken them.
    pub culprits: Vec<Culprit<'a>>,
    /// Seen and judged innocent.
    pub notes: Vec<Note>,
}

impl<'a> From<Vec<Culprit<'a>>> for Judgement<'a> {
    fn from(culprits: Vec<Culprit<'a>>) -> Self {
        Self { culprits, ..Self::default() }
    }
}

impl<'a> From<Option<Culprit<'a>>> for Judgement<'a> {
    fn from(culprit: Option<Culprit<'a>>) -> Self {
        Self { culprits: culprit.into_iter().collect(), ..Self::default() }
    }
}

impl Judgement<'_> {
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

/// Fills placeholders with words that differ by language.
pub fn fill_words(text: Text, words: &[(&str, &Phrase)]) -> Phrase {
    let arguments = |pick: fn(&Phrase) -> &String| -> Vec<(&str, &dyn std::fmt::Display)> {
        words.iter().map(|(name, phrase)| (*name, pick(phrase) as &dyn std::fmt::Display)).collect()
    };
    Phrase { en: text.fill(&arguments(|p| &p.en)).en, zh: text.fill(&arguments(|p| &p.zh)).zh }
}
