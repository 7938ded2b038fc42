//! Every change: made, seen by the system's own tools, taken back, and all is as it was.

mod sandbox;

use sandbox::{Sandbox, fill};
use std::net::IpAddr;
use whydrop_host::act::{self, Journal, State, Transaction};
use whydrop_host::source::{iptables_legacy, nftables};
use whydrop_model::action::{ChainRef, QdiscSpec, RouteSpec, RuleRef, TC_INGRESS, TC_ROOT};
use whydrop_model::finding::Step;
use whydrop_model::netfilter::{Chain, Family, Hook, Match, RuleVerdict, Tool};
use whydrop_model::snapshot::{NextHop, PolicyRule, QdiscOptions, Route};
use whydrop_model::target::{Entry, Role, Target, TargetKind};
use whydrop_model::{Action, Reading};

/// Makes the change, which must show in what the command prints, takes it back, and compares.
fn there_and_back(sandbox: &Sandbox, action: &Action, look: &str, shows: &str) {
    let before = sandbox.run(look);
    let done = act::apply(sandbox.netns(), action).unwrap_or_else(|e| panic!("{action:?}: {e}"));
    let between = sandbox.run(look);
    assert!(between.contains(shows) && between != before, "{action:?}: no {shows} in\n{between}");
    for undo in &done.undo {
        act::take_back(sandbox.netns(), undo).unwrap_or_else(|e| panic!("{undo:?}: {e}"));
    }
    assert_eq!(sandbox.run(look), before, "{action:?}");
}

fn refusal(sandbox: &Sandbox, action: &Action) -> String {
    act::apply(sandbox.netns(), action).unwrap_err().to_string()
}

#[test]
fn links() {
    let sandbox = Sandbox::new("links");
    sandbox.run("ip addr add 10.9.0.1/24 dev eth0");
    sandbox.run("ip addr add 2001:db8:9::1/64 dev eth0 nodad");
    sandbox.run("ip route add 10.10.0.0/16 via 10.9.0.2 advmss 900 metric 7");
    sandbox.run("ip -6 route add 2001:db8:a::/48 via 2001:db8:9::2");
    let mtu = Action::LinkMtu { dev: "eth0".into(), mtu: 1280, was: 1500 };
    there_and_back(&sandbox, &mtu, "ip link show dev eth0", "mtu 1280");
    let stale = Action::LinkMtu { dev: "eth0".into(), mtu: 1280, was: 1400 };
    assert!(refusal(&sandbox, &stale).contains("it is 1500, not 1400"));
    let down = Action::LinkState { dev: "eth0".into(), up: false };
    for look in ["ip -4 route", "ip -6 addr show dev eth0 scope global"] {
        let before = sandbox.run(look);
        let done = act::apply(sandbox.netns(), &down).unwrap();
        assert_ne!(sandbox.run(look), before);
        for undo in &done.undo {
            act::take_back(sandbox.netns(), undo).unwrap();
        }
        assert_eq!(sandbox.run(look), before);
    }
    assert!(sandbox.run("ip -6 route").contains("2001:db8:a::/48 via 2001:db8:9::2"));
    let up = Action::LinkState { dev: "eth0".into(), up: true };
    assert!(act::apply(sandbox.netns(), &up).unwrap().undo.is_empty(), "it is up already");
    let missing = Action::LinkState { dev: "eth7".into(), up: false };
    assert!(refusal(&sandbox, &missing).contains("none of this name"));
}

fn qdisc(kind: &str, parent: u32, options: QdiscOptions) -> QdiscSpec {
    QdiscSpec { dev: "eth0".into(), kind: kind.into(), parent, handle: 0, options }
}

