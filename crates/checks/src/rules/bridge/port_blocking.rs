//! `bridge.port_blocking`: a bridge port is disabled, blocking or listening.

use super::{FORWARD, is_refused, passage};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::port::{FORWARDING, is_closed_by_hand, state};
use crate::fixes::{by_hand, fix};
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, Rule};
use whydrop_model::action::Action;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, Fix, NoteStatus, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "bridge.port_blocking",
    title: text!("A bridge port does not forward", "网桥端口不转发"),
    meaning: text!(
        "A port of a bridge is disabled, blocking, listening or learning, or locked, or left out where the bridge floods: frames that arrive there, or should leave there, are discarded.",
        "网桥的某个端口处于 disabled、blocking、listening 或 learning 状态，或被锁定，或被排除在泛洪之外：到达该端口或应从该端口离开的帧被丢弃。"
    ),
    seen_by: text!(
        "The kernel reported drops for the state of the port, or the port is disabled although its link is up; or a flag of the port (locked, flood, bcast_flood) keeps back what a station in view sends or should get, and the bridge has no forwarding entry that would let it pass.",
        "内核报告了因端口状态而丢弃的帧，或端口链路正常却处于 disabled 状态；或端口的标志（locked、flood、bcast_flood）挡住了可见主机发送或应收到的帧，而网桥没有可放行的转发表项。"
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

/// Where it happens.
const STAGE: &str = "bridge.receive";

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
const FORWARD_IT: Text = text!("let the port {port} forward", "让端口 {port} 转发");
const LOOP: Text =
    text!("if it was closed because of a loop, frames circle again", "如果关闭它是因为环路，帧会再次循环");
const SPARE: Text = text!(
    "spanning tree holds this port back: {n} frames were discarded there, as is meant for a spare path",
    "生成树使该端口不转发：在此丢弃了 {n} 个帧，备用路径本应如此"
);
const LATENT: Text = text!(
    "this port is disabled although its link is up; no frame met it in the window",
    "该端口处于 disabled 状态而其链路正常；窗口内没有帧到达"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut out = Judgement::from(super::flags::culprits(space, &CAUSE));
    // The ports of a bridge that is switched off are closed with it (br_stp_disable_bridge()).
    let works =
        |port: &&Link| port.master.is_some_and(|index| space.link(index).is_none_or(|bridge| bridge.up));
    for port in space.links().filter(works) {
        let met = || space.losses().any(|loss| takes(space, port, loss) != Fit::No);
        if is_closed(space, port) || met() {
            out.culprits.push(culprit(space, port));
        }
        if is_switched_off(space, port) && !met() {
            out.note(space, &CAUSE, NoteStatus::Latent, &port.name, LATENT.phrase());
        }
    }
    out
}

fn culprit<'a>(space: Space<'a>, port: &'a Link) -> Culprit<'a> {
    let mine = space.losses().filter(|loss| takes(space, port, loss) != Fit::No);
    let leaving = mine.map(|loss| is_refused(space, loss)).min().unwrap_or(false);
    let stage = if leaving { FORWARD } else { STAGE };
    Culprit::new(space, &CAUSE, stage, Scope::Link, port.name.clone())
        .direction(Direction::Receive)
        .on(port.index)
        .duty(SPARE)
        .takes(move |loss| takes(space, port, loss))
        .harms(move |flow| match flow.suffers() && flow.passes(space, port.index) {
            true if is_switched_off(space, port) => Fit::Yes,
            // It may take the other path.
            true if is_closed(space, port) => Fit::Maybe,
            _ => Fit::No,
        })
        .tell(move |_| {
            let state = state(space, port);
            let words: [(&str, &dyn std::fmt::Display); 2] = [("port", &port.name), ("state", &state)];
            let story = Story::new(SUMMARY.fill(&words)).fix(forward(space, port));
            if state.is_empty() || state == FORWARDING {
                return story;
            }
            story.evidence(STATE.fill(&words), "links", &["bridge", "-d", "link", "show", "dev", &port.name])
        })
}

fn takes(space: Space<'_>, port: &Link, loss: &Loss<'_>) -> Fit {
    if loss.kind == Kind::Imagined {
        return match loss.is_imagined_at(space, port.index) && is_closed(space, port) {
            true if is_switched_off(space, port) => Fit::Yes,
            true => Fit::Maybe,
            false => Fit::No,
        };
    }
    let arrives = loss.is_at(space, port.index) && loss.is_of(CAUSE.id);
    let leaves = || is_refused(space, loss) && is_closed(space, port);
    sure(arrives || leaves() && passage(space, loss).is_some_and(|(_, egress)| egress.index == port.index))
}

/// One that STP blocks opens by itself, or closes a loop: only a person can tell.
fn forward(space: Space<'_>, port: &Link) -> Fix {
    let words = [("port", &port.name as &dyn std::fmt::Display)];
    if !is_switched_off(space, port) {
        return by_hand(DO.fill(&words));
    }
    let action = Action::BridgePort {
        dev: port.name.clone(),
        setting: "state".into(),
        value: FORWARDING.into(),
        was: state(space, port).into(),
    };
    let mut fix = fix(space, FORWARD_IT.fill(&words), vec![action]);
    fix.caution = Some(LOOP.phrase());
    fix
}

/// True if the port does not forward although its link is up: without carrier none does.
fn is_closed(space: Space<'_>, port: &Link) -> bool {
    port.up && port.lower_up && !matches!(state(space, port), FORWARDING | "")
}

/// True if the port is disabled all the time, by nobody but him who set it.
fn is_switched_off(space: Space<'_>, port: &Link) -> bool {
    let closed = |port: &Link| {
        let state = port.details.get("port_state").map_or("", String::as_str);
        port.up && port.lower_up && !matches!(state, FORWARDING | "")
    };
    closed(port) && space.before.link(port.index).is_some_and(closed) && is_closed_by_hand(space, port)
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
    fn the_ports_of_a_bridge_that_is_switched_off_are_closed_with_it() {
        let mut world = bridged("disabled", "0");
        world.both(SERVER, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            links.iter_mut().filter(|l| l.index == 9).for_each(|l| l.up = false);
        });
        world.drops(SERVER, "BRIDGE_INGRESS_STP_STATE", "br_handle_frame", 12);
        assert_eq!(world.found(), ["link.admin_down @ netns:server: br0"]);
        assert_eq!(world.report().ledger.unexplained, 0);
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
