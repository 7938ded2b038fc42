//! `nic.offload`: an offload breaks packets on this path.

use crate::coverage::Source;
use crate::culprit::Story;
use crate::evidence::case::Space;
use crate::evidence::damage::{self, Damage};
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use crate::rules::damaged;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, DropEvent, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "nic.offload",
    title: text!("An offload breaks packets on this path", "网卡卸载功能破坏了该路径上的包"),
    meaning: text!(
        "The sender's stack leaves the checksum of a packet to its network card, and no card on the way completes it.",
        "发送方协议栈把校验和留给网卡计算，而途中没有网卡完成它。"
    ),
    seen_by: text!(
        "Dropped packets carry the checksum of the pseudo header alone, which is what the stack writes for a device to complete.",
        "被丢弃的包只带有伪首部的校验和，这正是协议栈留给设备补全的值。"
    ),
    why_lost: text!(
        "A device or program on the way (a packet socket that passes frames on, a tunnel, a faulty driver) takes the unfinished packet to the wire; the receiver finds a wrong checksum and discards it. Small and big packets, all of them: only ICMP, whose checksum is never offloaded, gets through.",
        "途中的设备或程序（转发帧的 packet 套接字、隧道、有缺陷的驱动）把未完成的包送上线路；接收方发现校验和错误而丢弃。大小包都会受影响，只有校验和从不卸载的 ICMP 能通过。"
    ),
    what_to_do: text!(
        "Switch the checksum offload off at the sender's interface (ethtool -K DEV tx off), or let what passes the packets on complete them.",
        "在发送方接口上关闭校验和卸载（ethtool -K DEV tx off），或让转发包的程序补全校验和。"
    ),
    when_wrong: text!(
        "A capture at the sender shows such checksums for packets that are in order.",
        "在发送方抓包会看到这样的校验和，而包本身没有问题。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents], judge };

const SUMMARY: Text = text!(
    "Packets from {sender} arrive with a checksum that its offload left unfinished.",
    "来自 {sender} 的包到达时，其校验和未被卸载功能完成。"
);
const PARTIAL: Text = text!(
    "a dropped packet from {sender} carries the checksum of its pseudo header alone",
    "来自 {sender} 的一个被丢弃的包只带有伪首部的校验和"
);
const ON: Text =
    text!("tx-checksum of {dev} in {target} is {state}", "{target} 中 {dev} 的 tx-checksum 为 {state}");
const SWITCH_OFF: Text = text!(
    "switch the offload off at the sender, in {target}: ethtool -K {dev} tx off",
    "在发送方（{target}）关闭该卸载：ethtool -K {dev} tx off"
);
const SWITCH_OFF_THERE: Text = text!(
    "switch the offload off at {sender}: ethtool -K DEV tx off",
    "在 {sender} 上关闭该卸载：ethtool -K DEV tx off"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let Some(Damage::Offload(event)) = damage::of(space) else { return Judgement::default() };
    let Some(all) = damaged::alike(space, |damage| matches!(damage, Damage::Offload(_))) else {
        return Judgement::default();
    };
    Some(damaged::culprit(all, space, &CAUSE).tell(move |_| story(space, event))).into()
}

fn story<'a>(space: Space<'a>, event: &'a DropEvent) -> Story {
    let Some(sender) = event.source.map(|source| source.ip()) else {
        return Story::new(CAUSE.title.phrase());
    };
    let words = [("sender", &sender as &dyn std::fmt::Display)];
    let story = Story::new(SUMMARY.fill(&words)).evidence(PARTIAL.fill(&words), "drop events", &[]);
    let story = damaged::witnesses(space, story);
    let mut holders = space.case.spaces().filter_map(|there| {
        let link: &Link = there.links_with(sender).next()?;
        Some((there, link))
    });
    let Some((there, link)) = holders.next() else {
        return story.fix(by_hand(SWITCH_OFF_THERE.fill(&words)));
    };
    let settings = there.after.device_settings.get().and_then(|all| all.get(&link.name));
    let on = settings.and_then(|settings| settings.offloads.get("tx-checksum")).copied();
    let ends: [(&str, &dyn std::fmt::Display); 2] = [("dev", &link.name), ("target", &there.target().id)];
    let story = story.fix(by_hand(SWITCH_OFF.fill(&ends)));
    match on {
        Some(on) => {
            let state = if on { "on" } else { "off" };
            let claim = ON.fill(&[("dev", &link.name), ("target", &there.target().id), ("state", &state)]);
            story.evidence(claim, "device_settings", &["ethtool", "-k", &link.name])
        }
        None => story,
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::events::sample;
    use crate::testing::*;
    use whydrop_model::DropEvent;

    /// A SYN from 10.0.0.1 to 10.0.0.2 with this checksum, sampled as dropped by the server.
    fn dropped(checksum: u16) -> World {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[36..38].copy_from_slice(&checksum.to_be_bytes());
        let event = DropEvent {
            reason: "TCP_CSUM".into(),
            function: "tcp_v4_rcv".into(),
            protocol: Some(6),
            tcp_flags: Some(2),
            length: 40,
            packet,
            ..DropEvent::default()
        };
        let mut world = World::pair();
        world.drops(SERVER, "TCP_CSUM", "tcp_v4_rcv", 4);
        sample(&mut world, SERVER, event, "10.0.0.1:40000", "10.0.0.2:80");
        world
    }

    #[test]
    fn the_sum_of_the_pseudo_header_alone_is_an_offload_left_undone() {
        // 0a00 + 0001 + 0a00 + 0002 + 6 + 20
        let world = dropped(0x141d);
        assert_eq!(world.found(), ["nic.offload @ netns:server: eth0"]);
        assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (4, 0));
        assert_eq!(dropped(0x1234).found(), ["tcp.bad_checksum @ netns:server: eth0"]);
    }

    #[test]
    fn a_connection_that_gets_through_in_part_is_damaged_on_the_wire() {
        let mut world = dropped(0x1234);
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.established) = (5, 5);
        assert_eq!(world.found(), ["wire.corruption @ netns:server: eth0"]);
    }
}
