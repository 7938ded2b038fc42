//! The catalogue holds together: ids are unique and sorted, references lead somewhere, texts are clean.

use std::collections::BTreeSet;
use unicode_width::UnicodeWidthStr;
use whydrop_facts as facts;

/// Strictly rising: sorted, and none twice. Binary search depends on it.
fn assert_rising<'a>(ids: impl Iterator<Item = &'a str>) {
    let ids: Vec<&str> = ids.collect();
    for pair in ids.windows(2) {
        assert!(pair[0] < pair[1], "{} before {}", pair[0], pair[1]);
    }
}

#[test]
fn ids_are_unique_and_sorted() {
    assert_rising(facts::counters().iter().map(|c| c.id));
    assert_rising(facts::reasons().iter().map(|r| r.id));
    assert_rising(facts::states().iter().map(|s| s.id));
    assert_rising(facts::pitfalls().iter().map(|p| p.id));
    assert_rising(facts::cause_ids());
    assert_rising(facts::owners().iter().map(|o| o.id));
    let names: Vec<&str> =
        facts::stages().iter().flat_map(|s| s.aliases.iter().copied().chain([s.id])).collect();
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len());
}

#[test]
fn the_catalogue_is_whole() {
    assert_eq!(facts::counters().len(), 1174);
    assert_eq!(facts::reasons().len(), 248);
    assert_eq!(facts::states().len(), 148);
    assert_eq!(facts::stages().len(), 58);
    assert_eq!(facts::pitfalls().len(), 36);
    assert_eq!(facts::causes().len(), 138);
}

#[test]
fn every_stage_that_is_named_exists() {
    let named = facts::counters().iter().map(|c| (c.id, c.stage));
    let named = named.chain(facts::reasons().iter().map(|r| (r.id, r.stage)));
    for (id, stage) in named.chain(facts::states().iter().map(|s| (s.id, s.stage))) {
        assert!(facts::stage(stage).is_some() || ["none", "any"].contains(&stage), "{id}: {stage}");
    }
}

#[test]
fn every_entry_is_found_by_its_id() {
    assert!(facts::counters().iter().all(|c| facts::counter(c.id) == Some(c)));
    assert!(facts::reasons().iter().all(|r| facts::reason(r.id) == Some(r)));
    assert!(facts::states().iter().all(|s| facts::state(s.id) == Some(s)));
    assert!(facts::pitfalls().iter().all(|p| facts::pitfall(p.id) == Some(p)));
    assert_eq!(facts::stage("netfilter.input").map(|s| s.id), Some("rx.nf_input"));
    assert_eq!(facts::reason("SKB_DROP_REASON_NO_SOCKET").map(|r| r.id), Some("NO_SOCKET"));
}

#[test]
fn related_reasons_exist() {
    // `related` names reasons as `reason X` or `reasons X, Y`.
    for counter in facts::counters() {
        let Some((_, names)) = counter.related.and_then(|r| r.split_once("reason")) else { continue };
        for name in names.trim_start_matches('s').split([',', ';']).map(str::trim) {
            let upper = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            assert!(!upper || name.is_empty() || facts::reason(name).is_some(), "{}: {name}", counter.id);
        }
    }
}

#[test]
fn what_matters_most_is_translated() {
    let lossy = |c: &&facts::Counter| {
        matches!(c.effect, facts::Effect::Lost | facts::Effect::LostConn)
            && ["Ip", "Tcp", "Udp", "softnet_stat"].contains(&c.group)
    };
    for counter in facts::counters().iter().filter(lossy) {
        assert!(counter.meaning_zh.is_some(), "{}", counter.id);
    }
    for name in ["NETFILTER_DROP", "QDISC_DROP", "IP_RPFILTER", "NO_SOCKET", "SOCKET_RCVBUFF", "NEIGH_FAILED"]
    {
        assert!(facts::reason(name).is_some_and(|r| r.meaning_zh.is_some()), "{name}");
    }
}

#[test]
fn texts_suit_every_terminal() {
    let mut texts: Vec<&str> =
        facts::counters().iter().flat_map(|c| [Some(c.meaning), c.meaning_zh, c.related]).flatten().collect();
    for r in facts::reasons() {
        texts.extend([Some(r.meaning), r.meaning_zh, r.causes, r.look_next, r.fix].into_iter().flatten());
    }
    texts.extend(facts::stages().iter().flat_map(|s| [s.title.en, s.title.zh]));
    texts.extend(facts::pitfalls().iter().map(|p| p.text));
    texts.extend(facts::owners().iter().flat_map(|o| [o.name.en, o.name.zh, o.how.en, o.how.zh]));
    for text in texts {
        assert_eq!(text.width(), text.width_cjk(), "ambiguous width: {text}");
        assert!(!text.contains(['\n', '\t', '\x1b']) && text.trim() == text, "{text:?}");
    }
    assert!(facts::counters().iter().all(|c| c.meaning.is_ascii()));
    assert!(facts::reasons().iter().all(|r| r.meaning.is_ascii()));
}

#[test]
fn names_are_found_in_any_table() {
    let first = |name: &str| facts::counters_named(name).first().map(|c| c.id);
    assert_eq!(first("rx_missed_errors"), Some("rtnl_link_stats64.rx_missed_errors"));
    assert_eq!(first("tcptimeouts"), Some("TcpExt.TCPTimeouts"));
    assert_eq!(first("rx_queue_3_xdp_drops"), Some("ethtool_driver.veth.rx_queue_N_xdp_drops"));
    assert_eq!(first("nonsense"), None);
}

#[test]
fn settings_lead_to_the_states_that_they_belong_to() {
    assert!(facts::states().iter().flat_map(|s| s.sysctls).all(|name| !name.contains(['.', '*', '{', ' '])));
    let ids = |name: &str| facts::states_of_sysctl(name).iter().map(|s| s.id).collect::<Vec<_>>();
    assert_eq!(ids("net.core.somaxconn"), ["tcp.somaxconn"]);
    assert!(ids("/proc/sys/net/ipv4/conf/all/rp_filter").contains(&"ip.rp_filter"));
    assert!(ids("net.ipv4").is_empty());
}
