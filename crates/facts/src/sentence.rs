//! Lines of `netstat -s`, and the counters behind them.

use crate::{Counter, counter, counters_named, tables};

/// A sentence of net-tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Section of the output that it stands in: `Ip`, `TcpExt` …
    pub section: &'static str,
    /// With `{n}` for each number.
    pub text: &'static str,
    /// Ids of the counters; several where two lines of one section read the same.
    pub counters: &'static [&'static str],
    /// Names that today's kernels no longer have.
    pub gone: &'static [&'static str],
}

/// Sentences that read like this line, of any section; numbers, case and indent do not matter.
pub fn sentences(line: &str) -> Vec<&'static Sentence> {
    let line = shape(line);
    tables::SENTENCES.iter().filter(|s| shape(s.text) == line).collect()
}

/// All sentences, by section.
pub const fn all_sentences() -> &'static [Sentence] {
    tables::SENTENCES
}

/// Counters behind a line as `netstat -s` prints it: a sentence, or `TCPTimeouts: 7`. Several where the same sentence
/// stands in several sections; empty if the line is unknown.
pub fn sentence(line: &str) -> Vec<&'static Counter> {
    let mut found: Vec<&Counter> =
        sentences(line).iter().flat_map(|s| s.counters).filter_map(|c| counter(c)).collect();
    if found.is_empty()
        && let Some((name, value)) = line.trim().split_once(':')
        && value.trim().bytes().all(|b| b.is_ascii_digit())
    {
        found = counters_named(name.trim());
    }
    found
}

/// The line without its numbers: lower case words, every number (or placeholder) as `#`.
fn shape(line: &str) -> String {
    let word = |w: &str| {
        let bare = w.trim_end_matches([':', ',']);
        match bare == "{n}" || bare == "{s}" || (!bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit()))
        {
            true => "#".to_owned(),
            false => bare.to_ascii_lowercase(),
        }
    };
    let words: Vec<String> = line.split_whitespace().map(word).collect();
    // A sentence without its number is asked for as well: people leave it out.
    words.into_iter().filter(|w| w != "#").collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(line: &str) -> Vec<&'static str> {
        sentence(line).iter().map(|c| c.id).collect()
    }

    #[test]
    fn lines_of_the_source_case_are_known() {
        for (line, id) in [
            ("    11 failed connection attempts", "Tcp.AttemptFails"),
            ("    4 segments retransmitted", "Tcp.RetransSegs"),
            ("    11 resets received for embryonic SYN_RECV sockets", "TcpExt.EmbryonicRsts"),
            ("resets received for embryonic SYN_RECV sockets", "TcpExt.EmbryonicRsts"),
            ("    TCPTimeouts: 7", "TcpExt.TCPTimeouts"),
            ("    TCPSynRetrans: 4", "TcpExt.TCPSynRetrans"),
        ] {
            assert_eq!(ids(line), [id], "{line}");
        }
    }

    #[test]
    fn a_sentence_of_two_sections_gives_both() {
        assert_eq!(ids("0 incoming packets discarded"), ["Ip.InDiscards", "snmp6.Ip6InDiscards"]);
    }

    #[test]
    fn an_unknown_line_gives_nothing() {
        assert!(ids("12 pigeons").is_empty() && ids("Nonsense: 4").is_empty() && ids("").is_empty());
    }
}
