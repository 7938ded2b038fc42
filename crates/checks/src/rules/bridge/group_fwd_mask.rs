//! `bridge.group_fwd_mask`: the bridge keeps frames to the reserved group addresses.

use super::FORWARD;
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use crate::tell::BY_EVENTS;
use std::collections::BTreeMap;
use whydrop_model::snapshot::{Link, Protocol, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "bridge.group_fwd_mask",
    title: text!(
        "The bridge does not pass on frames to reserved group addresses",
        "网桥不转发发往保留组地址的帧"
    ),
    meaning: text!(
        "Frames to 01:80:c2:00:00:00 to 0f (LLDP, EAPOL, LACP) are for the next bridge and not passed on by it, unless it is told to.",
        "发往 01:80:c2:00:00:00 至 0f 的帧（LLDP、EAPOL、LACP）只给下一个网桥，除非另行设置，网桥不会转发。"
    ),
    seen_by: text!(
        "The kernel dropped such frames at a port, a program in view behind another port of the same bridge waits for their protocol, and the bit of their address is not set in group_fwd_mask.",
        "内核在某端口丢弃了这样的帧，同一网桥另一端口之后有可见的程序在等待该协议，而 group_fwd_mask 中对应的位未设置。"
    ),
    why_lost: text!(
        "IEEE 802.1D keeps these addresses on one link. A virtual machine or container behind a bridge that speaks 802.1X or LLDP with the outside is cut off by that.",
        "IEEE 802.1D 规定这些地址只在一段链路内有效。网桥之后的虚拟机或容器若要与外部进行 802.1X 或 LLDP 通信，就会因此中断。"
    ),
    what_to_do: text!(
        "Set the bit: ip link set BRIDGE type bridge group_fwd_mask MASK (0x4000 for LLDP, 0x8 for EAPOL). STP, pause and LACP frames (bits 0 to 2) can be let through per port only.",
        "设置对应的位：ip link set 网桥 type bridge group_fwd_mask 掩码（LLDP 为 0x4000，EAPOL 为 0x8）。STP、pause 和 LACP（第 0 至 2 位）只能按端口放行。"
    ),
    when_wrong: text!(
        "When the program only wants what is sent on its own link.",
        "程序只关心自己链路上的帧时。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Links, Source::DropEvents, Source::RawSockets], judge };

/// Ethertypes whose frames go to a reserved group, with the bit of its usual address and their name: IEEE 802.1AB,
/// 802.1X, 802.3 slow protocols.
const RESERVED: [(u16, u32, &str); 3] = [(0x88cc, 14, "LLDP"), (0x888e, 3, "EAPOL"), (0x8809, 2, "LACP")];
/// Bits that a bridge as a whole may not let through (BR_GROUPFWD_RESTRICTED).
const RESTRICTED: u32 = 2;

const SUMMARY: Text = text!(
    "The bridge {bridge} keeps {protocol} frames that come by {port}; {target} waits for them.",
    "网桥 {bridge} 不转发从 {port} 到达的 {protocol} 帧；{target} 在等待它们。"
);
const DROPPED: Text =
    text!("at least {n} {protocol} frames ended at {port}", "至少有 {n} 个 {protocol} 帧在 {port} 终止");
const MASK: Text = text!(
    "group_fwd_mask of {bridge} is {mask}, without bit {bit}",
    "{bridge} 的 group_fwd_mask 为 {mask}，未设置第 {bit} 位"
);
const WAITS: Text =
    text!("a program in {target} has a socket for {protocol}", "{target} 中有程序打开了 {protocol} 的套接字");
const SET: Text = text!(
    "let them pass: ip link set {bridge} type bridge group_fwd_mask {wanted}",
    "放行：ip link set {bridge} type bridge group_fwd_mask {wanted}"
);
const SET_PORT: Text = text!(
    "let them pass by the port: echo {wanted} > /sys/class/net/{port}/brport/group_fwd_mask",
    "按端口放行：echo {wanted} > /sys/class/net/{port}/brport/group_fwd_mask"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut met: BTreeMap<(u32, u16), u64> = BTreeMap::new();
    let sampled = space.case.drop_log().into_iter().flat_map(|log| &log.sampled);
    for event in sampled.filter(|event| event.netns_inode == Some(space.inode())) {
        if let Some((link, ethertype)) = event.link.zip(event.ethertype) {
            *met.entry((link, ethertype)).or_default() += 1;
        }
    }
    let found = met.into_iter().filter_map(|((link, ethertype), n)| {
        let kept = Kept::of(space, link, ethertype)?;
        Some(kept.culprit(n))
    });
    found.collect::<Vec<_>>().into()
}

#[derive(Clone, Copy)]
struct Kept<'a> {
    space: Space<'a>,
    bridge: &'a Link,
    port: &'a Link,
    protocol: &'static str,
    bit: u32,
    mask: u32,
    there: Space<'a>,
}

impl<'a> Kept<'a> {
    fn of(space: Space<'a>, link: u32, ethertype: u16) -> Option<Self> {
        let (_, bit, protocol) = RESERVED.into_iter().find(|(number, ..)| *number == ethertype)?;
        let port = space.after.link(link)?;
        let bridge = space.after.link(port.master?).filter(|link| link.kind.as_deref() == Some("bridge"))?;
        let mask = |link: &Link| {
            let text = link.details.get("group_fwd_mask").map_or("0x0", String::as_str);
            u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        };
        let mask = mask(bridge)? | mask(port)?;
        let others = space.links().filter(|l| l.master == port.master && l.index != link);
        let wants = |socket: &Socket| socket.protocol == Protocol::Packet(ethertype);
        let mut waiting = others.filter_map(|other| space.peer(other)).map(|(there, _)| there);
        let there = waiting.find(|there| there.after.raw_sockets.iter().any(wants))?;
        (mask & 1 << bit == 0).then_some(Self { space, bridge, port, protocol, bit, mask, there })
    }

    fn culprit(self, n: u64) -> Culprit<'a> {
        let Self { space, bridge, port, protocol, .. } = self;
        Culprit::new(space, &CAUSE, FORWARD, Scope::Link, format!("{} ({protocol})", bridge.name))
            .direction(Direction::Forward)
            .on(port.index)
            .concerns(
                self.there.is_target() || space.peer(port).is_some_and(|(sender, _)| sender.is_target()),
            )
            // To the kernel they are frames that nobody handles, and no loss.
            .meter(n, Count::AtLeast, BY_EVENTS)
            .tell(move |_| self.story(n))
    }

    fn story(self, n: u64) -> Story {
        let Self { bridge, port, protocol, bit, mask, there, .. } = self;
        let (mask_now, wanted) = (format!("{mask:#x}"), format!("{:#x}", mask | 1 << bit));
        let words: [(&str, &dyn std::fmt::Display); 8] = [
            ("bridge", &bridge.name),
            ("port", &port.name),
            ("protocol", &protocol),
            ("target", &there.target().id),
            ("n", &n),
            ("mask", &mask_now),
            ("bit", &bit),
            ("wanted", &wanted),
        ];
        let advice = if bit <= RESTRICTED { SET_PORT } else { SET };
        Story::new(SUMMARY.fill(&words))
            .evidence(DROPPED.fill(&words), BY_EVENTS, &[])
            .evidence(MASK.fill(&words), "links", &["ip", "-d", "link", "show", "dev", &bridge.name])
            .evidence(WAITS.fill(&words), "raw_sockets", &["ss", "-0"])
            .fix(by_hand(advice.fill(&words)))
    }
}
