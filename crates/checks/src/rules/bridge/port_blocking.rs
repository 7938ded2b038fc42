//! `bridge.port_blocking`: a bridge port is disabled, blocking or listening.

use super::{FORWARD, refused};
use crate::case::Space;
use crate::coverage::Source;
use crate::reconcile::BY_EVENTS;
use crate::rule::{Judgement, Rule, Suspect, manual};
use crate::rules::events::Events;
use crate::traced;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, NoteStatus, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "bridge.port_blocking",
    title: text!("A bridge port does not forward", "网桥端口不转发"),
    meaning: text!(
        "A port of a bridge is disabled, blocking, listening or learning: frames that arrive there, or should leave there, are discarded.",
        "网桥的某个端口处于 disabled、blocking、listening 或 learning 状态：到达该端口或应从该端口离开的帧被丢弃。"
    ),
    seen_by: text!(
        "The kernel reported drops for the state of the port, or the port is disabled although its link is up.",
        "内核报告了因端口状态而丢弃的帧，或端口链路正常却处于 disabled 状态。"
    ),
    why_lost: text!(
        "A port that does not forward takes no frame and sends none; nobody is told.",
        "不转发的端口既不收帧也不发帧，且不通知任何人。"
    ),
    what_to_do: text!(
        "Set the port to forwarding. With spanning tree, find out why it does not choose the port: a second path, BPDU guard, or the forward delay after the link came up.",
        "将端口设为 forwarding。若启用了生成树，查明它为何不选用该端口：存在第二条路径、BPDU guard，或链路启用后的转发延迟。"
    ),
    when_wrong: text!(
        "Spanning tree blocks the spare path of a ring on purpose; what arrives there arrives on the other path, too.",
        "生成树有意阻塞环路中的备用路径；到达那里的帧也会从另一条路径到达。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], consequence_of: &[], judge };

/// Where it happens.
const STAGE: &str = "bridge.receive";
/// State that no spanning tree leaves by itself: somebody set it, or BPDU guard did.
const DISABLED: &str = "disabled";
const FORWARDING: &str = "forwarding";

const SUMMARY: Text = text!(
    "Bridge port {port} does not forward: what arrives there, or should leave there, is discarded.",
    "网桥端口 {port} 不转发：到达该端口或应从该端口离开的帧被丢弃。"
);
const STATE: Text =
    text!("port {port} is {state}, and its link is up", "端口 {port} 处于 {state} 状态，而其链路正常");
const DO: Text = text!(
    "let the port forward: bridge link set dev {port} state 3",
    "让端口转发：bridge link set dev {port} state 3"
);
const SPARE: Text = text!(
    "spanning tree keeps this port {state}: {n} frames were discarded there, as is meant for a spare path",
    "生成树使该端口处于 {state} 状态：在此丢弃了 {n} 个帧，备用路径本应如此"
);
const LATENT: Text = text!(
    "this port is disabled although its link is up; no frame met it in the window",
    "该端口处于 disabled 状态而其链路正常；窗口内没有帧到达"
);

fn judge(space: Space<'_>) -> Judgement {
    let events = Events::of(space, &CAUSE);
    let mut out = Judgement::default();
    let mut met: Vec<(u32, [u64; 2])> =
        events.by_link().into_iter().map(|(link, arrived)| (link, [arrived, 0])).collect();
    let closed = |port: &Link| port.up && port.lower_up && state(space, port) != FORWARDING;
    for refused in refused(space).into_iter().filter(|refused| closed(refused.egress)) {
        match met.iter_mut().find(|(link, _)| *link == refused.egress.index) {
            Some((_, [_, leaving])) => *leaving += refused.drops,
            None => met.push((refused.egress.index, [0, refused.drops])),
        }
    }
    for (link, [arrived, leaving]) in &met {
        let drops = &(arrived + leaving);
        let port = space.after.link(*link);
        let state = port.map_or("", |port| state(space, port));
        if port.is_some_and(|port| is_spare(space, port, state)) && !traced::end_by(space, CAUSE.id) {
            let words: [(&str, &dyn std::fmt::Display); 2] = [("state", &state), ("n", drops)];
            let name = space.after.link_name(*link);
            out.note(space, &CAUSE, NoteStatus::Benign, &name, SPARE.fill(&words));
            out.excuse(space, STAGE, *drops);
            continue;
        }
        let reason = if *arrived > 0 { events.reason() } else { "NOT_SPECIFIED" };
        let mut suspect = suspect(space, *link, state).drop_events(*drops, reason);
        if *leaving > 0 {
            suspect.finding.stage = FORWARD.to_owned();
        }
        out.suspects.push(suspect.packets(*drops, BY_EVENTS).touches(space.probes_via(*link)));
    }
    // Where nobody saw drops, the state of the port and a lost probe on its way say the same.
    for port in space.links().filter(|port| is_switched_off(space, port)) {
        if met.iter().any(|(link, _)| *link == port.index) {
            continue;
        }
        let lost = |i: &usize| space.case.ways.get(*i).is_some_and(|way| way.lost() > 0);
        let probes: Vec<usize> = space.probes_via(port.index).into_iter().filter(lost).collect();
        if probes.is_empty() {
            out.note(space, &CAUSE, NoteStatus::Latent, &port.name, LATENT.phrase());
        } else {
            out.suspects.push(suspect(space, port.index, DISABLED).touches(probes).needs_probe());
        }
    }
    out
}

fn suspect(space: Space<'_>, link: u32, state: &str) -> Suspect {
    let port = space.after.link_name(link);
    let words: [(&str, &dyn std::fmt::Display); 2] = [("port", &port), ("state", &state)];
    let mut fix = manual(DO);
    fix.title = DO.fill(&words);
    let suspect = Suspect::new(space, &CAUSE, STAGE, port.clone(), SUMMARY.fill(&words))
        .direction(Direction::Receive)
        .on(link)
        .fix(fix);
    if state.is_empty() || state == FORWARDING {
        return suspect;
    }
    suspect.evidence(STATE.fill(&words), "links", &["bridge", "-d", "link", "show", "dev", &port])
}

/// The state of a port; at the start of the window, if it forwards at the end.
fn state<'a>(space: Space<'a>, port: &'a Link) -> &'a str {
    let of = |link: &'a Link| link.details.get("port_state").map(String::as_str);
    let before = space.before.link(port.index).and_then(of);
    let after = of(port).unwrap_or("");
    before.filter(|_| after == FORWARDING).unwrap_or(after)
}

/// True if spanning tree, and nobody else, holds the port back.
fn is_spare(space: Space<'_>, port: &Link, state: &str) -> bool {
    let bridge = port.master.and_then(|index| space.after.link(index));
    let stp = bridge.and_then(|bridge| bridge.details.get("stp"));
    stp.is_some_and(|stp| stp != "0") && state != DISABLED
}

/// True if the port is disabled all the time, although its link is up: without carrier each port is.
fn is_switched_off(space: Space<'_>, port: &Link) -> bool {
    let off = |port: &Link| {
        port.up && port.lower_up && port.details.get("port_state").is_some_and(|state| state == DISABLED)
    };
    off(port) && space.before.link(port.index).is_some_and(off)
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::{Reading, Verdict};

    /// eth0 of the server is a port of br0.
    fn bridged(state: &str, stp: &str) -> World {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            let mut bridge = veth(9, "br0", 0);
            (bridge.kind, bridge.link, bridge.link_netnsid) = (Some("bridge".into()), None, None);
            bridge.details.insert("stp".into(), stp.into());
            links.push(bridge);
            let port = links.iter_mut().find(|l| l.index == 2).unwrap();
            port.master = Some(9);
            port.details.insert("port_state".into(), state.into());
        });
        world
    }

    #[test]
    fn a_disabled_port_is_found_by_its_drops_and_they_are_explained() {
        let mut world = bridged("disabled", "0");
        world.drops(SERVER, "BRIDGE_INGRESS_STP_STATE", "br_handle_frame", 12);
        assert_eq!(world.found(), ["bridge.port_blocking @ netns:server: eth0"]);
        let report = world.report();
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (12, 0));
        assert!(report.findings[0].confidence >= 0.8, "the kernel and the state of the port agree");
    }

    #[test]
    fn without_drop_events_a_lost_probe_is_the_witness() {
        let mut world = bridged("disabled", "0");
        world.observation.drops = Reading::Denied("CAP_BPF".into());
        world.probe("tcp://10.0.0.2:80", 20, 20);
        assert_eq!(world.found(), ["bridge.port_blocking @ netns:server: eth0"]);
        assert_eq!(world.report().ledger.unexplained, 0);
    }

    #[test]
    fn a_spare_path_is_a_note_and_its_drops_are_no_loss() {
        let mut world = bridged("blocking", "1");
        world.drops(SERVER, "BRIDGE_INGRESS_STP_STATE", "br_handle_frame", 300);
        let report = world.report();
        assert_eq!((report.verdict, report.ledger.unexplained), (Verdict::Clear, 0));
        assert!(report.notes.iter().any(|n| n.cause.as_deref() == Some("bridge.port_blocking")));
    }

    #[test]
    fn a_disabled_port_that_nothing_meets_is_latent_and_one_without_carrier_is_nothing() {
        let report = bridged("disabled", "0").report();
        assert_eq!((report.verdict, report.notes.len()), (Verdict::Clear, 1), "{:?}", report.notes);
        let mut world = bridged("disabled", "0");
        world.both(SERVER, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            links.iter_mut().filter(|l| l.index == 2).for_each(|l| l.lower_up = false);
        });
        let notes = world.report().notes;
        assert!(notes.iter().all(|n| n.cause.as_deref() != Some("bridge.port_blocking")), "{notes:?}");
    }
}