#[test]
fn qdiscs() {
    let sandbox = Sandbox::new("qdiscs");
    let tbf = QdiscOptions::Tbf { rate: 125_000, burst: 10_000, limit: 30_000 };
    for (spec, shows) in [
        (qdisc("tbf", TC_ROOT, tbf.clone()), "rate 1Mbit burst 10000b"),
        (qdisc("pfifo", TC_ROOT, QdiscOptions::Fifo { limit: 7 }), "limit 7p"),
        (qdisc("bfifo", TC_ROOT, QdiscOptions::Fifo { limit: 7000 }), "limit 7000b"),
        (qdisc("htb", TC_ROOT, QdiscOptions::Htb { default: 0x30, direct_packets: 0 }), "default 0x30"),
        (qdisc("blackhole", TC_ROOT, QdiscOptions::Other), "blackhole"),
        (qdisc("clsact", TC_INGRESS, QdiscOptions::Other), "clsact"),
    ] {
        there_and_back(&sandbox, &Action::QdiscAdd(spec), "tc qdisc show dev eth0", shows);
    }
    // One that somebody else made comes back with what whydrop has no word for.
    sandbox.run("tc qdisc add dev eth0 root handle 5: tbf rate 1mbit burst 10k latency 50ms peakrate 2mbit minburst 1540");
    let look = "tc -d qdisc show dev eth0";
    let before = sandbox.run(look);
    let mut spec = QdiscSpec { handle: 0x5_0000, ..qdisc("tbf", TC_ROOT, tbf) };
    let done = act::apply(sandbox.netns(), &Action::QdiscDelete(spec.clone())).unwrap();
    assert!(!sandbox.run(look).contains("tbf"));
    done.undo.iter().for_each(|undo| drop(act::take_back(sandbox.netns(), undo).unwrap()));
    assert_eq!(sandbox.run(look), before);
    spec.handle = 0x6_0000;
    assert!(refusal(&sandbox, &Action::QdiscDelete(spec)).contains("changed since it was seen"));
    sandbox.run("tc qdisc del dev eth0 root");
    sandbox.run("tc qdisc add dev eth0 root handle 1: htb default 1");
    sandbox.run("tc class add dev eth0 parent 1: classid 1:1 htb rate 1mbit");
    let htb = qdisc("htb", TC_ROOT, QdiscOptions::Htb { default: 1, direct_packets: 0 });
    assert!(refusal(&sandbox, &Action::QdiscDelete(htb)).contains("it holds classes"));
}

/// netem is a module that some kernels lack; then the kernel's refusal must come through.
#[test]
fn netem() {
    let sandbox = Sandbox::new("netem");
    let options = QdiscOptions::Netem {
        loss: 0.3,
        model: None,
        limit: 500,
        delay_us: 20_000,
        jitter_us: 1000,
        corrupt: 0.01,
        duplicate: 0.02,
        reorder: 0.0,
        rate: 125_000,
    };
    let action = Action::QdiscAdd(qdisc("netem", TC_ROOT, options));
    if !sandbox.try_run("tc qdisc add dev eth1 root netem loss 1%").status.success() {
        assert!(act::apply(sandbox.netns(), &action).unwrap_err().errno == Some(libc::ENOENT));
        return;
    }
    let look = "tc qdisc show dev eth0";
    there_and_back(
        &sandbox,
        &action,
        look,
        "limit 500 delay 20ms  1ms loss 30% duplicate 2% corrupt 1% rate 1Mbit",
    );
}

#[test]
fn sysctls() {
    let sandbox = Sandbox::new("sysctls");
    let action = |name: &str, value: &str, was: &str| Action::Sysctl {
        name: name.into(),
        value: value.into(),
        was: was.into(),
    };
    for (name, value, was, look) in [
        ("net.ipv4.ip_forward", "1", "0", "cat /proc/sys/net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0.rp_filter", "2", "0", "cat /proc/sys/net/ipv4/conf/eth0/rp_filter"),
    ] {
        sandbox.run(&format!("sysctl -w {name}={was}"));
        there_and_back(&sandbox, &action(name, value, was), look, value);
    }
    assert!(refusal(&sandbox, &action("net.ipv4.ip_forward", "1", "7")).contains("it is 0, not 7"));
    assert!(refusal(&sandbox, &action("kernel.core_pattern", "x", "y")).contains("not a name"));
}

fn route(destination: &str, prefix: u8, kind: &str, gateway: Option<IpAddr>) -> RouteSpec {
    let hop = gateway.map(|ip| NextHop { gateway: Some(ip), link: None, weight: 1, flags: vec![] });
    let route = Route {
        destination: destination.parse().unwrap(),
        prefix,
        kind: kind.into(),
        table: 254,
        metric: 0,
        next_hops: hop.into_iter().collect(),
        source: None,
        mtu: None,
        protocol: 4,
        scope: 0,
    };
    RouteSpec { route, dev: None }
}

