//! Which fix comes first, and how it may be applied.

use crate::testing::*;
use whydrop_model::action::Action;
use whydrop_model::netfilter::{Chain, Family, Hook, Match, Rule, RuleVerdict, Tool};
use whydrop_model::snapshot::{Class, QdiscOptions, QueueStats};
use whydrop_model::{Applicability, Fix, Reading};

fn tcp80() -> Vec<Match> {
    vec![Match::L4Proto(6), Match::DestinationPorts(80, 80)]
}

fn dropping(matches: Vec<Match>) -> Rule {
    rule("-p tcp --dport 80 -j DROP", RuleVerdict::Drop, Some(0), matches)
}

fn random() -> Rule {
    dropping([tcp80(), vec![Match::Random(0.3)]].concat())
}

/// The fixes of a rule that dropped 14 SYNs from the client, with these chains behind it.
fn fixes(name: &str, rules: Vec<Rule>, more: Vec<Chain>) -> Vec<Fix> {
    let mut world = World::pair();
    world.chain(SERVER, chain(name, Hook::Input, RuleVerdict::Accept, rules), &[14]);
    for chain in more {
        world.chain(SERVER, chain, &[]);
    }
    world.probe("tcp://10.0.0.2:80", 50, 14);
    world.report().findings.remove(0).fixes
}

fn called(name: &str, rules: Vec<Rule>) -> Chain {
    Chain { hook: None, policy: None, ..chain(name, Hook::Input, RuleVerdict::Accept, rules) }
}

fn first(fixes: &[Fix]) -> (String, Applicability) {
    let argv = fixes[0].steps.first().map(|step| step.action.argv().join(" "));
    (argv.unwrap_or_else(|| fixes[0].title.en.clone()), fixes[0].applicability)
}

const EXCEPTION: &str =
    "iptables-nft -I INPUT 1 -s 10.0.0.1/32 -d 10.0.0.2/32 -p tcp -m tcp --dport 80 -j ACCEPT";

#[test]
fn an_exception_from_dice_is_safe_and_from_a_decision_is_not() {
    let exception = |applicability| (EXCEPTION.to_owned(), applicability);
    let of =
        |matches: Vec<Match>| first(&fixes("INPUT", vec![dropping([tcp80(), matches].concat())], vec![]));
    assert_eq!(of(vec![Match::Random(0.3)]), exception(Applicability::Safe));
    assert_eq!(of(vec![Match::Nth(3)]), exception(Applicability::Safe));
    let over = Match::Limit { rate: "5/second".into(), over: true };
    assert_eq!(of(vec![over.clone()]), exception(Applicability::Safe));
    // Written for this traffic, or for this client.
    assert_eq!(of(vec![]), exception(Applicability::Weakens));
    let client = Match::Source("10.0.0.0".parse().unwrap(), 24);
    assert_eq!(of(vec![over, client]), exception(Applicability::Weakens));
    // What takes the culprit away lets more through than this client.
    let all = fixes("INPUT", vec![random()], vec![]);
    assert_eq!(all[1].applicability, Applicability::Weakens);
    assert!(matches!(all[1].steps[0].action, Action::RuleDelete(_)));
}

#[test]
fn an_exception_does_not_lead_past_another_refusal() {
    let jump = |to: &str| rule("-j x", RuleVerdict::Jump(to.into()), Some(0), vec![]);
    let pass = |matches| rule("-j ACCEPT", RuleVerdict::Accept, Some(0), matches);
    let applicability =
        |behind: Vec<Rule>, more| first(&fixes("INPUT", [vec![random()], behind].concat(), more)).1;
    let safe = Applicability::Safe;
    assert_eq!(applicability(vec![dropping(vec![Match::L4Proto(17)])], vec![]), safe, "of other traffic");
    assert_eq!(applicability(vec![pass(tcp80()), dropping(vec![])], vec![]), safe, "behind an accept");
    assert_eq!(applicability(vec![jump("web")], vec![called("web", vec![pass(vec![])])]), safe);
    let weakens = Applicability::Weakens;
    let invalid = dropping(vec![Match::CtState(vec!["INVALID".into()])]);
    assert_eq!(applicability(vec![invalid], vec![]), weakens, "later packets have other states");
    assert_eq!(applicability(vec![dropping(tcp80())], vec![]), weakens);
    assert_eq!(
        applicability(vec![dropping(vec![Match::Other("-m time".into())])], vec![]),
        weakens,
        "perhaps"
    );
    assert_eq!(applicability(vec![jump("web")], vec![called("web", vec![dropping(vec![])])]), weakens);
    assert_eq!(applicability(vec![jump("gone")], vec![]), weakens, "who knows");
    assert_eq!(applicability(vec![jump("INPUT")], vec![]), weakens, "a loop");
}

#[test]
fn the_callers_of_a_chain_belong_to_the_way() {
    let from = |jump: Vec<Match>, behind: Vec<Rule>| {
        let jump = rule("-j web", RuleVerdict::Jump("web".into()), Some(0), jump);
        let input = chain("INPUT", Hook::Input, RuleVerdict::Accept, [vec![jump], behind].concat());
        let mut world = World::pair();
        world.chain(SERVER, called("web", vec![random()]), &[14]).chain(SERVER, input, &[]);
        world.probe("tcp://10.0.0.2:80", 50, 14);
        world.report().findings[0].fixes[0].applicability
    };
    assert_eq!(from(vec![], vec![]), Applicability::Safe);
    assert_eq!(from(vec![], vec![dropping(vec![])]), Applicability::Weakens);
    // Whoever is sent there by name was meant.
    assert_eq!(from(vec![Match::Source("10.0.0.1".parse().unwrap(), 32)], vec![]), Applicability::Weakens);
}

