//! Which commands may be shown to people, who paste them: names and rules from outside must stay words.
//!
//! A shell is no danger, since each word is quoted. Some programs read their words again: nft joins them and parses the
//! line, iptables and sysctl know words that do something else.

use crate::text;
use crate::text::{Phrase, Text};

const NOT_A_NAME: Text = text!(
    "no command is shown: nft would not read {word} as a name",
    "不显示命令：nft 不会把 {word} 当作名称"
);
const NOT_A_RULE: Text = text!(
    "no command is shown: nft would not read this as one rule: {word}",
    "不显示命令：nft 不会把这段文本当作一条规则：{word}"
);
const AN_OPTION: Text = text!(
    "no command is shown: {tool} would read {word} as an option",
    "不显示命令：{tool} 会把 {word} 当作选项"
);
const NOT_A_SETTING: Text = text!(
    "no command is shown: sysctl would not read {word} as one setting",
    "不显示命令：sysctl 不会把 {word} 当作一个设置"
);

/// Longest word that a reason repeats.
const SHOWN: usize = 60;
/// Options of iptables' rules that are one letter; the others are commands, or change the table.
const RULE_OPTIONS: [&str; 11] = ["-p", "-s", "-d", "-i", "-o", "-m", "-j", "-g", "-f", "-4", "-6"];
/// Long options of iptables that are no condition: `--modprobe` names a program that it runs.
const HARMFUL_OPTIONS: [&str; 2] = ["--modp", "--tab"];

/// Checks that a command does nothing but what it seems to do.
///
/// # Errors
/// The reason why it is not shown.
pub fn check<S: AsRef<str>>(argv: &[S]) -> Result<(), Phrase> {
    let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
    match words.split_first() {
        Some((&"nft", rest)) => nft(rest),
        Some((tool, rest)) if tool.starts_with("iptables") || tool.starts_with("ip6tables") => {
            iptables(tool, rest)
        }
        Some((&"sysctl", rest)) => rest.iter().try_for_each(|word| sysctl(word, rest.contains(&"-w"))),
        _ => Ok(()),
    }
}

fn refuse(reason: Text, tool: &str, word: &str) -> Phrase {
    reason.fill(&[("tool", &tool), ("word", &crate::shell::sanitize(word, SHOWN))])
}

/// `[-a] [-e] VERB rule|chain FAMILY TABLE CHAIN [handle N] [RULE]`, or `chain FAMILY TABLE CHAIN { … }`.
fn nft(words: &[&str]) -> Result<(), Phrase> {
    let mut words = words.iter().skip_while(|word| matches!(**word, "-a" | "-e")).copied().peekable();
    let verb = |word: &&str| matches!(*word, "add" | "insert" | "delete" | "list");
    words.next_if(verb);
    let object = words.next().unwrap_or_default();
    let named = matches!(object, "rule" | "chain");
    let family =
        words.next().filter(|word| matches!(*word, "ip" | "ip6" | "inet" | "arp" | "bridge" | "netdev"));
    if !named || family.is_none() {
        return Err(refuse(NOT_A_RULE, "nft", object));
    }
    for _ in ["table", "chain"] {
        let name = words.next().unwrap_or_default();
        if !is_nft_name(name) {
            return Err(refuse(NOT_A_NAME, "nft", name));
        }
    }
    if words.next_if(|word| matches!(*word, "handle" | "index")).is_some() {
        let number = words.next().unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse(NOT_A_RULE, "nft", number));
        }
    }
    let is_text = if object == "chain" { is_chain_block } else { is_rule };
    words.try_for_each(|word| if is_text(word) { Ok(()) } else { Err(refuse(NOT_A_RULE, "nft", word)) })
}

/// `string` of nft's scanner.l.
fn is_nft_name(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || "_.".contains(c))
        && chars.all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c))
}

/// A chain's hook and policy as whydrop writes them.
fn is_chain_block(word: &str) -> bool {
    let inner = word.strip_prefix("{ ").and_then(|word| word.strip_suffix(" ; }"));
    let mut parts = inner.into_iter().flat_map(|inner| inner.split(" ; ")).peekable();
    parts.peek().is_some()
        && parts.all(|part| {
            let known =
                matches!(part, "policy accept" | "policy drop") || part.starts_with("type filter hook ");
            known && part.chars().all(|c| c.is_ascii_alphanumeric() || " -".contains(c))
        })
}

/// One rule: nothing that ends a command or begins a comment outside quotes, and quotes that nft closes where we do
/// (it knows no escape in them).
fn is_rule(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _./:,-!=<>{}@&|^+*%()[]~".contains(c);
    let quoted = |c: char| c != '\\' && !crate::shell::is_hostile(c);
    let parts = word.split('"');
    let closed = word.matches('"').count().is_multiple_of(2);
    closed
        && parts
            .enumerate()
            .all(|(i, part)| if i % 2 == 0 { part.chars().all(plain) } else { part.chars().all(quoted) })
}

