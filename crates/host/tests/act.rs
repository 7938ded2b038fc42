//! Every change: made, seen by the system's own tools, taken back, and all is as it was.

mod sandbox;

use sandbox::{Sandbox, fill};
use std::net::IpAddr;
use whydrop_host::act::{self, Journal, Outcome, State, TakenBack, Transaction};
use whydrop_host::source::{iptables_legacy, nftables, policy_rule};
use whydrop_host::sys::netlink::Netlink;
use whydrop_model::action::{ChainRef, Exception, QdiscSpec, RouteSpec, RuleRef, TC_INGRESS, TC_ROOT};
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
    done.undo.iter().for_each(|undo| act::take_back(sandbox.netns(), undo).unwrap());
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
        tenants: vec![],
    }
}

/// A journal for one test, and the means to make transactions in it.
struct Book<'a> {
    sandbox: &'a Sandbox,
    target: Target,
    directory: std::path::PathBuf,
    journal: Journal,
}

impl<'a> Book<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let directory = std::env::temp_dir().join(format!("whydrop-{}", sandbox.name()));
        let journal = Journal::at(&directory).unwrap();
        Self { sandbox, target: target(sandbox), directory, journal }
    }

    fn apply(&self, actions: &[Action]) -> Result<Transaction, whydrop_host::Error> {
        let step = |action: &Action| Step { target: self.target.id.clone(), action: action.clone() };
        let steps: Vec<Step> = actions.iter().map(step).collect();
        let steps: Vec<_> = steps.iter().map(|step| (&self.target, self.sandbox.netns(), step)).collect();
        Transaction::apply(&self.journal, &steps)
    }

    fn undo(&self, id: &str) -> TakenBack {
        Transaction::undo(&self.journal, id).unwrap()
    }

    fn refused(&self, id: &str) -> String {
        Transaction::undo(&self.journal, id).unwrap_err().to_string()
    }

    fn path(&self, id: &str) -> std::path::PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn text(&self, id: &str) -> String {
        std::fs::read_to_string(self.path(id)).unwrap()
    }

    fn put(&self, id: &str, text: &str) {
        std::fs::write(self.path(id), text).unwrap();
    }
}

impl Drop for Book<'_> {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

#[test]
fn transactions() {
    let sandbox = Sandbox::new("transact");
    let book = Book::new(&sandbox);
    let look = || sandbox.run("ip link show dev eth0") + &sandbox.run("nft list ruleset");
    let before = look();
    let mtu = Action::LinkMtu { dev: "eth0".into(), mtu: 1280, was: 1500 };
    let chain = Action::ChainAdd { chain: firewall(Hook::Input), hook: Some((Hook::Input, 0)), policy: None };
    let rule = insert(vec![], RuleVerdict::Drop, 1);
    let bad = Action::LinkMtu { dev: "eth1".into(), mtu: 1280, was: 7 };
    let failed = book.apply(&[mtu.clone(), chain.clone(), bad]).unwrap_err();
    assert!(failed.to_string().contains("changed since it was seen"));
    assert_eq!(look(), before, "the steps before the bad one were taken back");
    assert!(book.journal.list().unwrap().records.iter().all(|record| record.state == State::Undone));
    let made = book.apply(&[mtu.clone(), chain, rule]).unwrap();
    assert_ne!(look(), before);
    assert_eq!(made.fallen().unwrap(), [""; 0]);
    let record = book.journal.load(made.id()).unwrap();
    assert_eq!((record.state, record.steps.len()), (State::Applied, 3));
    assert!(book.undo(made.id()).failed().is_none());
    assert_eq!(look(), before);
    assert_eq!(made.fallen().unwrap().len(), 3);
    assert!(book.refused(made.id()).contains("taken back already"));
    // Another namespace with the same inode, another boot, a damaged record, a way out of the directory.
    let made = book.apply(&[mtu]).unwrap();
    let text = book.text(made.id());
    let (cookie, boot) = (sandbox.netns().cookie().unwrap(), &record.boot);
    if let Some(cookie) = cookie {
        book.put(made.id(), &text.replace(&format!("\"cookie\": {cookie}"), "\"cookie\": 1"));
        let back = book.undo(made.id());
        assert!(back.failed().unwrap().to_string().contains("its namespace is gone"));
    }
    book.put(made.id(), &text.replace(boot, "0"));
    assert!(book.refused(made.id()).contains("started anew"));
    book.put(made.id(), &text[..text.len() / 2]);
    assert!(book.refused(made.id()).contains("damaged"));
    assert!(book.journal.load("../passwd").is_err());
    book.put(made.id(), &text);
    assert!(book.undo(made.id()).failed().is_none());
    assert_eq!(look(), before);
}

