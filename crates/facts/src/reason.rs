//! Drop reasons by name. Numbers differ between kernels, even inside a stable series, and are never used.

use crate::{find, tables};
use whydrop_model::{Text, text};

/// How much a drop with this reason matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A loss.
    Loss,
    /// Somebody configured the drop.
    Policy,
    /// A loss or normal, by its context.
    Conditional,
    /// Normal.
    Benign,
    /// No drop at all.
    NotADrop,
}

impl Class {
    /// The word of trace lines.
    pub const fn word(self) -> Text {
        match self {
            Self::Loss => text!("LOSS", "丢包"),
            Self::Policy => text!("policy", "策略"),
            Self::Conditional => text!("maybe", "视情况"),
            Self::Benign | Self::NotADrop => text!("benign", "无害"),
        }
    }

    /// The word of JSON: `loss`, `policy`, `conditional`, `benign`.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Policy => "policy",
            Self::Conditional => "conditional",
            Self::Benign | Self::NotADrop => "benign",
        }
    }

    /// One line for people.
    pub const fn text(self) -> Text {
        match self {
            Self::Loss => text!("a loss", "丢包"),
            Self::Policy => text!(
                "a configured drop: a loss only for traffic that should pass",
                "按配置丢弃：只有本应通过的流量才算丢包"
            ),
            Self::Conditional => text!("a loss or normal, by its context", "是否丢包取决于上下文"),
            Self::Benign => text!("normal, no traffic suffers", "属正常，不影响业务"),
            Self::NotADrop => text!("no drop at all", "根本不是丢弃"),
        }
    }
}

/// Which way packets go where the reason is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Receive.
    Rx,
    /// Transmit.
    Tx,
    /// Between sockets of this machine.
    Local,
    /// Any.
    Any,
}

/// A drop reason of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// `NETFILTER_DROP`, without the prefix `SKB_DROP_REASON_`.
    pub id: &'static str,
    /// `core`, `mac80211_unusable`, `openvswitch`, `qdisc` …
    pub subsystem: &'static str,
    /// Id of the stage where it is usually given, `any` or `none`.
    pub stage: &'static str,
    /// Direction.
    pub direction: Direction,
    /// How much it matters.
    pub class: Class,
    /// What happened.
    pub meaning: &'static str,
    /// The same in Chinese, where it was translated.
    pub meaning_zh: Option<&'static str>,
    /// Usual causes.
    pub causes: Option<&'static str>,
    /// Where to look next.
    pub look_next: Option<&'static str>,
    /// What ends it.
    pub fix: Option<&'static str>,
    /// Kernel functions that give it (found by script in 6.1, 6.12 and 7.2; not complete).
    pub functions: &'static [&'static str],
}

/// The reason with this name; the prefix `SKB_DROP_REASON_` is ignored.
pub fn reason(name: &str) -> Option<&'static Reason> {
    let short = name.strip_prefix("SKB_DROP_REASON_");
    find(tables::REASONS, short.unwrap_or(name), |r| r.id)
}

/// All reasons, by name.
pub const fn reasons() -> &'static [Reason] {
    tables::REASONS
}