#[test]
fn a_policy_lets_in_whom_we_know_and_nobody_else() {
    let seen = |source: &str| {
        let mut world = World::pair();
        let mut closed = chain("in", Hook::Input, RuleVerdict::Drop, vec![]);
        (closed.tool, closed.family, closed.table, closed.policy_packets) =
            (Tool::Nft, Family::Inet, "fw".into(), None);
        world.chain(SERVER, closed, &[]).drops(SERVER, "NETFILTER_DROP", "nft_do_chain", 1);
        let netns_inode = Some(world.observation.namespaces[SERVER].target.netns_inode);
        if let Reading::Present(log) = &mut world.observation.drops {
            log.sampled.push(whydrop_model::DropEvent {
                reason: "NETFILTER_DROP".into(),
                function: "nft_do_chain".into(),
                stack: vec!["ip_local_deliver".into()],
                netns_inode,
                protocol: Some(6),
                tcp_flags: Some(2),
                source: Some(source.parse().unwrap()),
                destination: Some("10.0.0.2:80".parse().unwrap()),
                ..whydrop_model::DropEvent::default()
            });
        }
        first(&world.report().findings[0].fixes)
    };
    let accept = |ip: &str| {
        format!("nft -e -a add rule inet fw in ip saddr {ip} ip daddr 10.0.0.2 tcp dport 80 counter accept")
    };
    assert_eq!(seen("10.0.0.1:40000"), (accept("10.0.0.1"), Applicability::Safe));
    assert_eq!(seen("203.0.113.9:40000"), (accept("203.0.113.9"), Applicability::Weakens), "a stranger");
}

#[test]
fn what_a_program_owns_is_changed_there() {
    let manual = |fixes: Vec<Fix>, owner: &str| {
        assert_eq!((fixes.len(), fixes[0].applicability), (1, Applicability::Manual), "{fixes:?}");
        assert!(fixes[0].steps.is_empty() && fixes[0].title.en.contains(owner), "{:?}", fixes[0].title);
    };
    manual(fixes("DOCKER-ISOLATION-STAGE-2", vec![dropping(vec![])], vec![]), "Docker");
    manual(fixes("f2b-sshd", vec![dropping(vec![])], vec![]), "fail2ban");
    let by_felix = Rule { comment: Some("cali:abc".into()), ..dropping(vec![]) };
    manual(fixes("INPUT", vec![by_felix], vec![]), "Calico");
    // The policy of a chain that ufw keeps.
    let to_ufw = rule("-j ufw-before-input", RuleVerdict::Jump("ufw-before-input".into()), Some(0), vec![]);
    let mut world = World::pair();
    world.chain(SERVER, called("ufw-before-input", vec![]), &[]);
    world.chain(SERVER, chain("INPUT", Hook::Input, RuleVerdict::Drop, vec![to_ufw]), &[]);
    world.after(SERVER, |s| {
        if let Reading::Present(chains) = &mut s.nftables {
            chains.last_mut().unwrap().policy_packets = Some(50);
        }
    });
    world.probe("tcp://10.0.0.2:80", 50, 50);
    manual(world.report().findings.remove(0).fixes, "ufw");
    // A route of a daemon, and one of an administrator.
    let route_of = |protocol: u8| {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            if let Reading::Present(routes) = &mut s.routes {
                let refusing = route("10.0.0.1/32", "blackhole", None, None);
                routes.push(whydrop_model::snapshot::Route { protocol, ..refusing });
            }
        });
        world.probe("tcp://10.0.0.2:80", 50, 50);
        world.report().findings.remove(0).fixes
    };
    manual(route_of(80), "Calico");
    manual(route_of(77), "protocol 77");
    assert_eq!(route_of(4)[0].applicability, Applicability::Weakens);
}

#[test]
fn a_tree_of_classes_is_not_deleted() {
    let tree = |classes: Vec<Class>, drops: u32| {
        move |s: &mut whydrop_model::Snapshot| {
            let htb = QdiscOptions::Htb { default: 0x10, direct_packets: 0 };
            s.qdiscs = Reading::Present(vec![qdisc("htb", drops, htb)]);
            s.classes = Reading::Present(classes.clone());
        }
    };
    let class = Class {
        link: 2,
        kind: "htb".into(),
        handle: 0x800d_0010,
        parent: 0x800d_0000,
        rate: Some(1000),
        ceil: None,
        stats: QueueStats::default(),
    };
    let of = |classes: Vec<Class>| {
        let mut world = World::pair();
        world.both(SERVER, tree(classes.clone(), 4)).after(SERVER, tree(classes, 12));
        world.report().findings.remove(0).fixes
    };
    let fix = of(vec![class]).remove(0);
    assert_eq!((fix.applicability, fix.steps.len()), (Applicability::Manual, 0));
    assert_eq!(of(vec![])[0].applicability, Applicability::Weakens);
}
