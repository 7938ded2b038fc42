//! `container.route_localnet`: packets that are sent on to 127.0.0.0/8 may not enter by a device.

use crate::case::Space;
use crate::coverage::Source;
use crate::reconcile::BY_EVENTS;
use crate::rule::{Judgement, Rule, Suspect, fix};
use crate::rules::events::Events;
use whydrop_facts::place::{self, Place};
use whydrop_model::action::Action;
use whydrop_model::netfilter::{Rule as Filter, RuleVerdict, Tool};
use whydrop_model::{Applicability, Cause, Direction, DropEvent, NoteStatus, Text, text};

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
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::DropEvents, Source::Nftables], consequence_of: &[], judge };

/// Where it happens.
const STAGE: &str = "route.input";

const SUMMARY: Text = text!(
    "Packets that a DNAT rule sends to 127.0.0.0/8 are refused on {dev}: route_localnet is off.",
    "DNAT 规则转往 127.0.0.0/8 的包在 {dev} 上被拒绝：route_localnet 未开启。"
);
const SENDS: Text = text!("a rule sends packets there: {rule}", "有规则把包转往那里：{rule}");
const ALLOW: Text = text!("set route_localnet of the interface", "开启该接口的 route_localnet");
const WEAKER: Text = text!(
    "neighbours on this link can then reach services that listen on 127.0.0.1 only: let the firewall refuse 127.0.0.0/8 from this interface before DNAT",
    "此后该链路上的邻居可以访问只监听 127.0.0.1 的服务：请让防火墙在 DNAT 之前拒绝从该接口进入的 127.0.0.0/8"
);
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");
const FORGED: Text = text!(
    "{n} packets to 127.0.0.0/8 came from outside and were refused; no rule here sends any there",
    "有 {n} 个发往 127.0.0.0/8 的包来自外部，已被拒绝；此处没有规则把包转往那里"
);

fn judge(space: Space<'_>) -> Judgement {
    let events = Events::of(space, &CAUSE);
    let mut out = Judgement::default();
    if came_from_loopback(&events) {
        return out;
    }
    let mut rules = space.after.chains().flat_map(|chain| chain.rules.iter().map(move |r| (chain.tool, r)));
    let rule = rules.find(|(tool, r)| leads_to_loopback(*tool, r));
    // An unread rule is no missing one.
    let unread = RULE.needs.iter().any(|source| source.hidden(space));
    let mut answers = answers(space);
    for (link, mut drops) in events.by_link() {
        let dev = space.after.link_name(link);
        let Some((_, rule)) = rule else {
            if !unread {
                out.note(space, &CAUSE, NoteStatus::Benign, &dev, FORGED.fill(&[("n", &drops)]));
                out.excuse(space, STAGE, drops);
            }
            continue;
        };
        // By which device they would have left, the kernel does not say.
        drops += std::mem::take(&mut answers);
        let name = format!("net.ipv4.conf.{dev}.route_localnet");
        // The kernel refused just now: it is off, here and for all devices.
        let action = Action::Sysctl { name: name.clone(), value: "1".into(), was: "0".into() };
        let mut allow = fix(space, ALLOW.phrase(), Applicability::Safe, vec![action]);
        (allow.caution, allow.persist) = (Some(WEAKER.phrase()), Some(PERSIST.phrase()));
        let suspect = Suspect::new(space, &CAUSE, STAGE, name, SUMMARY.fill(&[("dev", &dev)]))
            .direction(Direction::Receive)
            .packets(drops, BY_EVENTS)
            .drop_events(drops, events.reason())
            .evidence(SENDS.fill(&[("rule", &rule.text)]), "rules", &[])
            .touches(space.probes_via(link))
            .fix(allow);
        out.suspects.push(suspect);
    }
    out
}

/// Packets of connections that began while it was allowed: their answers from 127.0.0.0/8 find no way out now.
fn answers(space: Space<'_>) -> u64 {
    let leaving = |place: Place| place.stage == "route.output";
    let events =
        Events::at(space, |count| leaving(place::of_count(count)), |event| leaving(place::of_event(event)));
    if came_from_loopback(&events) { events.total() } else { 0 }
}

/// True if it was the source of the sampled packets that lies in 127.0.0.0/8: the kernel has one name for both ends
/// (ip_route_input_slow()).
pub fn came_from_loopback(events: &Events<'_>) -> bool {
    !events.sampled.is_empty() && events.sampled.iter().all(|event| has_loopback_source(event))
}

/// True if this packet's source lies in 127.0.0.0/8.
pub fn has_loopback_source(event: &DropEvent) -> bool {
    event.source.is_some_and(|source| source.ip().is_loopback())
}

/// True if the rule rewrites destinations and may rewrite them to a loopback address: of the rules of nft the address
/// is not read.
fn leads_to_loopback(tool: Tool, rule: &Filter) -> bool {
    let dnat = matches!(&rule.verdict, RuleVerdict::Other(name) if name.eq_ignore_ascii_case("dnat"));
    dnat && (tool == Tool::Nft || rule.text.contains(" 127."))
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