/// Wherever a crash falls between the steps of a change, its record and the way back: all is as before, once.
#[test]
fn a_crash_between_any_two_steps() {
    let sandbox = Sandbox::new("crash");
    let book = Book::new(&sandbox);
    sandbox.run("iptables-nft -A INPUT -p tcp --dport 80 -j DROP");
    sandbox.run("iptables-nft -A INPUT -p tcp --dport 80 -j DROP");
    sandbox.run("iptables-legacy -A INPUT -p udp --dport 53 -j DROP");
    sandbox.run("tc qdisc add dev eth0 root handle 5: pfifo limit 7");
    sandbox.run("ip rule add priority 100 to 10.8.0.0/16 prohibit");
    let delete = |tool| {
        let chain = chains(&sandbox, tool).into_iter().find(|chain| !chain.rules.is_empty()).unwrap();
        let rule = chain.rules[0].clone();
        Action::RuleDelete(RuleRef { chain: ChainRef::from(&chain), rule, unique: false, gone_before: 0 })
    };
    let read = || Netlink::route().and_then(|mut netlink| policy_rule::read(&mut netlink));
    let rules = sandbox.netns().run(read).unwrap().unwrap();
    let policy = rules.into_iter().find(|rule| rule.priority == 100).unwrap();
    let pfifo = QdiscSpec { handle: 0x5_0000, ..qdisc("pfifo", TC_ROOT, QdiscOptions::Fifo { limit: 7 }) };
    let actions = || {
        vec![
            delete(Tool::IptablesNft),
            delete(Tool::IptablesLegacy),
            Action::QdiscDelete(pfifo.clone()),
            Action::PolicyRuleDelete { rule: policy.clone() },
            Action::QdiscAdd(QdiscSpec {
                dev: "eth1".into(),
                ..qdisc("pfifo", TC_ROOT, QdiscOptions::Fifo { limit: 9 })
            }),
        ]
    };
    let look = || {
        ["iptables-nft -S", "iptables-legacy -S", "tc qdisc show", "ip rule"]
            .map(|line| sandbox.run(line))
            .concat()
    };
    let before = look();
    for crash in 0..actions().len() {
        let made = book.apply(&actions()[..=crash]).unwrap();
        let done = book.text(made.id());
        let (first, last) = done.rsplit_once("\"done\"").unwrap();
        let intended = format!("{first}\"intended\"{last}");
        // Killed behind the change, in front of its record.
        book.put(made.id(), &intended);
        assert!(book.undo(made.id()).failed().is_none());
        assert_eq!(look(), before, "step {crash}");
        // Killed in front of the change; or in the way back, in front of its record.
        for text in [&intended, &done] {
            book.put(made.id(), text);
            let back = book.undo(made.id());
            assert!(back.steps.iter().all(|(_, outcome)| matches!(outcome, Outcome::AsBefore)), "{back:?}");
            assert_eq!(look(), before, "step {crash}");
        }
    }
}

/// An exception is written down in whydrop's words and read back in its tool's: it must be known again all the same.
#[test]
fn an_exception_goes_after_a_crash() {
    let sandbox = Sandbox::new("exception");
    let book = Book::new(&sandbox);
    sandbox.run("iptables-nft -A INPUT -p udp -j DROP");
    sandbox.run("iptables-legacy -A INPUT -p udp -j DROP");
    sandbox.run("nft add table inet t");
    assert!(
        sandbox
            .try_argv(&["nft", "add chain inet t c { type filter hook input priority 0 ; policy drop ; }"])
            .status
            .success()
    );
    let look = || {
        ["iptables-nft -S", "iptables-legacy -S", "nft -s list table inet t"].map(|l| sandbox.run(l)).concat()
    };
    let before = look();
    let matches = vec![
        Match::Source("10.0.0.1".parse().unwrap(), 32),
        Match::Destination("10.0.0.2".parse().unwrap(), 32),
        Match::L4Proto(17),
        Match::DestinationPorts(53, 53),
    ];
    let words = "-s 10.0.0.1/32 -d 10.0.0.2/32 -p udp --dport 53 -j ACCEPT";
    for tool in [Tool::IptablesNft, Tool::IptablesLegacy, Tool::Nft] {
        let chain = chains(&sandbox, tool)
            .into_iter()
            .find(|c| c.tool == tool && c.hook == Some(Hook::Input))
            .unwrap();
        let mut rule = act::rule(matches.clone(), RuleVerdict::Accept).unwrap();
        if tool != Tool::Nft {
            rule.text = words.to_owned();
        }
        let before_rule = chain.rules.first().cloned();
        let exception =
            Exception { chain: ChainRef::from(&chain), before: before_rule, rule, past_no_decision: false };
        let made = book.apply(&[Action::Exception(exception)]).unwrap();
        assert_ne!(look(), before, "{tool:?}");
        let done = book.text(made.id());
        // Killed behind the change, in front of its record: the handle is not known.
        let (first, _) = done.split_once("\"handle\"").unwrap();
        let rest = done[first.len()..].split_once(',').unwrap().1;
        book.put(made.id(), &format!("{first}\"handle\": null,{rest}").replace("\"done\"", "\"intended\""));
        assert!(book.undo(made.id()).failed().is_none());
        assert_eq!(look(), before, "{tool:?}");
    }
}