#[test]
fn policy_rules() {
    let sandbox = Sandbox::new("rules");
    let rule = PolicyRule {
        family: 4,
        priority: 100,
        action: "lookup".into(),
        table: Some(77),
        from: Some(("10.1.0.0".parse().unwrap(), 16)),
        to: Some(("10.9.0.9".parse().unwrap(), 32)),
        iif: Some("lo".into()),
        oif: None,
        fwmark: Some((0x10, 0xff)),
        conditions: vec![],
    };
    let shows = "100:\tfrom 10.1.0.0/16 to 10.9.0.9 fwmark 0x10/0xff iif lo lookup 77";
    there_and_back(&sandbox, &Action::PolicyRuleAdd { rule: rule.clone() }, "ip rule", shows);
    let refusing = PolicyRule {
        family: 6,
        action: "prohibit".into(),
        table: None,
        from: None,
        to: Some(("2001:db8::".parse().unwrap(), 32)),
        fwmark: None,
        ..rule.clone()
    };
    there_and_back(&sandbox, &Action::PolicyRuleAdd { rule: refusing }, "ip -6 rule", "prohibit");
    // Two of one priority: the other one stays.
    sandbox.run("ip rule add priority 100 to 10.8.0.0/16 prohibit");
    sandbox.run("ip rule add priority 100 to 10.7.0.0/16 uidrange 0-9 prohibit");
    let other = PolicyRule {
        action: "prohibit".into(),
        table: None,
        from: None,
        to: Some(("10.7.0.0".parse().unwrap(), 16)),
        iif: None,
        fwmark: None,
        conditions: vec!["uidrange 0-9".into()],
        ..rule
    };
    there_and_back(&sandbox, &Action::PolicyRuleDelete { rule: other.clone() }, "ip rule", "");
    assert!(refusal(&sandbox, &Action::PolicyRuleAdd { rule: other }).contains("further conditions"));
}

#[test]
fn routes_addresses_and_neighbours() {
    let sandbox = Sandbox::new("routes");
    sandbox.run("ip addr add 10.9.0.1/24 dev eth0 label eth0:web");
    // Addresses that IPv6 gives itself come a moment later, so each look is at one family and at what was changed.
    let look = "ip -4 route show table all";
    let look6 = "ip -6 route show root 2001:db8::/32";
    let via = Some("10.9.0.2".parse().unwrap());
    let mut narrow = route("10.11.0.0", 16, "unicast", via);
    narrow.route.mtu = Some(1400);
    narrow.dev = Some("eth0".into());
    for (spec, shows) in [
        (route("10.10.0.0", 16, "blackhole", None), "blackhole 10.10.0.0/16"),
        (route("0.0.0.0", 0, "unicast", via), "default via 10.9.0.2 dev eth0"),
        (route("2001:db8::", 32, "unreachable", None), "unreachable 2001:db8::/32"),
        (narrow, "10.11.0.0/16 via 10.9.0.2 dev eth0 proto static mtu 1400"),
    ] {
        let look = if spec.route.destination.is_ipv6() { look6 } else { look };
        there_and_back(&sandbox, &Action::RouteAdd(spec), look, shows);
    }
    sandbox.run("ip route add 10.12.0.0/16 via 10.9.0.2 src 10.9.0.1 advmss 900 initcwnd 3");
    sandbox.run("ip addr add 10.8.0.1/24 dev eth0 label eth0:x");
    sandbox.run("ip route add 10.13.0.0/16 dev eth0 src 10.8.0.1");
    for (action, look) in [
        (Action::RouteDelete(route("10.12.0.0", 16, "unicast", via)), look),
        (Action::AddressDelete { dev: "eth0".into(), ip: "10.8.0.1".parse().unwrap(), prefix: 24 }, look),
        (
            Action::AddressDelete { dev: "eth0".into(), ip: "10.8.0.1".parse().unwrap(), prefix: 24 },
            "ip -4 addr",
        ),
    ] {
        there_and_back(&sandbox, &action, look, "");
    }
    let gone = Action::RouteDelete(route("10.99.0.0", 16, "unicast", via));
    assert!(refusal(&sandbox, &gone).contains("it is gone"));
    let address = Action::AddressAdd { dev: "eth1".into(), ip: "10.7.0.1".parse().unwrap(), prefix: 30 };
    there_and_back(&sandbox, &address, "ip -4 addr", "inet 10.7.0.1/30");
    let ip = "10.9.0.77".parse().unwrap();
    let neighbour = Action::NeighbourAdd { dev: "eth0".into(), ip, mac: "02:00:00:00:00:07".into() };
    there_and_back(
        &sandbox,
        &neighbour,
        "ip -4 neigh",
        "10.9.0.77 dev eth0 lladdr 02:00:00:00:00:07 PERMANENT",
    );
    act::apply(sandbox.netns(), &neighbour).unwrap();
    there_and_back(&sandbox, &neighbour.inverse().unwrap(), "ip -4 neigh", "");
    let other = Action::NeighbourDelete { dev: "eth0".into(), ip, mac: "02:00:00:00:00:08".into() };
    assert!(refusal(&sandbox, &other).contains("not 02:00:00:00:00:08"));
}

