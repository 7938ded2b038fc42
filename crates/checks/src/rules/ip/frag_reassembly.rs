//! `ip.frag_reassembly`: packets in fragments are never whole.

use crate::coverage::Source;
use crate::culprit::Missing;
use crate::evidence::case::Space;
use crate::evidence::translate::Translators;
use crate::evidence::way::{Ends, Way};
use crate::loss::missing;
use crate::rule::{Judgement, Rule};
use crate::rules::events::{Events, by_events};
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "ip.frag_reassembly",
    title: text!("Fragmented packets are never whole", "分片的数据包无法重组"),
    meaning: text!(
        "Fragments wait for the rest of their packet, which does not come in time or has no room.",
        "分片在等待同一数据包的其余部分，但后者没有按时到达，或没有内存存放。"
    ),
    seen_by: text!(
        "The kernel reported fragments that it gave up, or could not keep, while it put packets together.",
        "内核报告在重组数据包时放弃了分片，或无法保存分片。"
    ),
    why_lost: text!(
        "A packet with a missing fragment is lost as a whole; the sender of UDP learns nothing of it.",
        "缺少一个分片，整个数据包就丢失；UDP 的发送方对此一无所知。"
    ),
    what_to_do: text!(
        "Find who drops the other fragments: a firewall that lets only the first through, a full queue. Better send packets that need no fragments. If the memory is full, raise ipfrag_high_thresh.",
        "查找谁丢弃了其余分片：只放行首个分片的防火墙，或已满的队列。更好的做法是发送无需分片的包。如果内存已满，提高 ipfrag_high_thresh。"
    ),
    when_wrong: text!(
        "Fragments that an attacker sends are never meant to be whole.",
        "攻击者发送的分片本来就不打算凑齐。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents], judge };

/// Ways of this many packets are looked at for the other fragments.
const MOST_WAYS: usize = 16;

const SUMMARY: Text =
    text!("Fragments arrive whose packets are never whole.", "收到分片，但其数据包始终无法重组完整。");
const DO: Text = text!(
    "find who drops the other fragments, or send smaller packets; compare FRAG memory in /proc/net/sockstat with net.ipv4.ipfrag_high_thresh",
    "查找谁丢弃了其余分片，或发送更小的包；将 /proc/net/sockstat 的 FRAG memory 与 net.ipv4.ipfrag_high_thresh 比较"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let seen = Events { stage: "ip.reassembly", counters: &[], protocol: None, summary: SUMMARY, advice: DO };
    by_events(space, &CAUSE, seen).map(|culprit| culprit.misses(others(space))).into()
}

/// The other fragments, on the way of each packet of which some came.
fn others(space: Space<'_>) -> Missing<'_> {
    let lost = space.losses().filter(|loss| loss.is_of(CAUSE.id)).filter_map(|loss| loss.event);
    let ends: BTreeSet<(u8, IpAddr, IpAddr)> = lost
        .filter_map(|event| Some((event.protocol?, event.source?.ip(), event.destination?.ip())))
        .take(MOST_WAYS)
        .collect();
    let nat = Translators::of(space.case);
    let missing = ends.into_iter().flat_map(|(protocol, from, to)| {
        let ends = Ends { protocol, source: (Some(from), None), destination: (to, None) };
        let sender = space.case.owners(from).next();
        let way = match sender {
            Some(sender) => Way::of(usize::MAX, &nat, sender, ends),
            None => Way::inbound(usize::MAX, space, ends),
        };
        missing::on_way(space.case, &way, |packet| !packet.reply)
    });
    missing.collect()
}
