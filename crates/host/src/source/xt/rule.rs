//! A rule put together from header, matches and target, printed as `iptables -S` prints it.

use super::{Header, Target, XtMatch};
use whydrop_model::netfilter::{Match, Rule};
use whydrop_model::shell::sanitize;

/// Longest text of one rule: a command line has room for more, a terminal does not.
const TEXT_MAX: usize = 4096;

/// A rule of any back end of iptables.
#[derive(Debug, Default)]
pub(crate) struct XtRule {
    pub header: Header,
    /// Decoded matches; the name where a match was not decoded.
    pub matches: Vec<Result<XtMatch, String>>,
    pub target: Target,
}

impl XtRule {
    /// The rule in the model's shape.
    pub fn render(
        self,
        position: u32,
        handle: Option<u64>,
        packets: Option<u64>,
        bytes: Option<u64>,
    ) -> Rule {
        let (mut words, mut matches, mut comment) = (vec![], vec![], None);
        for (text, condition) in self.header.render() {
            words.push(text);
            matches.push(condition);
        }
        for found in self.matches {
            match found {
                Ok(found) => {
                    words.push(format!("-m {}", found.name));
                    words.extend(Some(found.options).filter(|text| !text.is_empty()));
                    matches.extend(found.matches);
                    comment = found.comment.or(comment);
                }
                Err(name) => {
                    let name = format!("?{}", sanitize(&name, super::NAME_LEN));
                    words.push(format!("-m {name}"));
                    matches.push(Match::Other(name));
                }
            }
        }
        matches.extend(self.target.change.map(Match::Change));
        words.extend(Some(self.target.text).filter(|text| !text.is_empty()));
        let whole = words.join(" ");
        let text = sanitize(&whole, TEXT_MAX);
        if text != whole {
            matches.push(Match::Other("?text".to_owned()));
        }
        let verdict = self.target.verdict;
        Rule { position, handle, packets, bytes, verdict, matches, comment, text }
    }
}

/// A word of iptables: bare if it is plain, else in double quotes with `\` before quotes and backslashes.
pub(crate) fn quoted(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return text.to_owned();
    }
    let mut out = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '\'') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}
