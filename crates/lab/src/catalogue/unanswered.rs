//! Questions for a link-layer address that nobody answers.

use super::tool;
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::site::Place;
use whydrop_model::{Text, text};

const ARPTABLES: Need = Need::Commands(&[&["arptables-nft", "-A", "INPUT", "-j", "DROP"]]);
const ARP_NFT: Need = Need::Commands(&[&["nft", "add", "table", "arp", "filter"]]);

pub(super) fn faults() -> Vec<Fault> {
    let rule = [server(
        &["arptables-nft", "-A", "INPUT", "-j", "DROP"],
        &["arptables-nft", "-D", "INPUT", "-j", "DROP"],
    )];
    let policy =
        [server(&["arptables-nft", "-P", "OUTPUT", "DROP"], &["arptables-nft", "-P", "OUTPUT", "ACCEPT"])];
    let uncounted = [
        server(&["nft", "add", "table", "arp", "guard"], &["nft", "delete", "table", "arp", "guard"]),
        server(&["nft", "add chain arp guard input { type filter hook input priority 0 ; }"], &["true"]),
        server(&["nft", "add", "rule", "arp", "guard", "input", "drop"], &["true"]),
    ];
    vec![
        missing(),
        deaf(
            "netfilter.arp_drop",
            text!("an arptables rule of the server drops all ARP", "服务器的一条 arptables 规则丢弃所有 ARP"),
            rule,
        )
        .needs(&[ARPTABLES]),
        deaf(
            "netfilter.arp_drop/policy",
            text!(
                "the server may send no ARP (arptables policy)",
                "服务器不得发送 ARP（arptables 默认策略）"
            ),
            policy,
        )
        .needs(&[ARPTABLES]),
        deaf(
            "netfilter.arp_drop/nft",
            text!(
                "an nftables rule without a counter drops all ARP",
                "一条没有计数器的 nftables 规则丢弃所有 ARP"
            ),
            uncounted,
        )
        .needs(&[ARP_NFT]),
    ]
}

fn server(argv: &'static [&'static str], undo: &'static [&'static str]) -> Change {
    tool(Place::Server, argv, undo)
}

fn missing() -> Fault {
    Fault::pair("addr.missing", text!("the server's addresses are flushed", "服务器的地址被清空")).breaks(
        vec![server(
            &["ip", "addr", "flush", "dev", "eth0"],
            &["ip", "addr", "add", "10.77.0.2/24", "dev", "eth0"],
        )],
        &["addr.missing"],
    )
}

/// What the neighbours know of each other is forgotten with it.
fn deaf(id: &'static str, title: Text, rules: impl IntoIterator<Item = Change>) -> Fault {
    let forget = |at| tool(at, &["ip", "neigh", "flush", "dev", "eth0"], &["true"]);
    let changes = rules.into_iter().chain([forget(Place::Client), forget(Place::Server)]).collect();
    let mut fault = Fault::pair(id, title).breaks(changes, &["netfilter.arp_drop"]);
    fault.lingers = true;
    fault
}
