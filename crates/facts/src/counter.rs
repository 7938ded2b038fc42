//! Counters: what each one counts, whether that is a loss, and how far it can be blamed.

use crate::{find, tables};
use whydrop_model::{Text, text};

/// What a step of the counter means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// A packet was lost here.
    Lost,
    /// A connection attempt or a connection was lost here.
    LostConn,
    /// A sign of loss, or of danger, somewhere else.
    Evidence,
    /// Depends on configuration or on who sent it.
    Maybe,
    /// Rises in health too.
    Benign,
    /// Counts work.
    Info,
    /// Not a counter: a level now.
    Gauge,
}

impl Effect {
    /// One line for people.
    pub const fn text(self) -> Text {
        match self {
            Self::Lost => text!("each step is a packet lost here", "每增加 1 就是在此处丢失一个包"),
            Self::LostConn => text!("each step is a connection lost here", "每增加 1 就是在此处失去一个连接"),
            Self::Evidence => {
                text!(
                    "a sign of loss or danger elsewhere, not a place of loss",
                    "说明别处有丢包或隐患，本身不是丢包位置"
                )
            }
            Self::Maybe => {
                text!("a loss or not, by who sent it and how it is set up", "是否丢包取决于来源和配置")
            }
            Self::Benign => text!("rises in health too", "正常时也会增长"),
            Self::Info => text!("counts work, not loss", "统计工作量，不是丢包"),
            Self::Gauge => text!("a level now, not a count of events", "当前数量，不是事件计数"),
        }
    }
}

/// What a counter can be blamed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One network namespace.
    Netns,
    /// One network namespace, and each device of it.
    NetnsAndDevice,
    /// The whole machine, also when read inside a container: never blame one container.
    Global,
    /// One device.
    Device,
    /// One socket.
    Socket,
    /// One control group.
    Cgroup,
}

impl Scope {
    /// One line for people.
    pub const fn text(self) -> Text {
        match self {
            Self::Netns => text!("one network namespace", "一个网络命名空间"),
            Self::NetnsAndDevice => {
                text!("one network namespace, and each device of it", "一个网络命名空间及其中每个网卡")
            }
            Self::Global => {
                text!("the whole machine, also when read in a container", "整台机器，在容器里读取也一样")
            }
            Self::Device => text!("one device", "一个网卡"),
            Self::Socket => text!("one socket", "一个套接字"),
            Self::Cgroup => text!("one control group", "一个控制组（cgroup）"),
        }
    }
}

/// A counter of the kernel or of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// `TcpExt.TCPTimeouts`: group and name.
    pub id: &'static str,
    /// Table that it stands in.
    pub group: &'static str,
    /// Name in its table. `N` stands for a queue, priority or type number.
    pub name: &'static str,
    /// Interface to read it from.
    pub read: &'static str,
    /// What it can be blamed on.
    pub scope: Scope,
    /// Id of the stage it belongs to, or `none`.
    pub stage: &'static str,
    /// What a step means.
    pub effect: Effect,
    /// What it counts.
    pub meaning: &'static str,
    /// The same in Chinese, where it was translated.
    pub meaning_zh: Option<&'static str>,
    /// What to look at with it.
    pub related: Option<&'static str>,
}

/// The counter with this id (`TcpExt.TCPTimeouts`).
pub fn counter(id: &str) -> Option<&'static Counter> {
    find(tables::COUNTERS, id, |c| c.id)
}

/// All counters, by id.
pub const fn counters() -> &'static [Counter] {
    tables::COUNTERS
}

/// Counters with this name in any table, whatever its case; a number in it matches `N`. The kernel's own tables come
/// before those of drivers.
pub fn counters_named(name: &str) -> Vec<&'static Counter> {
    let numbered = numbered(name);
    let same = |c: &&Counter| c.name.eq_ignore_ascii_case(name) || c.name == numbered;
    let mut found: Vec<&Counter> = tables::COUNTERS.iter().filter(same).collect();
    found.sort_by_key(|c| (c.group.starts_with("ethtool_driver."), c.group != "rtnl_link_stats64"));
    found
}

/// `rx_queue_3_drops` as `rx_queue_N_drops`.
fn numbered(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '0'..='9' if out.ends_with('N') => {}
            '0'..='9' => out.push('N'),
            c => out.push(c),
        }
    }
    out
}