fn chains(sandbox: &Sandbox, tool: Tool) -> Vec<Chain> {
    let read = || match tool {
        Tool::IptablesLegacy => iptables_legacy::read(false),
        Tool::Ip6tablesLegacy => iptables_legacy::read(true),
        _ => nftables::read(),
    };
    match sandbox.netns().run(read).unwrap() {
        Reading::Present(chains) => chains,
        other => panic!("{other:?}"),
    }
}

/// Deletes every rule of the table and puts it back at once: what the tool saves stays the same, byte by byte.
fn every_rule(sandbox: &Sandbox, tool: Tool, save: &str) {
    let saved = |sandbox: &Sandbox| {
        let text = sandbox.run(save);
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = saved(sandbox);
    let mut seen = 0;
    for chain in chains(sandbox, tool) {
        let texts: Vec<&str> = chain.rules.iter().map(|rule| rule.text.as_str()).collect();
        for rule in &chain.rules {
            let unique = texts.iter().filter(|text| **text == rule.text).count() == 1;
            let reference =
                RuleRef { chain: ChainRef::from(&chain), rule: rule.clone(), unique, gone_before: 0 };
            let done = act::apply(sandbox.netns(), &Action::RuleDelete(reference.clone())).unwrap();
            assert_ne!(saved(sandbox), before, "{}", rule.text);
            for undo in &done.undo {
                act::take_back(sandbox.netns(), undo).unwrap_or_else(|e| panic!("{}: {e}", rule.text));
            }
            assert_eq!(saved(sandbox), before, "{}", rule.text);
            if tool != Tool::IptablesLegacy {
                // Its handle is another one now.
                let again = act::apply(sandbox.netns(), &Action::RuleDelete(reference)).unwrap_err();
                assert!(again.to_string().contains("changed since it was seen"));
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} rules");
}

#[test]
fn rules_of_iptables_over_nf_tables() {
    let sandbox = Sandbox::new("nftact");
    fill(&sandbox, "iptables-nft");
    every_rule(&sandbox, Tool::IptablesNft, "iptables-nft-save");
}

#[test]
fn rules_of_legacy_iptables() {
    let sandbox = Sandbox::new("legacyact");
    fill(&sandbox, "iptables-legacy");
    every_rule(&sandbox, Tool::IptablesLegacy, "iptables-legacy-save");
}

#[test]
fn policies() {
    let sandbox = Sandbox::new("policies");
    for (tool, command) in [(Tool::IptablesNft, "iptables-nft"), (Tool::IptablesLegacy, "iptables-legacy")] {
        sandbox.run(&format!("{command} -A INPUT -j ACCEPT"));
        let chain = ChainRef { tool, family: Family::Ip, table: "filter".into(), name: "INPUT".into() };
        let action = |policy, was| Action::ChainPolicy { chain: chain.clone(), policy, was };
        let drop = action(RuleVerdict::Drop, RuleVerdict::Accept);
        there_and_back(&sandbox, &drop, &format!("{command} -S INPUT"), "-P INPUT DROP");
        sandbox.run(&format!("{command} -P INPUT DROP"));
        let stale = action(RuleVerdict::Accept, RuleVerdict::Return);
        assert!(refusal(&sandbox, &stale).contains("changed since it was seen"));
    }
}

fn firewall(hook: Hook) -> ChainRef {
    ChainRef { tool: Tool::Nft, family: Family::Inet, table: "firewall".into(), name: hook.word().into() }
}

fn insert(matches: Vec<Match>, verdict: RuleVerdict, position: u32) -> Action {
    let mut rule = act::rule(matches, verdict).unwrap();
    rule.position = position;
    Action::RuleInsert(RuleRef { chain: firewall(Hook::Input), rule, unique: true, gone_before: 0 })
}

#[test]
fn chains_and_rules_of_nft() {
    let sandbox = Sandbox::new("nativeact");
    let look = "nft -s list ruleset";
    let chain = Action::ChainAdd {
        chain: firewall(Hook::Input),
        hook: Some((Hook::Input, 0)),
        policy: Some(RuleVerdict::Accept),
    };
    there_and_back(&sandbox, &chain, look, "type filter hook input priority filter; policy accept;");
    act::apply(sandbox.netns(), &chain).unwrap();
    assert!(refusal(&sandbox, &chain).contains("already there"));
    let web = || vec![Match::L4Proto(6), Match::DestinationPorts(80, 80)];
    let random = [web(), vec![Match::Random(0.3)]].concat();
    let text = "tcp dport 80 numgen random mod 100 < 30 counter drop";
    there_and_back(&sandbox, &insert(random.clone(), RuleVerdict::Drop, 1), look, text);
    for (matches, verdict) in [
        (random, RuleVerdict::Drop),
        (vec![Match::Nth(3), Match::CtState(vec!["NEW".into()])], RuleVerdict::Drop),
        (
            vec![Match::Source("10.0.0.0".parse().unwrap(), 8), Match::OutInterface("lo".into())],
            RuleVerdict::Accept,
        ),
        (vec![Match::Limit { rate: "10/second".into(), over: true }], RuleVerdict::Reject),
        (web(), RuleVerdict::Return),
    ] {
        act::apply(sandbox.netns(), &insert(matches, verdict, 2)).unwrap();
    }
    // The chain has rules, so it stays.
    let delete = Action::ChainDelete { chain: firewall(Hook::Input), hook: None, policy: None };
    assert!(refusal(&sandbox, &delete).contains("it has 5 rules"));
    // A set without a name comes back, too, and each rule at its place.
    sandbox.try_argv(&["nft", "add rule inet firewall input tcp dport { 22, 80 } counter accept"]);
    sandbox.try_argv(&["nft", "add rule inet firewall input counter drop comment \"a b\""]);
    let before = sandbox.run(look);
    for chain in chains(&sandbox, Tool::Nft) {
        for rule in &chain.rules {
            let reference =
                RuleRef { chain: ChainRef::from(&chain), rule: rule.clone(), unique: true, gone_before: 0 };
            there_and_back(&sandbox, &Action::RuleDelete(reference), look, "");
        }
    }
    assert_eq!(sandbox.run(look), before);
}

fn target(sandbox: &Sandbox) -> Target {
    Target {
        id: format!("netns:{}", sandbox.name()),
        kind: TargetKind::Netns,
        name: sandbox.name().into(),
        netns_inode: sandbox.netns().inode(),
        pid: None,
        container: None,
        role: Role::Target,
        entry: Entry::Path(format!("/run/netns/{}", sandbox.name())),
    }
}

#[test]
fn transactions() {
    let sandbox = Sandbox::new("transact");
    let directory = std::env::temp_dir().join(format!("whydrop-journal-{}", std::process::id()));
    let journal = Journal::at(&directory).unwrap();
    let target = target(&sandbox);
    let step = |action| Step { target: target.id.clone(), action };
    let look = || sandbox.run("ip link show dev eth0") + &sandbox.run("nft list ruleset");
    let before = look();
    let mtu = step(Action::LinkMtu { dev: "eth0".into(), mtu: 1280, was: 1500 });
    let chain =
        step(Action::ChainAdd { chain: firewall(Hook::Input), hook: Some((Hook::Input, 0)), policy: None });
    let rule = step(insert(vec![], RuleVerdict::Drop, 1));
    let bad = step(Action::LinkMtu { dev: "eth1".into(), mtu: 1280, was: 7 });
    let with = |steps: &[&Step]| {
        let steps: Vec<_> = steps.iter().map(|step| (&target, sandbox.netns(), *step)).collect();
        Transaction::apply(&journal, &steps)
    };
    assert!(with(&[&mtu, &chain, &bad]).unwrap_err().to_string().contains("changed since it was seen"));
    assert_eq!(look(), before, "the steps before the bad one were taken back");
    assert_eq!(journal.last().unwrap(), None);
    let id = with(&[&mtu, &chain, &rule]).unwrap();
    assert_ne!(look(), before);
    let record = journal.last().unwrap().unwrap();
    assert_eq!((record.id.as_str(), record.state, record.steps.len()), (id.as_str(), State::Applied, 3));
    Transaction::undo(&journal, &id).unwrap();
    assert_eq!(look(), before);
    assert!(Transaction::undo(&journal, &id).unwrap_err().to_string().contains("taken back already"));
    // Another namespace under the same name, another boot, a damaged record, a way out of the directory.
    let id = with(&[&mtu]).unwrap();
    let path = directory.join(format!("{id}.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    let inode = format!("\"netns_inode\": {}", target.netns_inode);
    std::fs::write(&path, text.replace(&inode, "\"netns_inode\": 1")).unwrap();
    assert!(Transaction::undo(&journal, &id).unwrap_err().to_string().contains("another namespace"));
    std::fs::write(&path, text.replace(&record.boot, "0")).unwrap();
    assert!(Transaction::undo(&journal, &id).unwrap_err().to_string().contains("started anew"));
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert!(Transaction::undo(&journal, &id).unwrap_err().to_string().contains("damaged"));
    assert!(journal.load("../passwd").is_err());
    std::fs::write(&path, &text).unwrap();
    Transaction::undo(&journal, &id).unwrap();
    assert_eq!(look(), before);
    std::fs::remove_dir_all(&directory).unwrap();
}