/// `[-t TABLE] -nvL|-D|-I|-A|-P|-X CHAIN …`.
fn iptables(tool: &str, words: &[&str]) -> Result<(), Phrase> {
    let mut words = words.iter().copied().peekable();
    let is_name = |word: &&str| {
        !word.is_empty() && !word.starts_with(['-', '!']) && !word.contains(char::is_whitespace)
    };
    let table = words.next_if_eq(&"-t").map(|_| words.next().unwrap_or_default());
    let _command = words.next();
    let chain = words.next().unwrap_or_default();
    if let Some(bad) = table.into_iter().chain([chain]).find(|name| !is_name(name)) {
        return Err(refuse(AN_OPTION, tool, bad));
    }
    let harmful = |word: &&str| match word.strip_prefix("--") {
        Some(_) => HARMFUL_OPTIONS.iter().any(|option| word.starts_with(option)),
        None => word.starts_with('-') && !RULE_OPTIONS.contains(word),
    };
    words.find(harmful).map_or(Ok(()), |word| Err(refuse(AN_OPTION, tool, word)))
}

/// `NAME`, or after `-w` `NAME=VALUE`.
fn sysctl(word: &str, writes: bool) -> Result<(), Phrase> {
    if word == "-w" {
        return Ok(());
    }
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@+-".contains(c);
    let good = (word.contains('=') == writes)
        && !name.starts_with('-')
        && name.chars().all(plain)
        && value.chars().all(|c| c.is_ascii_alphanumeric() || " \t-".contains(c));
    if good { Ok(()) } else { Err(refuse(NOT_A_SETTING, "sysctl", word)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(argv: &[&str]) -> bool {
        check(argv).is_ok()
    }

    #[test]
    fn a_name_that_nft_would_parse_is_not_shown() {
        let evil = "filter INPUT ; chain ip filter INPUT { policy accept ; } ; #";
        assert!(shown(&["nft", "-a", "list", "chain", "ip", "filter", "INPUT"]));
        assert!(!shown(&["nft", "-a", "list", "chain", "ip", evil, "INPUT"]));
        assert!(!shown(&["nft", "chain", "ip", "filter", evil, "{ policy accept ; }"]));
        assert!(shown(&["nft", "chain", "ip", "filter", "INPUT", "{ policy accept ; }"]));
        assert!(!shown(&["nft", "chain", "ip", "filter", "INPUT", "{ policy accept ; } ; add table ip x"]));
        let reason = check(&["nft", "delete", "rule", "ip", evil, "INPUT", "handle", "4"]).unwrap_err();
        assert!(reason.en.contains("filter INPUT ;"), "{}", reason.en);
        for odd in ["", "7up", "a b", "a\"b", "-a", "x;", "café", "a\u{1b}"] {
            assert!(!shown(&["nft", "delete", "rule", "ip", odd, "INPUT", "handle", "4"]), "{odd}");
        }
    }

    #[test]
    fn a_rule_that_nft_would_read_as_two_is_not_shown() {
        let add = |text: &str| shown(&["nft", "add", "rule", "inet", "fw", "in", "index", "3", text]);
        assert!(add("tcp dport { 80, 443 } ip saddr @bad counter drop comment \"it's; fine #1\""));
        assert!(!add("counter drop comment \"a\" ; add table ip X ; #\""));
        assert!(!add("counter drop comment \"a\\\" ; add table ip X\""));
        assert!(!add("drop\nadd table ip X"));
        assert!(!add("drop # x") && !add("ip saddr $x drop") && !add("drop comment \"open"));
        assert!(!shown(&["nft", "insert", "rule", "inet", "fw", "in", "handle", "4 drop"]));
    }

    #[test]
    fn words_of_iptables_stay_words() {
        let insert = |words: &[&str]| shown(&[&["iptables-nft", "-I", "INPUT", "1"], words].concat());
        assert!(insert(&["!", "-i", "lo", "-p", "tcp", "-m", "statistic", "--mode", "random", "-j", "DROP"]));
        assert!(!insert(&["-p", "tcp", "--modprobe=/tmp/x", "-j", "DROP"]));
        assert!(!insert(&["-M", "/tmp/x"]) && !insert(&["-fM", "/tmp/x"]) && !insert(&["-t", "nat"]));
        assert!(!shown(&["iptables-nft", "-nvL", "-F"]));
        assert!(!shown(&["iptables-legacy", "-t", "--flush", "-nvL", "INPUT"]));
    }

    #[test]
    fn a_setting_is_read_and_written_as_one() {
        assert!(shown(&["sysctl", "net.ipv4.conf.eth0.rp_filter"]));
        assert!(shown(&["sysctl", "-w", "net.ipv4.tcp_mem=1 2 3"]));
        assert!(!shown(&["sysctl", "net.ipv4.conf.all.rp_filter=0 #.rp_filter"]));
        assert!(!shown(&["sysctl", "-w", "net.ipv4.conf.all.rp_filter=0 #.rp_filter=2"]));
    }
}
