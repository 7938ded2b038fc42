//! `xdp.drop`: an XDP program drops.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::missing::Frame;
use crate::loss::{FRAMES, Kind, Loss};
use crate::rule::{Judgement, Rule};
use whydrop_facts::place;
use whydrop_model::delta::Change;
use whydrop_model::snapshot::{Link, Xdp};
use whydrop_model::{Cause, Direction, DropEvent, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "xdp.drop",
    title: text!("An XDP program drops", "XDP 程序丢弃数据包"),
    meaning: text!(
        "A BPF program attached to an interface with XDP decides on each frame before the kernel's stack sees it.",
        "通过 XDP 挂载在接口上的 BPF 程序，在内核协议栈看到之前就决定每个帧的去留。"
    ),
    seen_by: text!(
        "An interface has an XDP program, and the driver's xdp_drop counters rose or the kernel reported drops in do_xdp_generic.",
        "接口挂有 XDP 程序，且驱动的 xdp_drop 计数增加，或内核报告了 do_xdp_generic 中的丢弃。"
    ),
    why_lost: text!(
        "Frames that the program refuses are gone before tcpdump, tc and iptables can see them.",
        "被程序拒绝的帧在 tcpdump、tc 和 iptables 看到之前就已消失。"
    ),
    what_to_do: text!(
        "Detach the program (ip link set dev DEV xdp off) or mend it.",
        "卸载该程序（ip link set dev DEV xdp off）或修正它。"
    ),
    when_wrong: text!(
        "A load balancer or a shield against attacks drops on purpose.",
        "负载均衡或抗攻击程序有意丢弃时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Ethtool], judge };

const SUMMARY: Text =
    text!("An XDP program on {dev} drops incoming frames.", "{dev} 上的 XDP 程序丢弃入站帧。");
const ATTACHED: Text =
    text!("{dev} has an XDP program, id {id} ({mode})", "{dev} 挂有 XDP 程序，id {id}（{mode}）");
const COUNTED: Text = text!("the driver counted {n} frames dropped by XDP", "驱动计数：XDP 丢弃 {n} 帧");
const SUMMARY_SENT: Text = text!(
    "An XDP program on {dev} takes incoming frames and sends them elsewhere.",
    "{dev} 上的 XDP 程序取走入站帧并发往别处。"
);
const SENT: Text = text!(
    "the driver counted {n} frames that the program sent back or to another interface",
    "驱动计数：程序把 {n} 个帧发回或转到其他接口"
);
const VANISHED: Text = text!(
    "what comes to {dev} is lost, and no place behind the program saw it die",
    "到达 {dev} 的包丢失，而程序之后没有任何环节见到它们被丢弃"
);
/// What a program does without a counter is known by exclusion only.
const BY_EXCLUSION: f64 = 0.7;
const DETACH: Text =
    text!("detach the program: ip link set dev {dev} xdp off", "卸载该程序：ip link set dev {dev} xdp off");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let attached = space.links().filter_map(|link| Some((link, link.xdp.as_ref()?)));
    attached.map(|(link, xdp)| culprit(space, link, xdp)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, link: &'a Link, xdp: &'a Xdp) -> Culprit<'a> {
    let dev = link.name.as_str();
    let counted = driver_counted(space, dev, &["drop"]);
    let sent = driver_counted(space, dev, &["_tx", "redirect"]);
    let events = space.losses().any(|loss| is_here(space, link, loss));
    // What a native program sends on and its driver cannot send stands there, among other things.
    let frames = if xdp.mode == GENERIC { 0 } else { space.link_rise(link, FRAMES) };
    let drops = counted > 0 || events || frames > 0;
    let culprit = Culprit::new(space, &CAUSE, "xdp.receive", Scope::Rule, dev.to_owned())
        .direction(Direction::Receive)
        .on(link.index)
        .takes(move |loss| takes(space, link, loss))
        .harms(move |flow| match flow.suffers() && flow.passes(space, link.index) {
            true if counted > 0 || events => Fit::Yes,
            // A driver that counts, and counted none, was not told to send one.
            true if frames + sent > 0 || xdp.mode == GENERIC && !flow.leaves_sight() => Fit::Maybe,
            _ => Fit::No,
        })
        .tell(move |_| {
            let mut detach = manual(DETACH);
            detach.title = DETACH.fill(&[("dev", &dev)]);
            let id = xdp.program.map_or_else(|| "?".to_owned(), |id| id.to_string());
            let attached = ATTACHED.fill(&[("dev", &dev), ("id", &id), ("mode", &xdp.mode)]);
            let summary = if drops { SUMMARY } else { SUMMARY_SENT };
            let story = Story::new(summary.fill(&[("dev", &dev)]))
                .evidence(attached, "links", &["ip", "link", "show", "dev", dev])
                .fix(detach);
            let show = ["ethtool", "-S", dev];
            match (counted, sent) {
                (0, 0) if drops => story,
                (0, 0) => story.evidence(VANISHED.fill(&[("dev", &dev)]), "flows", &[]),
                (0, n) => story.evidence(SENT.fill(&[("n", &n)]), "ethtool", &show),
                (n, _) => story.evidence(COUNTED.fill(&[("n", &n)]), "ethtool", &show),
            }
        });
    // The driver counts what it drops itself; what the stack drops for the program it reports.
    match counted {
        0 if events => culprit,
        0 if frames > 0 => culprit.meter(frames, Count::AtMost, "rx_dropped"),
        0 if sent > 0 => culprit.meter(sent, Count::AtMost, "driver counter").needs_harm(),
        0 => culprit.needs_harm().at_most(BY_EXCLUSION),
        frames if events => culprit.meter(frames, Count::AtLeast, "driver counter"),
        frames => culprit.meter(frames, Count::Exact, "driver counter"),
    }
}

/// What runs in the stack and not in the driver (`do_xdp_generic()`): nobody counts what it sends.
const GENERIC: &str = "generic";

/// True if the place of the drop is this program, as far as it tells.
fn is_here(space: Space<'_>, link: &Link, loss: &Loss<'_>) -> bool {
    loss.is_in(space) && loss.is_of(CAUSE.id) && loss.link.is_none_or(|index| index == link.index)
}

/// What the program refuses is gone before there is a packet; only the interface's own counter may have it.
fn takes(space: Space<'_>, link: &Link, loss: &Loss<'_>) -> Fit {
    let frames = loss.kind == Kind::Frames && loss.is_at(space, link.index);
    match is_here(space, link, loss) {
        true if loss.link.is_none() => Fit::Maybe,
        true => Fit::Yes,
        false if refuses_alike(space, link, loss) => Fit::Yes,
        false if frames || loss.is_imagined_at(space, link.index) => Fit::Maybe,
        false => Fit::No,
    }
}

/// True for a packet that was never sent if the program was seen to refuse others of its protocol: ARP has none. In a
/// namespace that nobody asked about what it took is no loss of its own.
fn refuses_alike(space: Space<'_>, link: &Link, loss: &Loss<'_>) -> bool {
    let protocol = match &loss.frame {
        Some(Frame::Arp { .. }) => None,
        Some(Frame::Ip(Some(packet))) => Some(packet.protocol),
        _ => return false,
    };
    let alike = |event: &DropEvent| {
        let here = event.link.is_none_or(|index| index == link.index) && event.protocol == protocol;
        here && place::of_event(event).cause == Some(CAUSE.id)
    };
    loss.is_imagined_at(space, link.index) && space.drop_events().any(alike)
}

/// Rise of the driver's XDP counters of one kind: `rx_queue_0_xdp_drops` of veth, `rx_xdp_drop` of mlx5 and others.
fn driver_counted(space: Space<'_>, dev: &str, kinds: &[&str]) -> u64 {
    let (before, after) = (space.before.ethtool.get(), space.after.ethtool.get());
    let Some((before, after)) = before.zip(after).and_then(|(b, a)| Some((b.get(dev)?, a.get(dev)?))) else {
        return 0;
    };
    let counts = |name: &str| {
        let received = name.starts_with("rx") && name.contains("xdp");
        received && kinds.iter().any(|kind| name.contains(kind))
    };
    let rises = after.iter().filter(|(name, _)| counts(name));
    rises.map(|(name, now)| Change::of(before.get(name).copied(), Some(*now)).risen()).sum()
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use std::collections::BTreeMap;
    use whydrop_model::snapshot::Xdp;
    use whydrop_model::{Reading, Verdict};

    fn world(drops: u64) -> World {
        let mut world = World::pair();
        let counters = |n: u64| BTreeMap::from([("rx_queue_0_xdp_drops".to_owned(), n)]);
        world.both(SERVER, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            let eth0 = links.iter_mut().find(|link| link.index == 2).unwrap();
            eth0.xdp = Some(Xdp { mode: "native".into(), program: Some(9) });
            s.ethtool = Reading::Present(BTreeMap::from([("eth0".to_owned(), counters(0))]));
        });
        world.after(SERVER, |s| {
            s.ethtool = Reading::Present(BTreeMap::from([("eth0".to_owned(), counters(drops))]));
        });
        world
    }

    #[test]
    fn the_driver_s_counter_or_the_kernel_s_account_speaks() {
        let world = world(7);
        assert_eq!(world.found(), ["xdp.drop @ netns:server: eth0"]);
        assert_eq!(world.report().ledger.lost, 7);
        let mut generic = self::world(0);
        generic.drops(SERVER, "XDP", "do_xdp_generic", 4);
        assert_eq!(generic.found(), ["xdp.drop @ netns:server: eth0"]);
        assert_eq!(generic.report().ledger.lost, 4);
    }

    #[test]
    fn a_program_that_sends_frames_back_is_told_by_the_driver_or_by_exclusion() {
        let asks = |mode: &str, tx: u64, fails: bool| {
            let mut world = world(0);
            world.both(SERVER, |s| {
                let Reading::Present(links) = &mut s.links else { return };
                let eth0 = links.iter_mut().find(|link| link.index == 2).unwrap();
                eth0.xdp = Some(Xdp { mode: mode.into(), program: Some(9) });
            });
            let sent = |n: u64| {
                let counters = BTreeMap::from([("rx_queue_0_xdp_tx".to_owned(), n)]);
                Reading::Present(BTreeMap::from([("eth0".to_owned(), counters)]))
            };
            world.both(SERVER, |s| s.ethtool = sent(0));
            world.after(SERVER, |s| s.ethtool = sent(tx));
            let talk = world.talk(CLIENT, "10.0.0.2:80");
            (talk.attempts, talk.syn_repeats) = (5, 5);
            (talk.failed, talk.established) = if fails { (5, 0) } else { (0, 5) };
            if !fails {
                talk.syn_repeats = 0;
            }
            world.found()
        };
        let told = ["xdp.drop @ netns:server: eth0"];
        assert_eq!(asks("native", 10, true), told);
        assert_eq!(asks("generic", 0, true), told);
        assert_eq!(asks("native", 0, true), Vec::<String>::new(), "it counted none");
        assert_eq!(asks("native", 10, false), Vec::<String>::new(), "a load balancer at work");
        assert_eq!(asks("generic", 0, false), Vec::<String>::new());
    }

    #[test]
    fn a_program_that_drops_nothing_is_no_finding() {
        assert_eq!(world(0).report().verdict, Verdict::Clear);
    }
}