/// A step that cannot be taken back is named, and the others are taken back all the same.
#[test]
fn undo_goes_on_past_a_step_that_fails() {
    let sandbox = Sandbox::new("past");
    let book = Book::new(&sandbox);
    let mtu = |dev: &str| Action::LinkMtu { dev: dev.into(), mtu: 1280, was: 1500 };
    let made = book.apply(&[mtu("eth0"), mtu("eth1")]).unwrap();
    sandbox.run("ip link set eth1 mtu 1300");
    let back = book.undo(made.id());
    let error = back.failed().expect("one step fails").to_string();
    assert!(error.contains("eth1") && error.contains("it is 1300"), "{error}");
    assert!(sandbox.run("ip link show eth0").contains("mtu 1500"));
    sandbox.run("ip link set eth1 mtu 1280");
    assert!(book.undo(made.id()).failed().is_none());
    assert!(sandbox.run("ip link show eth1").contains("mtu 1500"));
}

/// Rules of nft that are more than their text: they come back as they were, or they are not deleted.
#[test]
fn every_rule_of_nft_comes_back_or_stays() {
    let sandbox = Sandbox::new("nftback");
    for line in [
        "add table inet t",
        "add chain inet t c { type filter hook input priority 0 ; }",
        "add chain inet t web",
        "add set inet t named { type ipv4_addr ; flags interval ; elements = { 10.0.0.0/8 } ; }",
        "add counter inet t hits",
        "add rule inet t c quota over 10 bytes counter drop",
        "add rule inet t c tcp dport { 22, 80, 1000-2000 } counter drop",
        "add rule inet t c ip saddr . tcp dport { 10.0.0.1 . 80, 10.0.0.2 . 90 } drop",
        "add rule inet t c tcp dport vmap { 80 : jump web, 81 : drop, 90-99 : accept }",
        "add rule inet t c ip saddr @named counter name hits drop",
        "add rule inet t c meter flood { ip saddr limit rate over 10/second } drop",
        "add rule inet t c ip saddr { 10.1.0.0/16, 10.2.0.0/16, 192.168.0.1 } meta mark set 7",
        "add rule inet t c limit rate 10/minute burst 7 packets log prefix \"x y\" reject with tcp reset",
        "add rule inet t c counter drop comment \"a' ; add table ip pwned ; #\"",
    ] {
        let output = sandbox.try_argv(&["nft", line]);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // The quota is used up.
    let send = || std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.send_to(&[0; 99], "127.0.0.1:9"));
    sandbox.netns().run(send).unwrap().unwrap();
    let look = "nft -s list ruleset";
    let before = sandbox.run(look);
    let read = chains(&sandbox, Tool::Nft);
    let mut refused = vec![];
    for chain in &read {
        for rule in &chain.rules {
            let reference =
                RuleRef { chain: ChainRef::from(chain), rule: rule.clone(), unique: true, gone_before: 0 };
            match act::apply(sandbox.netns(), &Action::RuleDelete(reference)) {
                Ok(done) => {
                    assert_ne!(sandbox.run(look), before, "{}", rule.text);
                    for _ in 0..2 {
                        done.undo.iter().for_each(|undo| act::take_back(sandbox.netns(), undo).unwrap());
                        assert_eq!(sandbox.run(look), before, "{}", rule.text);
                    }
                }
                Err(error) => {
                    assert!(error.to_string().contains("it could not be put back"), "{error}");
                    assert_eq!(sandbox.run(look), before, "{}", rule.text);
                    refused.push(&rule.text);
                }
            }
        }
    }
    // Some kernels take a meter again, others do not; the rest comes back everywhere.
    assert!(refused.iter().all(|text| text.contains("dynset")), "{refused:?}");
    assert!(!sandbox.run("nft list tables").contains("pwned"));
}

/// htb shows options that it does not take (the version in another form): it could not come back.
#[test]
fn a_qdisc_that_could_not_come_back_stays() {
    let sandbox = Sandbox::new("qdiscback");
    sandbox.run("tc qdisc add dev eth0 root handle 5: htb default 1");
    let options = QdiscOptions::Htb { default: 1, direct_packets: 0 };
    let htb = QdiscSpec { handle: 0x5_0000, ..qdisc("htb", TC_ROOT, options) };
    let error = act::rehearse(sandbox.netns(), &Action::QdiscDelete(htb.clone())).unwrap_err().to_string();
    assert!(error.contains("it could not be put back"), "{error}");
    assert!(refusal(&sandbox, &Action::QdiscDelete(htb)).contains("it could not be put back"));
    assert!(sandbox.run("tc qdisc show dev eth0").contains("qdisc htb 5: root"));
    sandbox.run("tc qdisc replace dev eth0 root handle 6: pfifo limit 7");
    let pfifo = QdiscSpec { handle: 0x6_0000, ..qdisc("pfifo", TC_ROOT, QdiscOptions::Fifo { limit: 7 }) };
    act::rehearse(sandbox.netns(), &Action::QdiscDelete(pfifo)).unwrap();
    assert!(sandbox.run("tc qdisc show dev eth0").contains("limit 7p"), "a rehearsal changes nothing");
}
