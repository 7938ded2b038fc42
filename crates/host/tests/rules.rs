//! What whydrop reads of a packet filter, beside what its own tools show.

mod sandbox;

use sandbox::{RULES, Sandbox, fill};
use whydrop_host::source::{iptables_legacy, nftables};
use whydrop_model::Reading;
use whydrop_model::netfilter::{Chain, Match, Rule, Tool};

fn present(reading: Reading<Vec<Chain>>) -> Vec<Chain> {
    match reading {
        Reading::Present(chains) => chains,
        other => panic!("{other:?}"),
    }
}

fn is_whole(rule: &Rule) -> bool {
    !rule.text.split_whitespace().any(|word| word.starts_with('?'))
        && !rule.matches.iter().any(|m| matches!(m, Match::Other(text) if text.starts_with('?')))
}

/// Every rule with its counters as the tool saves it; one that is marked as not decoded is left out on both sides.
fn compare(chains: &[Chain], saved: &str) {
    let wanted: Vec<&str> = saved.lines().filter(|line| line.starts_with('[')).collect();
    let rules = chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)));
    let rules: Vec<(&Chain, &Rule)> = rules.collect();
    assert_eq!(rules.len(), wanted.len());
    let mut whole = 0;
    for (chain, rule) in rules.into_iter().filter(|(_, rule)| is_whole(rule)) {
        let space = if rule.text.is_empty() { "" } else { " " };
        let (packets, bytes) = (rule.packets.unwrap(), rule.bytes.unwrap());
        let line = format!("[{packets}:{bytes}] -A {}{space}{}", chain.name, rule.text);
        assert!(wanted.contains(&line.as_str()), "{line}\nis not among\n{saved}");
        whole += 1;
    }
    // Of the list only `-m time` has no words here.
    assert_eq!(whole, RULES.lines().count() - 1);
}

