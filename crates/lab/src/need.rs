//! What a fault needs, found out by trying it in a namespace that is thrown away.

use crate::catalogue::{NETEM_30, nft_chain};
use crate::site;
use whydrop_host::error::Result;
use whydrop_host::{Netns, act};
use whydrop_model::netfilter::Hook;
use whydrop_model::{Action, Phrase};

/// A feature of the kernel or a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The netem qdisc.
    Netem,
    /// nftables.
    Nftables,
    /// `iptables-nft` and its kernel side.
    IptablesNft,
    /// `iptables-legacy` and its kernel side.
    IptablesLegacy,
    /// VLAN devices.
    Vlan,
    /// Bridges that filter by VLAN.
    BridgeVlan,
    /// Bonding.
    Bond,
    /// tc's mirred action behind a u32 filter.
    Mirred,
    /// br_netfilter, with its settings in each namespace (from 5.3 on).
    BrNetfilter,
    /// Commands that must succeed one after the other: tools with what they ask of the kernel.
    Commands(&'static [&'static [&'static str]]),
    /// The same, of what many kernels leave out.
    Module(&'static [&'static [&'static str]]),
}

impl Need {
    /// What is missing here, in the words of who refused; none if it is there.
    pub fn missing(self) -> Option<Phrase> {
        let netns = match Netns::unshare() {
            Ok(netns) => netns,
            Err(error) => return Some(error.phrase()),
        };
        let tried = match self {
            Self::Netem => act::apply(&netns, &Action::QdiscAdd(NETEM_30.on("lo"))).map(drop),
            Self::Nftables => act::apply(&netns, &nft_chain(Hook::Input, None)).map(drop),
            Self::IptablesNft => site::run(&netns, &random_rule("iptables-nft")),
            Self::IptablesLegacy => site::run(&netns, &random_rule("iptables-legacy")),
            Self::Vlan => all(
                &netns,
                &[
                    &["ip", "link", "add", "br9", "type", "bridge"],
                    &["ip", "link", "add", "link", "br9", "name", "v9", "type", "vlan", "id", "9"],
                ],
            ),
            Self::BridgeVlan => {
                all(&netns, &[&["ip", "link", "add", "br9", "type", "bridge", "vlan_filtering", "1"]])
            }
            Self::Bond => all(&netns, &[&["ip", "link", "add", "bond9", "type", "bond"]]),
            Self::Mirred => all(
                &netns,
                &[
                    &["tc", "qdisc", "add", "dev", "lo", "clsact"],
                    &[
                        "tc", "filter", "add", "dev", "lo", "ingress", "u32", "match", "u32", "0", "0",
                        "action", "mirred", "egress", "redirect", "dev", "lo",
                    ],
                ],
            ),
            Self::BrNetfilter => {
                site::run(&netns, &["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"])
            }
            Self::Commands(commands) | Self::Module(commands) => all(&netns, commands),
        };
        tried.err().map(|error| error.phrase())
    }

    /// True for what many kernels leave out, and a distribution's has as a module.
    pub const fn is_module(self) -> bool {
        matches!(self, Self::Netem | Self::Vlan | Self::BridgeVlan | Self::Bond | Self::Module(_))
    }
}

fn all(netns: &Netns, commands: &[&[&str]]) -> Result<()> {
    commands.iter().try_for_each(|argv| site::run(netns, argv))
}

/// A rule with the match that the faults use: listing alone succeeds without it.
fn random_rule(tool: &str) -> Vec<&str> {
    vec![tool, "-A", "INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.3", "-j", "DROP"]
}
