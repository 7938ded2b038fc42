//! Errors for people: operation, object and reason on one line, then at most a few hints.

use crate::layout::Style;
use crate::layout::{Page, name};
use std::io::{self, Write};
use whydrop_model::{Lang, Phrase, Text, text};

/// What went wrong, and what helps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Operation and object: `cannot read the rules of docker:nginx`.
    pub what: Phrase,
    /// Our words, or the kernel's, which are English in both languages: `operation not permitted`.
    pub reason: Option<Phrase>,
    /// What is missing.
    pub needs: Option<Phrase>,
    /// A command that helps, complete.
    pub tries: Option<String>,
    /// Names that are close to one that is unknown.
    pub close: Vec<String>,
}

const NEEDS: Text = text!("  needs: ", "  需要：");
const TRY: Text = text!("  try:   ", "  可试：");
const CLOSE: Text = text!("  close: ", "  相近：");

impl Problem {
    /// A problem without hints.
    pub fn new(what: Phrase) -> Self {
        Self { what, ..Self::default() }
    }

    /// Writes `error: …` and the hints, each on its line.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, lang: Lang, out: &mut dyn Write) -> io::Result<()> {
        let mut page = Page::new(Style { width: 80, colour: false, plain: false, lang });
        let what = match &self.reason {
            Some(reason) => text!("{what}: {reason}", "{what}：{reason}")
                .fill(&[("what", &self.what.get(lang)), ("reason", &name(reason.get(lang)))]),
            None => self.what.clone(),
        };
        page.entry(text!("error: ", "错误：").get(lang), 0, what.get(lang));
        if let Some(needs) = &self.needs {
            page.entry(NEEDS.get(lang), 0, needs.get(lang));
        }
        if let Some(command) = &self.tries {
            page.command(TRY.get(lang), 0, command);
        }
        if !self.close.is_empty() {
            let close: Vec<String> = self.close.iter().map(|c| name(c)).collect();
            page.entry(CLOSE.get(lang), 0, &close.join(", "));
        }
        out.write_all(page.finish().as_bytes())
    }
}