/// Every text must lead its tool to the rule again.
fn check(sandbox: &Sandbox, chains: &[Chain]) {
    for chain in chains {
        for rule in chain.rules.iter().filter(|rule| is_whole(rule)) {
            let words = whydrop_model::action::split_words(&rule.text);
            let mut argv = vec![chain.command(), "-t", &chain.table, "-C", &chain.name];
            argv.extend(words.iter().map(String::as_str));
            let output = sandbox.try_argv(&argv);
            assert!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn iptables_over_nf_tables_reads_as_it_saves() {
    let sandbox = Sandbox::new("nftrules");
    fill(&sandbox, "iptables-nft");
    sandbox.run("iptables-nft -P FORWARD DROP");
    let chains = present(sandbox.netns().run(nftables::read).unwrap());
    assert!(chains.iter().all(|chain| chain.tool == Tool::IptablesNft));
    compare(&chains, &sandbox.run("iptables-nft-save -c"));
    check(&sandbox, &chains);
}

#[test]
fn legacy_iptables_reads_as_it_saves() {
    let sandbox = Sandbox::new("legacyrules");
    fill(&sandbox, "iptables-legacy");
    let chains = present(sandbox.netns().run(|| iptables_legacy::read(false)).unwrap());
    compare(&chains, &sandbox.run("iptables-legacy-save -c"));
    check(&sandbox, &chains);
    assert_eq!(chains.iter().filter(|chain| chain.policy.is_some()).count(), 3);
}

#[test]
fn looking_makes_no_legacy_table() {
    let sandbox = Sandbox::new("looking");
    let list = || std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
    let names = sandbox.netns().run(|| (iptables_legacy::read(false), list())).unwrap();
    assert_eq!((names.0, names.1.unwrap().as_str()), (Reading::Present(vec![]), ""));
}

#[test]
fn ipv6_reads_as_it_saves() {
    let rules = [
        "INPUT -s fe80::/10 -p tcp --dport 80 -j DROP",
        "INPUT -s 2001:db8::1 ! -i lo -j ACCEPT",
        "INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT",
        "INPUT -m hl --hl-lt 5 -j DROP",
        "INPUT -j REJECT --reject-with icmp6-adm-prohibited",
        "INPUT -p tcp -m connlimit --connlimit-above 3 -j DROP",
        "INPUT -m iprange --src-range fe80::1-fe80::5 -j DROP",
    ];
    let sandbox = Sandbox::new("v6rules");
    for tool in ["ip6tables-nft", "ip6tables-legacy"] {
        for rule in rules {
            sandbox.run(&format!("{tool} -A {rule}"));
        }
        let chains = match tool {
            "ip6tables-nft" => present(sandbox.netns().run(nftables::read).unwrap()),
            _ => present(sandbox.netns().run(|| iptables_legacy::read(true)).unwrap()),
        };
        let saved = sandbox.run(&format!("{tool}-save"));
        let mut read = 0;
        for rule in chains.iter().flat_map(|chain| &chain.rules) {
            assert!(saved.contains(&format!("-A INPUT {}\n", rule.text)), "{} in\n{saved}", rule.text);
            read += 1;
        }
        assert_eq!(read, rules.len());
        check(&sandbox, &chains);
    }
}

/// What nft lists is what was read; the text is taken by each release of nft.
#[test]
fn nft_reads_as_it_lists() {
    let rules = [
        "ct state established,related accept",
        "ct state { new, untracked } accept",
        "ct state ! invalid drop",
        "iifname \"lo\" accept",
        "iifname \"eth*\" drop",
        "ip saddr 10.0.0.0/8 tcp dport 80 counter drop comment \"hello\"",
        "ip saddr 10.0.0.1 ip daddr 10.0.0.2 drop",
        "ip saddr != 10.0.0.0/12 drop",
        "ip6 saddr fe80::/10 udp sport 1000-2000 drop",
        "ip saddr @blocked drop",
        "tcp dport { 22, 80, 8000-8010 } accept",
        "tcp sport 1 tcp dport 2 drop",
        "tcp flags & (syn | ack) == syn drop",
        "tcp flags & syn == syn drop",
        "numgen random mod 100 < 30 drop",
        "numgen inc mod 4 1 counter drop",
        "limit rate 10/second burst 5 packets counter accept",
        "limit rate over 10/minute burst 20 packets counter drop",
        "ct count over 10 drop",
        "quota over 1000 bytes drop",
        "reject with icmpx admin-prohibited",
        "log prefix \"x: \"",
        "meta mark & 0x000000ff == 0x00000001 drop",
        "icmp type echo-request drop",
        "ip ttl < 5 drop",
        "ip frag-off & 0x1fff != 0x0 drop",
        "fib daddr type local accept",
        "ct state vmap { invalid : drop, established : accept }",
        "ip saddr . tcp dport { 1.2.3.4 . 80 } accept",
        "ip daddr { 10.0.0.0/8, 192.168.0.0/16 } drop",
        "jump sub",
        "counter",
    ];
    let sandbox = Sandbox::new("native");
    let nft = |text: &str| {
        let output = sandbox.try_argv(&["nft", text]);
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    };
    nft("add table inet fw");
    nft("add set inet fw blocked { type ipv4_addr; }");
    nft("add chain inet fw sub");
    nft("add chain inet fw input { type filter hook input priority -5; policy drop; }");
    let read = || {
        let chains = present(sandbox.netns().run(nftables::read).unwrap());
        chains.into_iter().find(|chain| chain.name == "input").unwrap()
    };
    for (i, rule) in rules.iter().enumerate() {
        nft(&format!("add rule inet fw input {rule}"));
        let chain = read();
        assert_eq!((chain.tool, chain.priority), (Tool::Nft, Some(-5)));
        let last = chain.rules.last().unwrap();
        assert_eq!((chain.rules.len(), last.text.as_str()), (i + 1, *rule));
        let listed = sandbox.run("nft -s -a list chain inet fw input");
        // What nft 1.0 lists in another way.
        let listed = listed.replace("syn / syn,ack", "& (syn | ack) == syn");
        let listed = listed.replace("rate 10/second counter", "rate 10/second burst 5 packets counter");
        let listed = listed.replace("& 8191 != 0 ", "& 0x1fff != 0x0 ");
        let line = format!("{rule} # handle {}\n", last.handle.unwrap());
        assert!(listed.contains(&line), "{line} in\n{listed}");
    }
}
