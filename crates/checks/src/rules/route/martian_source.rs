//! `route.martian_source`: packets with impossible source addresses.

use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule};
use crate::rules::container::route_localnet;
use crate::rules::events::{Events, by_these_events};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.martian_source",
    title: text!("Packets with impossible source addresses", "源地址不可能的数据包"),
    meaning: text!(
        "Packets arrive with a source address that nobody else can have: loopback, broadcast or this machine's own.",
        "到达的包使用了他人不可能拥有的源地址：回环、广播或本机自己的地址。"
    ),
    seen_by: text!(
        "The kernel reported drops for an invalid or local source.",
        "内核报告了因源地址无效或为本机地址而丢弃的包。"
    ),
    why_lost: text!("The kernel refuses such packets without an answer.", "内核拒绝这样的包且不作应答。"),
    what_to_do: text!(
        "Find the sender: log_martians shows the interface and the link-layer address. Mend its address or its NAT.",
        "查找发送方：log_martians 会显示接口和链路层地址。修正其地址或 NAT。"
    ),
    when_wrong: text!("A scan with forged addresses is rightly refused.", "伪造地址的扫描被拒绝是正确的。"),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::DropEvents], consequence_of: &["route.loop"], judge };

const SUMMARY: Text = text!(
    "Packets with impossible source addresses arrive and are discarded.",
    "收到源地址不可能的包，已被丢弃。"
);
const DO: Text = text!(
    "find the sender: sysctl -w net.ipv4.conf.all.log_martians=1 logs its link-layer address",
    "查找发送方：sysctl -w net.ipv4.conf.all.log_martians=1 会记录其链路层地址"
);

fn judge(space: Space<'_>) -> Judgement {
    let mut mine = Events::of(space, &CAUSE);
    let loopback = Events::of(space, &route_localnet::CAUSE);
    if route_localnet::came_from_loopback(&loopback) {
        mine = mine.and(loopback);
    }
    by_these_events(space, &CAUSE, &mine, "route.input", &[], SUMMARY, DO)
}
