//! `explain`: every name of the catalogue, in both languages.

use std::io::Write;
use whydrop_facts as facts;
use whydrop_model::{Cause, Lang, text};
use whydrop_report::explain::{Subject, find, nearest, write_explain, write_list};
use whydrop_report::text::Options;

const CAUSE: Cause = Cause {
    id: "netfilter.drop_rule",
    title: text!("A firewall rule drops packets", "防火墙规则丢弃数据包"),
    meaning: text!("A rule drops.", "规则丢弃。"),
    seen_by: text!("Its counter rose.", "计数增加。"),
    why_lost: text!("It was forgotten.", "被遗忘了。"),
    what_to_do: text!("Delete it.", "删除它。"),
    when_wrong: text!("When it is wanted.", "有意为之时。"),
};

fn render(subject: &Subject<'_>, lang: Lang, now: Option<u64>) -> String {
    let mut out = Vec::new();
    write_explain(subject, now, &Options { lang, ..Options::default() }, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn id(name: &str) -> String {
    match find(name, &[&CAUSE]) {
        Ok(Subject::Cause(c)) => c.id.into(),
        Ok(Subject::Unjudged(c)) => c.id.into(),
        Ok(Subject::Counters(c)) => c[0].id.into(),
        Ok(Subject::Sentences(s)) => s[0].counters.join(","),
        Ok(Subject::Reason(r)) => r.id.into(),
        Ok(Subject::Stage(s)) => s.id.into(),
        Ok(Subject::States(s)) => s[0].id.into(),
        Ok(Subject::Pitfall(p)) => p.id.into(),
        Err(near) => format!("? {}", near.join(" ")),
    }
}

#[test]
fn names_are_found_as_people_type_them() {
    for (name, expected) in [
        ("netfilter.drop_rule", "netfilter.drop_rule"),
        ("route.loop", "route.loop"),
        ("TcpExt.TCPTimeouts", "TcpExt.TCPTimeouts"),
        ("TCPTimeouts", "TcpExt.TCPTimeouts"),
        ("TcpExtTCPTimeouts", "TcpExt.TCPTimeouts"),
        ("    TCPTimeouts: 7", "TcpExt.TCPTimeouts"),
        ("rx_missed_errors", "rtnl_link_stats64.rx_missed_errors"),
        ("11 resets received for embryonic SYN_RECV sockets", "TcpExt.EmbryonicRsts"),
        ("resets received for embryonic SYN_RECV sockets", "TcpExt.EmbryonicRsts"),
        ("NETFILTER_DROP", "NETFILTER_DROP"),
        ("netfilter_drop", "NETFILTER_DROP"),
        ("SKB_DROP_REASON_NO_SOCKET", "NO_SOCKET"),
        ("netfilter.input", "rx.nf_input"),
        ("net.ipv4.conf.all.rp_filter", "ip.rp_filter"),
        ("net.core.somaxconn=128", "tcp.somaxconn"),
        ("double.listendrops", "double.listendrops"),
    ] {
        assert_eq!(id(name), expected, "{name}");
    }
}

#[test]
fn an_unknown_name_gives_the_nearest_three() {
    assert_eq!(
        nearest("netfilter.drop_rul", &[&CAUSE]).first().map(String::as_str),
        Some("netfilter.drop_rule")
    );
    assert_eq!(nearest("ListenOverflow", &[]).first().map(String::as_str), Some("TcpExt.ListenOverflows"));
    assert_eq!(nearest("NETFILTR_DROP", &[]).first().map(String::as_str), Some("NETFILTER_DROP"));
    let near = find("x\x1b[31m", &[]).unwrap_err();
    assert_eq!(near.len(), 3);
}

/// Everything that can be explained.
fn subjects() -> Vec<Subject<'static>> {
    let mut all = vec![Subject::Cause(&CAUSE), Subject::Unjudged(&facts::causes()[0])];
    all.extend(facts::counters().iter().map(|c| Subject::Counters(vec![c])));
    all.extend(facts::reasons().iter().map(Subject::Reason));
    all.extend(facts::stages().iter().map(Subject::Stage));
    all.extend(facts::states().iter().map(|s| Subject::States(vec![s])));
    all.extend(facts::pitfalls().iter().map(Subject::Pitfall));
    all.push(Subject::Sentences(facts::sentences("0 incoming packets discarded")));
    all.push(Subject::Counters(facts::counters_named("rx_dropped")));
    all
}

#[test]
fn every_explanation_is_short_and_says_whether_it_means_loss() {
    for subject in subjects() {
        for lang in [Lang::En, Lang::Zh] {
            let text = render(&subject, lang, Some(1234));
            let (question, answers) = match lang {
                Lang::En => ("Does it mean loss?", ["Yes: ", "No: ", "It depends: "]),
                Lang::Zh => ("是否意味着丢包？", ["是：", "否：", "不一定："]),
            };
            let answer = text.lines().skip_while(|l| *l != question).nth(1).unwrap_or_default();
            assert!(answers.iter().any(|a| answer.trim().starts_with(a)), "{text}");
            assert!(text.lines().count() <= 60, "{}: {text}", text.lines().count());
            for line in text.lines() {
                assert!(unicode_width::UnicodeWidthStr::width_cjk(line) <= 80, "{line}");
            }
            assert!(lang == Lang::Zh || text.is_ascii(), "{text}");
        }
    }
}

#[test]
fn chinese_says_where_only_english_is_at_hand() {
    let translated = facts::counter("TcpExt.TCPTimeouts").unwrap();
    let other = facts::counters().iter().find(|c| c.meaning_zh.is_none()).unwrap();
    let note = "部分说明目前只有英文";
    assert!(!render(&Subject::Counters(vec![translated]), Lang::Zh, None).contains(note));
    assert!(render(&Subject::Counters(vec![other]), Lang::Zh, None).contains(note));
}

#[test]
fn the_list_names_every_cause_once() {
    let mut out = Vec::new();
    write_list(&[&CAUSE], &Options::default(), &mut out).unwrap();
    out.flush().unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("netfilter\n  netfilter.drop_rule  A firewall rule"), "{text}");
    assert!(text.contains("248 drop reasons"), "{text}");
}
