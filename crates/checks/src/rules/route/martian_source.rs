//! `route.martian_source`: packets with impossible source addresses.

use super::has_loopback_source;
use crate::coverage::Source;
use crate::culprit::Missing;
use crate::evidence::case::Space;
use crate::evidence::packet::Packet;
use crate::loss::{Loss, missing};
use crate::rule::{Judgement, Rule};
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents], judge };

const SUMMARY: Text = text!(
    "Packets with impossible source addresses arrive and are discarded.",
    "收到源地址不可能的包，已被丢弃。"
);
const DO: Text = text!(
    "find the sender: sysctl -w net.ipv4.conf.all.log_martians=1 logs its link-layer address",
    "查找发送方：sysctl -w net.ipv4.conf.all.log_martians=1 会记录其链路层地址"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let seen = Events { stage: "route.input", counters: &[], protocol: None, summary: SUMMARY, advice: DO };
    // What somebody sends to himself by way of a translator is that one's matter.
    let returns = move |loss: &Loss<'_>| {
        let flow = loss.flow.and_then(|flow| space.case.flows.get(flow));
        flow.is_some_and(|flow| flow.returns_home())
    };
    let culprit = by_these_events(space, &CAUSE, seen, move |loss| is_mine(loss) && !returns(loss));
    culprit.map(|culprit| culprit.misses(gone_on(space))).into()
}

/// The kernel has one name for a loopback address at either end (ip_route_input_slow()).
fn is_mine(loss: &Loss<'_>) -> bool {
    loss.is_of(CAUSE.id) || (loss.is_at_stage("route.input") && loss.event.is_some_and(has_loopback_source))
}

/// A packet of this machine that comes back to it has not gone on to where it was sent.
fn gone_on(space: Space<'_>) -> Missing<'_> {
    let returned = space.losses().filter(|loss| is_mine(loss)).filter_map(|loss| loss.event);
    let packet = |event: &whydrop_model::DropEvent| {
        Some(Packet {
            protocol: event.protocol?,
            source: event.source.map(|source| source.ip()),
            destination: Some(event.destination?.ip()),
            source_port: event.source.map(|source| source.port()),
            destination_port: event.destination.map(|destination| destination.port()),
            ..Packet::default()
        })
    };
    let own = returned.filter(|event| event.source.is_some_and(|source| space.after.owns(source.ip())));
    own.filter_map(packet).map(|packet| missing::at_routing(space, packet)).collect()
}
