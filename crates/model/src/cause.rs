//! A cause that whydrop can name: its id and all that `explain`, the documents and the panels say about it.

use crate::text::{Phrase, Text};

/// A cause. One constant of this type stands in the one file of its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Id, a contract: `netfilter.drop_rule`.
    pub id: &'static str,
    /// One line.
    pub title: Text,
    /// What it means.
    pub meaning: Text,
    /// How whydrop sees it.
    pub seen_by: Text,
    /// Why packets are lost.
    pub why_lost: Text,
    /// What to do.
    pub what_to_do: Text,
    /// When this is wrong.
    pub when_wrong: Text,
}

impl Cause {
    /// First part of the id: link, qdisc, netfilter, tcp …
    pub fn layer(&self) -> &'static str {
        self.id.split('.').next().unwrap_or(self.id)
    }

    /// The fixed headings with their texts, in the order in which people read them.
    pub fn sections(&self) -> [(Text, Text); 5] {
        [
            (crate::text!("What it means", "含义"), self.meaning),
            (crate::text!("How whydrop sees it", "whydrop 如何判断"), self.seen_by),
            (crate::text!("Why packets are lost", "为何丢包"), self.why_lost),
            (crate::text!("What to do", "如何处理"), self.what_to_do),
            (crate::text!("When this is wrong", "何时判断会有误"), self.when_wrong),
        ]
    }

    /// Meaning and reason in one paragraph: the `explanation` of a finding.
    pub fn explanation(&self) -> Phrase {
        Phrase {
            en: format!("{} {}", self.meaning.en, self.why_lost.en),
            zh: format!("{}{}", self.meaning.zh, self.why_lost.zh),
        }
    }
}
