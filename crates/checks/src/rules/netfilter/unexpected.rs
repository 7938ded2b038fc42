//! What a stateful filter drops of a second flow, because no helper reads the first one: how it is told, what ends it.

use crate::culprit::Story;
use crate::evidence::case::Space;
use crate::evidence::second::Control;
use crate::fixes::by_hand;
use whydrop_model::{Fix, Text, text};

/// IPPROTO_UDP.
const UDP: u8 = 17;

const ENTRY: Text = text!(
    "the control connection of {client} to {server} port {port} has an entry without a helper",
    "{client} 到 {server} 端口 {port} 的控制连接有条目，但没有 helper"
);
const ATTACH: Text = text!(
    "modprobe nf_conntrack_{helper}; iptables -t raw -A {chain} -p {protocol} --dport {port} -j CT --helper {helper} (with NAT also modprobe nf_nat_{helper})",
    "modprobe nf_conntrack_{helper}；iptables -t raw -A {chain} -p {protocol} --dport {port} -j CT --helper {helper}（有 NAT 时还需 modprobe nf_nat_{helper}）"
);

/// The control connection as a subject.
pub fn subject(control: &Control<'_>) -> String {
    let original = &control.entry.original;
    format!("{} {} to {}", control.helper, original.source, original.destination)
}

/// Shows the control connection in a story.
pub fn told(control: &Control<'_>, story: Story) -> Story {
    let original = &control.entry.original;
    let protocol = if original.protocol == UDP { "udp" } else { "tcp" };
    let port = original.destination_port.to_string();
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("client", &original.source), ("server", &original.destination), ("port", &port)];
    let list = ["conntrack", "-L", "-p", protocol, "--orig-port-dst", &port];
    story.evidence(ENTRY.fill(&words), "conntrack entries", &list)
}

/// What ends it.
pub fn attach(space: Space<'_>, control: &Control<'_>) -> Fix {
    let original = &control.entry.original;
    let protocol = if original.protocol == UDP { "udp" } else { "tcp" };
    let chain = if space.after.owns(original.source) { "OUTPUT" } else { "PREROUTING" };
    let words: [(&str, &dyn std::fmt::Display); 4] = [
        ("helper", &control.helper),
        ("port", &original.destination_port),
        ("protocol", &protocol),
        ("chain", &chain),
    ];
    by_hand(ATTACH.fill(&words))
}
