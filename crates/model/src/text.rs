//! Words for people, in English and Chinese, always at the same place.

use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// A language that whydrop speaks. Chinese means Simplified Chinese.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lang {
    /// English, pure ASCII as far as whydrop's own words go.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

impl Lang {
    /// The one that is not this.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::En => Self::Zh,
            Self::Zh => Self::En,
        }
    }
}

/// A constant text with `{name}` placeholders. Both languages hold the same placeholders; a test compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// English, ASCII.
    pub en: &'static str,
    /// Simplified Chinese; ids, commands, counters and the kernel's own words stay English.
    pub zh: &'static str,
}

impl Text {
    /// The text in one language, placeholders untouched.
    pub const fn get(&self, lang: Lang) -> &'static str {
        match lang {
            Lang::En => self.en,
            Lang::Zh => self.zh,
        }
    }

    /// Fills each `{name}` in both languages, and each `{name|packet was|packets were}` by whether the value is 1. A name without a placeholder, or the reverse, is a bug that
    /// [`Text::placeholders`] lets tests find; at run time an unknown placeholder is left visible.
    pub fn fill(&self, args: &[(&str, &dyn Display)]) -> Phrase {
        Phrase { en: fill(self.en, args), zh: fill(self.zh, args) }
    }

    /// As [`Text::fill`], with values that have words of their own in each language.
    pub fn with(&self, args: &[(&str, &Phrase)]) -> Phrase {
        let en: Vec<(&str, &dyn Display)> = args.iter().map(|(n, v)| (*n, &v.en as &dyn Display)).collect();
        let zh: Vec<(&str, &dyn Display)> = args.iter().map(|(n, v)| (*n, &v.zh as &dyn Display)).collect();
        Phrase { en: fill(self.en, &en), zh: fill(self.zh, &zh) }
    }

    /// The text without arguments as a [`Phrase`].
    pub fn phrase(&self) -> Phrase {
        self.fill(&[])
    }

    /// Names of the placeholders of one language, sorted, without duplicates.
    pub fn placeholders(&self, lang: Lang) -> Vec<&'static str> {
        let mut names: Vec<_> = self
            .get(lang)
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}'))
            .map(|(inside, _)| inside.split('|').next().unwrap_or(inside))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn fill(template: &str, args: &[(&str, &dyn Display)]) -> String {
    // One pass, so that a brace inside a value (a hostile name) is never taken for a placeholder.
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let after = &rest[open + 1..];
        let known = after.find('}').and_then(|close| {
            let mut inside = after[..close].split('|');
            let name = inside.next()?;
            let value = args.iter().find(|(n, _)| *n == name)?.1.to_string();
            let word = match (inside.next(), inside.next()) {
                (Some(one), Some(many)) => if value == "1" { one } else { many }.to_owned(),
                _ => value,
            };
            Some((word, close))
        });
        match known {
            Some((word, close)) => {
                out.push_str(&word);
                rest = &after[close + 1..];
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A finished sentence in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Phrase {
    /// English.
    pub en: String,
    /// Simplified Chinese.
    pub zh: String,
}

impl Phrase {
    /// The sentence in one language.
    pub fn get(&self, lang: Lang) -> &str {
        match lang {
            Lang::En => &self.en,
            Lang::Zh => &self.zh,
        }
    }

    /// A phrase that reads the same in both languages: a counter, a command, a rule.
    pub fn same(text: impl Into<String>) -> Self {
        let en = text.into();
        Self { zh: en.clone(), en }
    }
}

impl From<Text> for Phrase {
    fn from(text: Text) -> Self {
        text.phrase()
    }
}

/// A name, a path, a command: the same in both languages.
impl From<&str> for Phrase {
    fn from(name: &str) -> Self {
        Self::same(name)
    }
}

/// A name, a path, a command: the same in both languages.
impl From<String> for Phrase {
    fn from(name: String) -> Self {
        Self::same(name)
    }
}

/// A name, a path, a command: the same in both languages.
impl From<&String> for Phrase {
    fn from(name: &String) -> Self {
        Self::same(name.as_str())
    }
}

/// Shorthand for a [`Text`] constant: `text!("en", "zh")`.
#[macro_export]
macro_rules! text {
    ($en:expr, $zh:expr $(,)?) => {
        $crate::Text { en: $en, zh: $zh }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_both_languages_and_ignores_braces_in_values() {
        let text = text!("{n} on {dev}", "{dev} 上 {n} 个");
        let phrase = text.fill(&[("n", &3), ("dev", &"{n}")]);
        assert_eq!(phrase.en, "3 on {n}");
        assert_eq!(phrase.zh, "{n} 上 3 个");
        assert_eq!(text.placeholders(Lang::En), text.placeholders(Lang::Zh));
    }

    #[test]
    fn one_packet_is_no_packets() {
        let text = text!("{n} {n|packet was|packets were} lost", "丢失 {n} 个包");
        assert_eq!(text.fill(&[("n", &1)]).en, "1 packet was lost");
        assert_eq!(text.fill(&[("n", &"1,000")]).en, "1,000 packets were lost");
        assert_eq!(text.placeholders(Lang::En), text.placeholders(Lang::Zh));
    }

    #[test]
    fn fills_with_words_of_each_language() {
        let object = text!("the rules", "规则").phrase();
        let phrase = text!("read {object}", "读取{object}").with(&[("object", &object)]);
        assert_eq!((phrase.en.as_str(), phrase.zh.as_str()), ("read the rules", "读取规则"));
    }

    #[test]
    fn leaves_an_unknown_placeholder_visible() {
        assert_eq!(text!("a {b} {", "").phrase().en, "a {b} {");
    }
}
