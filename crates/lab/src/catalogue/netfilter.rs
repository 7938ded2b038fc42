//! Rules and policies that drop.

use super::{filter, nft_chain, to_web};
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::site::Place;
use whydrop_model::netfilter::{Hook, Match, RuleVerdict};
use whydrop_model::text;

const IPTABLES_RANDOM: [&[&str]; 2] = [
    &[
        "iptables-nft",
        "-A",
        "INPUT",
        "-p",
        "tcp",
        "-m",
        "statistic",
        "--mode",
        "random",
        "--probability",
        "0.3",
        "-j",
        "DROP",
    ],
    &[
        "iptables-nft",
        "-D",
        "INPUT",
        "-p",
        "tcp",
        "-m",
        "statistic",
        "--mode",
        "random",
        "--probability",
        "0.3",
        "-j",
        "DROP",
    ],
];
const LEGACY_RANDOM: [&[&str]; 2] = [
    &[
        "iptables-legacy",
        "-A",
        "INPUT",
        "-p",
        "tcp",
        "-m",
        "statistic",
        "--mode",
        "random",
        "--probability",
        "0.3",
        "-j",
        "DROP",
    ],
    &[
        "iptables-legacy",
        "-D",
        "INPUT",
        "-p",
        "tcp",
        "-m",
        "statistic",
        "--mode",
        "random",
        "--probability",
        "0.3",
        "-j",
        "DROP",
    ],
];
const IPTABLES_POLICY: [&[&str]; 2] =
    [&["iptables-nft", "-P", "INPUT", "DROP"], &["iptables-nft", "-P", "INPUT", "ACCEPT"]];

const BRIDGED_ON: [&[&str]; 2] = [
    &["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"],
    &["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"],
];
const FORWARD_POLICY: [&[&str]; 2] =
    [&["iptables-nft", "-P", "FORWARD", "DROP"], &["iptables-nft", "-P", "FORWARD", "ACCEPT"]];
const STATEFUL: [&[&str]; 2] = [
    &["iptables-nft", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW,ESTABLISHED", "-j", "ACCEPT"],
    &["iptables-nft", "-D", "INPUT", "-m", "conntrack", "--ctstate", "NEW,ESTABLISHED", "-j", "ACCEPT"],
];
const NOTRACK: [&[&str]; 2] = [
    &["iptables-nft", "-t", "raw", "-A", "PREROUTING", "-p", "tcp", "--dport", "80", "-j", "NOTRACK"],
    &["iptables-nft", "-t", "raw", "-D", "PREROUTING", "-p", "tcp", "--dport", "80", "-j", "NOTRACK"],
];

pub(super) fn faults() -> Vec<Fault> {
    let with = |condition: Match| [to_web(), vec![condition]].concat();
    let input = |matches, verdict, text| filter(Place::Server, Hook::Input, matches, verdict, text);
    let tool =
        |[argv, undo]: [&'static [&'static str]; 2]| vec![Change::Tool { at: Place::Server, argv, undo }];
    vec![
        Fault::pair(
            "netfilter.drop_rule",
            text!("an nftables rule drops 30 % of the requests", "一条 nftables 规则丢弃 30% 的请求"),
        )
        .needs(&[Need::Nftables])
        .breaks(
            input(
                with(Match::Random(0.3)),
                RuleVerdict::Drop,
                "tcp dport 80 numgen random mod 100 < 30 counter drop",
            ),
            &["netfilter.drop_rule"],
        ),
        Fault::pair(
            "netfilter.drop_rule/iptables-nft",
            text!(
                "an iptables rule (nf_tables) drops 30 % of incoming TCP",
                "一条 iptables 规则（nf_tables）丢弃 30% 的入站 TCP 包"
            ),
        )
        .needs(&[Need::IptablesNft])
        .breaks(tool(IPTABLES_RANDOM), &["netfilter.drop_rule"]),
        Fault::pair(
            "netfilter.drop_rule/iptables-legacy",
            text!(
                "an iptables rule (legacy) drops 30 % of incoming TCP",
                "一条 iptables 规则（legacy）丢弃 30% 的入站 TCP 包"
            ),
        )
        .needs(&[Need::IptablesLegacy])
        .breaks(tool(LEGACY_RANDOM), &["netfilter.drop_rule"]),
        Fault::pair(
            "netfilter.drop_policy",
            text!(
                "the policy of an nftables chain drops all that no rule accepts",
                "nftables 链的默认策略丢弃所有未被放行的包"
            ),
        )
        .needs(&[Need::Nftables])
        .breaks(
            vec![Change::Act(Place::Server, nft_chain(Hook::Input, Some(RuleVerdict::Drop)))],
            &["netfilter.drop_policy"],
        ),
        Fault::pair(
            "netfilter.drop_policy/iptables-nft",
            text!(
                "the policy of INPUT is DROP (iptables, nf_tables)",
                "INPUT 的默认策略为 DROP（iptables，nf_tables）"
            ),
        )
        .needs(&[Need::IptablesNft])
        .breaks(tool(IPTABLES_POLICY), &["netfilter.drop_policy"]),
        Fault::switched(
            "netfilter.br_netfilter_drop",
            text!(
                "br_netfilter sends bridged packets into FORWARD, whose policy is DROP",
                "br_netfilter 把桥接的包送入默认策略为 DROP 的 FORWARD"
            ),
        )
        .needs(&[Need::IptablesNft, Need::BrNetfilter])
        .breaks(
            [BRIDGED_ON, FORWARD_POLICY]
                .map(|[argv, undo]| Change::Tool { at: Place::Router, argv, undo })
                .into(),
            &["netfilter.br_netfilter_drop"],
        ),
        Fault::pair(
            "netfilter.notrack",
            text!(
                "a NOTRACK rule in front of a filter that wants NEW or ESTABLISHED",
                "NOTRACK 规则之后的过滤只放行 NEW 或 ESTABLISHED"
            ),
        )
        .needs(&[Need::IptablesNft])
        .breaks(
            [STATEFUL, IPTABLES_POLICY, NOTRACK].into_iter().flat_map(tool).collect(),
            &["netfilter.notrack"],
        ),
        Fault::pair(
            "netfilter.reject_rule",
            text!("an nftables rule refuses the requests", "一条 nftables 规则拒绝请求"),
        )
        .needs(&[Need::Nftables])
        .breaks(
            input(to_web(), RuleVerdict::Reject, "tcp dport 80 counter reject"),
            &["netfilter.reject_rule"],
        ),
        Fault::pair(
            "netfilter.rate_limit",
            text!("a rate limit drops what exceeds 5 packets a second", "限速规则丢弃超过每秒 5 个的包"),
        )
        .needs(&[Need::Nftables])
        .breaks(
            input(
                with(Match::Limit { rate: "5/second".into(), over: true }),
                RuleVerdict::Drop,
                "tcp dport 80 limit rate over 5/second counter drop",
            ),
            &["netfilter.rate_limit"],
        ),
    ]
}
