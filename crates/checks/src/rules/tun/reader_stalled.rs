//! `tun.reader_stalled`: the program behind a tun or tap device does not read.

use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use crate::rules::events::{Events, by_events};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tun.reader_stalled",
    title: text!("The program behind a tun or tap device does not read", "tun 或 tap 设备背后的程序不读取"),
    meaning: text!(
        "A VPN or a virtual machine reads its tun device too slowly or not at all.",
        "VPN 或虚拟机读取其 tun 设备过慢或完全不读。"
    ),
    seen_by: text!(
        "The kernel reported a full ring of a tun or tap device.",
        "内核报告 tun 或 tap 设备的环形缓冲区已满。"
    ),
    why_lost: text!(
        "The ring takes as many packets as txqueuelen; further ones are dropped.",
        "环形缓冲区最多容纳 txqueuelen 个包，超出的被丢弃。"
    ),
    what_to_do: text!(
        "Look at the program: is it stopped, starved of CPU, hung? Raise txqueuelen for bursts.",
        "检查该程序：是否停止、缺少 CPU、挂起？针对突发可提高 txqueuelen。"
    ),
    when_wrong: text!("A guest that is starting does not read yet.", "正在启动的虚拟机还不会读取。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents], judge };

const SUMMARY: Text =
    text!("The program behind a tun device does not read fast enough.", "tun 设备背后的程序读取不够快。");
const DO: Text = text!(
    "see if the program behind the device is stopped or starved of CPU; raise txqueuelen for bursts",
    "检查设备背后的程序是否停止或缺少 CPU；针对突发可提高 txqueuelen"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let seen = Events { stage: "tun.transmit", counters: &[], protocol: None, summary: SUMMARY, advice: DO };
    by_events(space, &CAUSE, seen).into()
}

#[cfg(test)]
mod tests {
    use crate::testing::*;

    #[test]
    fn a_full_ring_is_its_reader_s() {
        let mut world = World::pair();
        world.drops(SERVER, "FULL_RING", "tun_net_xmit", 5);
        assert_eq!(world.found(), ["tun.reader_stalled @ netns:server: eth0"]);
        assert_eq!(world.report().ledger.lost, 5);
    }
}
