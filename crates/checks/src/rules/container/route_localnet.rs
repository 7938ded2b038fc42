//! `container.route_localnet`: packets that are sent on to 127.0.0.0/8 may not enter by a device, or such from there may
//! not leave by it.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::route::{Lookup, lookup};
use crate::fixes::fix;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use crate::rules::events::is_any;
use crate::rules::route::has_loopback_source;
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::action::Action;
use whydrop_model::netfilter::{Hook, NatKind, Rule as Filter, RuleVerdict};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "container.route_localnet",
    title: text!("A port that leads to 127.0.0.1 is unreachable", "转到 127.0.0.1 的端口不可达"),
    meaning: text!(
        "A DNAT rule sends packets on to a loopback address, and route_localnet is off at the device by which they come.",
        "DNAT 规则把包转到回环地址，而包到达的设备上 route_localnet 未开启。"
    ),
    seen_by: text!(
        "The kernel reported packets to 127.0.0.0/8 that came by a device, and a DNAT rule sends them there.",
        "内核报告有发往 127.0.0.0/8 的包从设备到达，并且有 DNAT 规则将包转往那里。"
    ),
    why_lost: text!(
        "Without route_localnet the kernel takes a loopback address from outside for forged, and drops without an answer.",
        "未开启 route_localnet 时，内核把来自外部的回环地址视为伪造，丢弃且不作应答。"
    ),
    what_to_do: text!(
        "Let the service listen on an address of the device and send the port there; or set route_localnet of the device.",
        "让服务监听该设备的地址并把端口转到该地址；或开启该设备的 route_localnet。"
    ),
    when_wrong: text!(
        "Packets that were sent to 127.0.0.0/8 from outside are rightly refused; without a DNAT rule it is nothing else.",
        "外部直接发往 127.0.0.0/8 的包被拒绝是正确的；没有 DNAT 规则时便是这种情况。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents, Source::Nftables], judge };

/// Where it happens.
const STAGE: &str = "route.input";

const SUMMARY: Text = text!(
    "Packets that a DNAT rule sends to 127.0.0.0/8 are refused on {dev}: route_localnet is off.",
    "DNAT 规则转往 127.0.0.0/8 的包在 {dev} 上被拒绝：route_localnet 未开启。"
);
const SUMMARY_OUT: Text = text!(
    "Packets from 127.0.0.1 that a DNAT rule turns to {to} may not leave by {dev}: route_localnet is off.",
    "DNAT 规则把来自 127.0.0.1 的包转往 {to}，但它们不能从 {dev} 发出：route_localnet 未开启。"
);
const SENDS: Text = text!("a rule sends packets there: {rule}", "有规则把包转往那里：{rule}");
const ALLOW: Text = text!("set route_localnet of the interface", "开启该接口的 route_localnet");
const WEAKER: Text = text!(
    "neighbours on this link can then reach services that listen on 127.0.0.1 only: let the firewall refuse 127.0.0.0/8 from this interface before DNAT",
    "此后该链路上的邻居可以访问只监听 127.0.0.1 的服务：请让防火墙在 DNAT 之前拒绝从该接口进入的 127.0.0.0/8"
);
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");
const FORGED: Text = text!(
    "{n} {n|packet|packets} to 127.0.0.0/8 came from outside and {n|was|were} refused; no rule here sends any there",
    "有 {n} 个发往 127.0.0.0/8 的包来自外部，已被拒绝；此处没有规则把包转往那里"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut rules = space.after.chains().flat_map(|chain| &chain.rules);
    let rule = rules.find(|r| leads_to_loopback(r));
    // An unread rule is no missing one.
    if rule.is_none() && RULE.needs.iter().any(|source| source.hidden(space)) {
        return Judgement::default();
    }
    let links: BTreeSet<u32> =
        space.losses().filter(|loss| is_any(space, loss, &enters)).filter_map(|loss| loss.link).collect();
    let inward = links.into_iter().map(|link| culprit(space, link, rule));
    let outs: BTreeSet<u32> = space.losses().filter_map(|loss| turned_out(space, loss)).collect();
    inward.chain(outs.into_iter().map(|link| outward(space, link))).collect::<Vec<_>>().into()
}

/// The device by which a packet from 127.0.0.1 would leave that a rule turned to another host: with that source there is
/// no route out of a device whose route_localnet is off (`__mkroute_output()`), and the packet dies in the chain.
fn turned_out(space: Space<'_>, loss: &Loss<'_>) -> Option<u32> {
    let event = loss.event.filter(|_| loss.is_in(space) && loss.hook == Some(Hook::Output))?;
    let (source, to) = (event.source?.ip(), event.destination?.ip());
    if !source.is_loopback() || to.is_loopback() || space.after.owns(to) {
        return None;
    }
    // What a rule dropped died of that.
    let ruled = space.case.verdicts.is_some_and(|verdicts| !verdicts.of_loss(loss).is_empty());
    let Lookup::Via(_, hop) = lookup(space, to, None) else { return None };
    let link = hop.link.filter(|_| !ruled)?;
    let on =
        |name: &str| space.after.sysctl(&format!("net.ipv4.conf.{name}.route_localnet")).unwrap_or(0) != 0;
    let dev = space.after.link_name(link);
    Some(link).filter(|_| !on("all") && !on(&dev))
}

fn outward(space: Space<'_>, link: u32) -> Culprit<'_> {
    let dev = space.after.link_name(link);
    let name = format!("net.ipv4.conf.{dev}.route_localnet");
    Culprit::new(space, &CAUSE, "netfilter.output", Scope::Link, name.clone())
        .direction(Direction::Transmit)
        .on(link)
        .takes(move |loss| Fit::sure(turned_out(space, loss) == Some(link)))
        .tell(move |_| {
            let sent = space.losses().filter(|loss| turned_out(space, loss) == Some(link));
            let to = sent.filter_map(|loss| loss.event?.destination).next();
            let mut rules = space.after.chains().flat_map(|chain| &chain.rules);
            let rule = rules.find(|rule| to.is_some_and(|to| leads_to(rule, to.ip())));
            let action = Action::Sysctl { name: name.clone(), value: "1".into(), was: "0".into() };
            let mut allow = fix(space, ALLOW.phrase(), vec![action]);
            (allow.caution, allow.persist) = (Some(WEAKER.phrase()), Some(PERSIST.phrase()));
            let to = to.map_or_else(String::new, |to| to.to_string());
            let story = Story::new(SUMMARY_OUT.fill(&[("dev", &dev), ("to", &to)]));
            rule.into_iter()
                .fold(story, |story, rule| story.evidence(SENDS.fill(&[("rule", &rule.text)]), "rules", &[]))
                .fix(allow)
        })
}

/// True if the rule rewrites destinations to this address, or to one that is not read.
fn leads_to(rule: &Filter, to: IpAddr) -> bool {
    matches!(&rule.verdict, RuleVerdict::Nat(nat) if nat.kind == NatKind::Destination
        && nat.addresses.is_none_or(|(first, last)| (first..=last).contains(&to)))
}

/// What one device refuses. Without a rule that sends packets there, somebody outside forged them.
fn culprit<'a>(space: Space<'a>, link: u32, rule: Option<&'a Filter>) -> Culprit<'a> {
    let dev = space.after.link_name(link);
    let name = format!("net.ipv4.conf.{dev}.route_localnet");
    let culprit = Culprit::new(space, &CAUSE, STAGE, Scope::Link, name.clone())
        .direction(Direction::Receive)
        .on(link)
        .takes(move |loss| takes(space, link, loss));
    let Some(rule) = rule else { return culprit.duty(FORGED).innocent() };
    culprit
        .harms(move |flow| if flow.suffers() && flow.passes(space, link) { Fit::Maybe } else { Fit::No })
        .tell(move |_| {
            // The kernel refused just now: it is off, here and for all devices.
            let action = Action::Sysctl { name: name.clone(), value: "1".into(), was: "0".into() };
            let mut allow = fix(space, ALLOW.phrase(), vec![action]);
            (allow.caution, allow.persist) = (Some(WEAKER.phrase()), Some(PERSIST.phrase()));
            Story::new(SUMMARY.fill(&[("dev", &dev)]))
                .evidence(SENDS.fill(&[("rule", &rule.text)]), "rules", &[])
                .fix(allow)
        })
}

/// A packet to 127.0.0.0/8 that came by a device. The kernel has one name for both ends (ip_route_input_slow()): one
/// that came *from* there is something else.
fn enters(loss: &Loss<'_>) -> bool {
    loss.is_of(CAUSE.id) && !loss.event.is_some_and(has_loopback_source)
}

fn takes(space: Space<'_>, link: u32, loss: &Loss<'_>) -> Fit {
    let answers = loss.is_at_stage("route.output") && loss.event.is_some_and(has_loopback_source);
    match loss.is_in(space) {
        true if loss.link == Some(link) && enters(loss) => Fit::Yes,
        // Answers of connections that began while it was allowed find no way out now. By which device they would have
        // left, the kernel does not say.
        true if answers => Fit::Yes,
        _ => Fit::No,
    }
}

/// True if the rule rewrites destinations and may rewrite them to a loopback address: where it takes the address from
/// a map, it is not read.
fn leads_to_loopback(rule: &Filter) -> bool {
    match &rule.verdict {
        RuleVerdict::Nat(nat) if nat.kind == NatKind::Destination => {
            !nat.known || nat.addresses.is_some_and(|(first, _)| first.is_loopback())
        }
        // A recording of an older version.
        RuleVerdict::Other(name) => {
            name.eq_ignore_ascii_case("dnat") && !rule.text.contains("--to-destination")
                || rule.text.contains("--to-destination 127.")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::events::sample;
    use crate::testing::*;
    use whydrop_model::DropEvent;
    use whydrop_model::netfilter::{Hook, RuleVerdict};
    use whydrop_model::{Reading, Verdict};

    fn refusing(to: Option<&str>) -> World {
        let mut world = World::pair();
        if let Some(to) = to {
            let text = format!("-p tcp --dport 8080 -j DNAT --to-destination {to}");
            let dnat = rule(&text, RuleVerdict::Other("DNAT".into()), Some(0), vec![]);
            let chain = chain("PREROUTING", Hook::Prerouting, RuleVerdict::Accept, vec![dnat]);
            world.chain(SERVER, chain, &[1]);
        }
        world.drops(SERVER, "IP_LOCALNET", "ip_rcv_finish_core", 5);
        world
    }

    #[test]
    fn dnat_to_loopback_is_found_with_its_exact_fix() {
        let world = refusing(Some("127.0.0.1:80"));
        assert_eq!(
            world.found(),
            ["container.route_localnet @ netns:server: net.ipv4.conf.eth0.route_localnet"]
        );
        let report = world.report();
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (5, 0));
        assert!(report.findings[0].fixes[0].caution.is_some());
        assert_eq!(report.findings[0].fixes[0].steps.len(), 1);
    }

    #[test]
    fn a_published_port_asked_for_by_its_loopback_address() {
        let turns = |source: &str| {
            let mut world = World::pair();
            world.drops(SERVER, "NETFILTER_DROP", "nf_hook_slow", 5);
            let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
            log.sampled.extend((0..5).map(|n| DropEvent {
                reason: "NETFILTER_DROP".into(),
                function: "nf_hook_slow".into(),
                stack: vec!["nf_hook_slow".into(), "__ip_local_out".into()],
                protocol: Some(6),
                tcp_flags: Some(2),
                source: Some((source.parse::<std::net::IpAddr>().unwrap(), 40_000 + n).into()),
                destination: Some("10.0.0.1:80".parse().unwrap()),
                netns_inode: Some(4002),
                ..DropEvent::default()
            }));
            world
        };
        let world = turns("127.0.0.1");
        assert_eq!(
            world.found(),
            ["container.route_localnet @ netns:server: net.ipv4.conf.eth0.route_localnet"]
        );
        assert_eq!(world.report().ledger.unexplained, 0);
        // From an address that may leave, something else is in the way.
        assert!(turns("10.0.0.2").found().is_empty());
    }

    #[test]
    fn forged_packets_are_a_note() {
        for to in [None, Some("10.0.0.9:80")] {
            let report = refusing(to).report();
            assert_eq!((report.verdict, report.ledger.unexplained), (Verdict::Clear, 0));
            assert!(report.notes.iter().any(|n| n.cause.as_deref() == Some("container.route_localnet")));
        }
    }

    #[test]
    fn connections_from_before_are_its_loss_too() {
        let mut world = refusing(Some("127.0.0.1:80"));
        world.drops(SERVER, "IP_OUTNOROUTES", "__ip_queue_xmit", 2);
        let like = DropEvent {
            reason: "IP_OUTNOROUTES".into(),
            function: "__ip_queue_xmit".into(),
            ..DropEvent::default()
        };
        sample(&mut world, SERVER, like, "127.0.0.1:80", "10.0.0.1:40000");
        assert_eq!(world.found().len(), 1, "{:?}", world.found());
        assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (7, 0));
    }

    #[test]
    fn a_loopback_source_is_martian_whatever_the_rules_say() {
        let like = DropEvent {
            reason: "IP_LOCALNET".into(),
            function: "ip_rcv_finish_core".into(),
            ..DropEvent::default()
        };
        for to in [None, Some("127.0.0.1:80")] {
            let mut world = refusing(to);
            sample(&mut world, SERVER, like.clone(), "127.0.0.1:7", "10.0.0.2:7");
            assert_eq!(world.found(), ["route.martian_source @ netns:server: eth0"]);
            assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (5, 0));
        }
    }

    #[test]
    fn where_the_rules_could_not_be_read_nothing_is_excused() {
        let mut world = refusing(None);
        world.both(SERVER, |s| s.nftables = Reading::Denied("CAP_NET_ADMIN".into()));
        assert_eq!(world.report().ledger.unexplained, 5);
    }
}
