//! What a fault needs, found out by trying it in a namespace that is thrown away.

use crate::catalogue::{NETEM_30, nft_chain};
use crate::site;
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
        };
        tried.err().map(|error| error.phrase())
    }
}

/// A rule with the match that the faults use: listing alone succeeds without it.
fn random_rule(tool: &str) -> Vec<&str> {
    vec![tool, "-A", "INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.3", "-j", "DROP"]
}
