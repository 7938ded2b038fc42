//! `whydrop self-check`: what can be seen on this machine, what cannot, and what would change that.

use crate::layout::{name, pad, width};
use crate::text::Options;
use std::io::{self, Write};
use whydrop_model::{Phrase, Text, text};

/// How far something can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// All of it.
    Full,
    /// Part of it, or by a weaker way.
    Partial,
    /// Nothing.
    Blind,
    /// The kernel does not have it, so nothing is hidden by not seeing it.
    Absent,
}

impl Sight {
    /// The word for people.
    pub const fn text(self) -> Text {
        match self {
            Self::Full => text!("seen", "可见"),
            Self::Partial => text!("partly", "部分可见"),
            Self::Blind => text!("not seen", "不可见"),
            Self::Absent => text!("none here", "本机没有"),
        }
    }
}

/// One thing that whydrop looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfCheckItem {
    /// What: `kernel drops`, `nftables`.
    pub name: Phrase,
    /// How far it can be seen.
    pub sight: Sight,
    /// By which way, or why not.
    pub detail: Phrase,
    /// What would make it seen: `CAP_BPF`, a kernel option.
    pub needs: Option<String>,
}

/// Writes one sentence, then one line for each item with what it needs.
///
/// # Errors
/// Those of `out`.
pub fn self_check(items: &[SelfCheckItem], options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let lang = options.lang;
    let mut page = options.page();
    let hidden = items.iter().filter(|i| matches!(i.sight, Sight::Partial | Sight::Blind)).count();
    let head = match hidden {
        0 => text!(
            "whydrop sees everything that it looks for on this machine.",
            "whydrop 在本机能看到它要看的一切。"
        )
        .phrase(),
        n => text!(
            "whydrop does not see all of this machine: {n} of {of} things are hidden, wholly or in part.",
            "whydrop 看不到本机的全部：{of} 项中有 {n} 项全部或部分不可见。"
        )
        .fill(&[("n", &n), ("of", &items.len())]),
    };
    page.paragraph(0, head.get(lang));
    page.blank();
    let names = items.iter().map(|i| width(i.name.get(lang))).max().unwrap_or(0).min(28);
    let words = items.iter().map(|i| width(i.sight.text().get(lang))).max().unwrap_or(0);
    let column = 2 + names + 2 + words + 2;
    for item in items {
        let (what, word) = (name(item.name.get(lang)), item.sight.text().get(lang));
        if options.plain {
            page.entry(&what, 0, &format!("{word}. {}", item.detail.get(lang)));
        } else {
            page.entry(
                &format!("  {}  {}", pad(&what, names), pad(word, words)),
                column,
                item.detail.get(lang),
            );
        }
        if let Some(needs) = &item.needs {
            let needs = text!("needs {needs}", "需要 {needs}").fill(&[("needs", needs)]);
            page.paragraph(column, needs.get(lang));
        }
    }
    out.write_all(page.finish().as_bytes())
}
