//! Packet filter rules, one shape for nftables, iptables over nftables and legacy iptables.

mod condition;

pub use condition::{Change, Field, Match};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// Which tool shows and changes a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// `nft`, tables made by nft itself.
    Nft,
    /// `iptables` with the nf_tables back end (tables filter, nat, mangle, raw, security of family ip).
    IptablesNft,
    /// `ip6tables` with the nf_tables back end.
    Ip6tablesNft,
    /// `iptables-legacy`.
    IptablesLegacy,
    /// `ip6tables-legacy`.
    Ip6tablesLegacy,
}

/// Address family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
    /// ARP.
    Arp,
    /// Bridge.
    Bridge,
    /// Device ingress and egress.
    Netdev,
}

impl Family {
    /// The word that nft uses.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Arp => "arp",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Where a base chain is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this machine.
    Input,
    /// Through this machine.
    Forward,
    /// From this machine.
    Output,
    /// After routing.
    Postrouting,
    /// Device, before anything else.
    Ingress,
    /// Device, last thing.
    Egress,
}

impl Hook {
    /// The word that nft uses; also the last part of the stage id.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// A chain with its rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// Which tool shows it.
    pub tool: Tool,
    /// Family of its table.
    pub family: Family,
    /// Table.
    pub table: String,
    /// Name.
    pub name: String,
    /// Hook; none for a chain that is only jumped to.
    pub hook: Option<Hook>,
    /// Device of a netdev chain.
    pub device: Option<String>,
    /// Priority of a base chain.
    pub priority: Option<i32>,
    /// True for a base chain that only the first packet of a connection meets (type nat).
    #[serde(default)]
    pub nat: bool,
    /// Policy of a base chain.
    pub policy: Option<RuleVerdict>,
    /// Packets that met the policy, where the back end counts them (nft: none).
    pub policy_packets: Option<u64>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// 1-based position in its chain: what `iptables -D CHAIN N` takes.
    pub position: u32,
    /// nftables handle.
    pub handle: Option<u64>,
    /// Packets counted; none if the rule has no counter.
    pub packets: Option<u64>,
    /// Bytes counted.
    pub bytes: Option<u64>,
    /// What it does to a packet that matches.
    pub verdict: RuleVerdict,
    /// Conditions and changes of the packet, in order.
    pub matches: Vec<Match>,
    /// Comment, as written by its author: hostile.
    pub comment: Option<String>,
    /// The rule as its tool takes it, without table and chain: `-p tcp … -j DROP` or `tcp dport 80 counter drop`.
    pub text: String,
}

/// What a rule or a policy does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleVerdict {
    /// Lets the packet pass.
    Accept,
    /// Drops it silently.
    Drop,
    /// Drops it and answers.
    Reject,
    /// Back to the calling chain.
    Return,
    /// To another chain and back.
    Jump(String),
    /// To another chain.
    Goto(String),
    /// To user space; the queue number.
    Queue(u16),
    /// No verdict: counts, marks, logs.
    Continue,
    /// A verdict map: what its first entry that fits says; without one the rule does nothing.
    Map(Vec<(Match, RuleVerdict)>),
    /// Translates an address or a port; ends the chain as accept does.
    Nat(Box<Nat>),
    /// Hands the packet to a local socket that it is not addressed to, and drops it where there is none (xt_TPROXY).
    Tproxy {
        /// Address of that socket; none for that of the interface by which the packet came.
        address: Option<IpAddr>,
        /// Its port; none for the packet's own.
        port: Option<u16>,
    },
    /// A target that whydrop does not decode.
    Other(String),
}

/// What a NAT rule translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    /// The source, to a given address.
    Source,
    /// The destination, to a given address.
    Destination,
    /// The source, to the address of the interface by which the packet leaves.
    Masquerade,
    /// The destination, to this machine.
    Redirect,
}

/// A translation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// What is translated.
    pub kind: NatKind,
    /// First and last new address; none keeps the address (masquerade and redirect find one by themselves).
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// First and last new port; none keeps the port where it is free.
    pub ports: Option<(u16, u16)>,
    /// False if the rule takes address or port from something that whydrop does not decode.
    pub known: bool,
}

impl NatKind {
    /// True if the source is translated, false for the destination.
    pub const fn of_source(self) -> bool {
        matches!(self, Self::Source | Self::Masquerade)
    }

    /// The word that iptables uses.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Source => "SNAT",
            Self::Destination => "DNAT",
            Self::Masquerade => "MASQUERADE",
            Self::Redirect => "REDIRECT",
        }
    }
}

impl Chain {
    /// `filter INPUT` for iptables, `inet fw input` for nft.
    pub fn title(&self) -> String {
        match self.tool {
            Tool::Nft => format!("{} {} {}", self.family, self.table, self.name),
            Tool::IptablesNft | Tool::Ip6tablesNft | Tool::IptablesLegacy | Tool::Ip6tablesLegacy => {
                format!("{} {}", self.table, self.name)
            }
        }
    }

    /// The command of its tool, without arguments: `iptables`, `ip6tables-legacy`, `nft`.
    pub const fn command(&self) -> &'static str {
        self.tool.command()
    }

    /// True if both are the same chain, whatever their rules.
    pub fn same(&self, other: &Chain) -> bool {
        (self.tool, self.family) == (other.tool, other.family)
            && self.table == other.table
            && self.name == other.name
    }
}

impl Tool {
    /// Name of the command. The nft back end is what `iptables` means on every distribution since 2021; the legacy
    /// one is always named in full, so that a pasted command reaches the right back end.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::IptablesNft => "iptables-nft",
            Self::Ip6tablesNft => "ip6tables-nft",
            Self::IptablesLegacy => "iptables-legacy",
            Self::Ip6tablesLegacy => "ip6tables-legacy",
        }
    }
}
