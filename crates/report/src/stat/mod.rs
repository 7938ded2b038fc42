//! Every loss counter of every layer in one table: value, rise in the window, and what it means.

mod document;
mod table;
mod write;

pub use document::{Document, document};
pub use table::Table;
pub use write::{write, write_round};

use std::cmp::Reverse;
use whydrop_facts::{self as facts, Counter, Effect};
use whydrop_model::delta::Change;
use whydrop_model::snapshot::MachineSnapshot;
use whydrop_model::{Coverage, CoverageStatus, Observation, Reading, Role, Snapshot, Text, text};

/// The target of counters that belong to no namespace.
pub const MACHINE: &str = "machine";

/// Counters that a driver has of its own; nothing says which driver.
const DRIVER: &str = "ethtool.";
/// What drivers call what they lose.
const LOSS: [&str; 8] = ["drop", "discard", "miss", "err", "timeout", "fail", "no_buf", "overflow"];

/// One counter at one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Target id, or [`MACHINE`].
    pub target: String,
    /// Interface, rule, socket …; empty for the protocol counters of a namespace.
    pub place: String,
    /// Id that `whydrop explain` knows: `TcpExt.ListenDrops`.
    pub counter: String,
    /// Value at the end; none if it is gone.
    pub value: Option<u64>,
    /// What it did in the window.
    pub change: Change,
    /// What is known about it.
    pub fact: Option<&'static Counter>,
}

impl Row {
    /// What a step of it means; none if nobody knows. A driver's counter that is known nowhere and sounds like loss may be
    /// some.
    pub fn effect(&self) -> Option<Effect> {
        let sounds = || {
            let name = self.counter.strip_prefix(DRIVER).unwrap_or_default().to_ascii_lowercase();
            LOSS.iter().any(|word| name.contains(word)).then_some(Effect::Maybe)
        };
        self.fact.map(|fact| fact.effect).or_else(sounds)
    }

    /// True if what is known about it is a guess by its name: drivers share names, and mean different things by them.
    pub fn is_guess(&self) -> bool {
        self.effect().is_some() && self.counter.starts_with(DRIVER)
    }

    /// True if each step of it is a packet or connection lost at its place.
    pub fn is_loss(&self) -> bool {
        matches!(self.effect(), Some(Effect::Lost | Effect::LostConn))
    }

    /// True for what is shown unasked: it has counted something, and that may be loss; or it rose, and is innocent.
    pub fn matters(&self) -> bool {
        let counted = self.value.is_some_and(|value| value > 0);
        match self.effect() {
            Some(Effect::Lost | Effect::LostConn | Effect::Evidence | Effect::Maybe) => counted,
            Some(Effect::Benign) => self.change.risen() > 0,
            Some(Effect::Info | Effect::Gauge) | None => false,
        }
    }

    /// The short name, where no other table has it.
    pub fn name(&self) -> &str {
        let short = ["rtnl_link_stats64.", "snmp6.", "ethtool.", "qdisc_common."];
        short.into_iter().find_map(|group| self.counter.strip_prefix(group)).unwrap_or(&self.counter)
    }

    /// The order of the table: what rises, then what is loss, then what counted most.
    fn rank(&self) -> impl Ord + use<> {
        let innocent = matches!(self.effect(), Some(Effect::Benign | Effect::Info | Effect::Gauge) | None);
        let risen = self.change.risen();
        (risen == 0, innocent, Reverse(risen), self.effect(), Reverse(self.value))
    }
}

/// The word of an effect in a table.
pub const fn word(effect: Option<Effect>) -> Text {
    match effect {
        Some(Effect::Lost) => text!("loss", "丢包"),
        Some(Effect::LostConn) => text!("lost connection", "失去连接"),
        Some(Effect::Evidence) => text!("a sign", "迹象"),
        Some(Effect::Maybe) => text!("it depends", "视情况"),
        Some(Effect::Benign) => text!("innocent", "无害"),
        Some(Effect::Info) => text!("work", "工作量"),
        Some(Effect::Gauge) => text!("level", "当前值"),
        None => text!("unknown", "未知"),
    }
}

/// Rows of one namespace or machine, in the order of the table. Readings are compared by counter and place; what was
/// not read on both ends has no rise.
pub fn compare(target: &str, before: &Table, after: &Table) -> Vec<Row> {
    let mut keys: Vec<_> = before.0.keys().chain(after.0.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let row = |key: &(String, String)| {
        let (old, new) = (before.0.get(key), after.0.get(key));
        let (place, counter) = key.clone();
        Row {
            target: target.to_owned(),
            value: new.map(|number| number.value),
            change: match (old, new) {
                (Some(old), Some(new)) if old.narrow && new.narrow => {
                    let narrow = |value: u64| u32::try_from(value).ok();
                    Change::of_u32(narrow(old.value), narrow(new.value))
                }
                _ => Change::of(old.map(|n| n.value), new.map(|n| n.value)),
            },
            fact: fact(&counter),
            place,
            counter,
        }
    };
    keys.into_iter().map(row).collect()
}

/// Puts rows into the order of the table.
pub fn sort(rows: &mut [Row]) {
    rows.sort_by_key(Row::rank);
}

/// Rows of what was asked about in an observation.
pub fn of_observation(observation: &Observation) -> Vec<Row> {
    let [before, after] = &observation.machine;
    let mut rows = compare(MACHINE, &Table::of_machine(before), &Table::of_machine(after));
    for namespace in observation.namespaces.iter().filter(|n| n.target.role == Role::Target) {
        if let (Some(before), Some(after)) = (namespace.before.get(), namespace.after.get()) {
            rows.extend(compare(&namespace.target.id, &Table::of(before), &Table::of(after)));
        }
    }
    sort(&mut rows);
    rows
}

/// What is known about a counter. Drivers share names; what one of them means by it has to do for all.
fn fact(counter: &str) -> Option<&'static Counter> {
    let by_name = || {
        let (group, name) = counter.split_once('.')?;
        let fits = |known: &&Counter| match group {
            "ethtool" => known.group.starts_with("ethtool_driver."),
            group => known.group == group,
        };
        facts::counters_named(name).into_iter().find(fits)
    };
    facts::counter(counter).or_else(by_name)
}

/// Sources of counters in a namespace that are there and could not be read.
pub fn unseen(target: &str, reading: &Reading<Snapshot>) -> Vec<Coverage> {
    let Some(snapshot) = reading.get() else {
        return hidden(target, "namespace", reading).into_iter().collect();
    };
    [
        hidden(target, "links", &snapshot.links),
        hidden(target, "snmp_netstat", &snapshot.mib),
        hidden(target, "snmp6", &snapshot.mib6),
        hidden(target, "qdiscs", &snapshot.qdiscs),
        hidden(target, "classes", &snapshot.classes),
        hidden(target, "tc_filters", &snapshot.filters),
        hidden(target, "nftables", &snapshot.nftables),
        hidden(target, "iptables_legacy", &snapshot.iptables_legacy),
        hidden(target, "ip6tables_legacy", &snapshot.ip6tables_legacy),
        hidden(target, "conntrack", &snapshot.conntrack),
        hidden(target, "sockets", &snapshot.sockets),
        hidden(target, "raw_sockets", &snapshot.raw_sockets),
        hidden(target, "nfnetlink_queue", &snapshot.nf_queues),
        hidden(target, "xfrm_stat", &snapshot.xfrm_stat),
        hidden(target, "ethtool", &snapshot.ethtool),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The same for the machine.
pub fn unseen_of_machine(machine: &MachineSnapshot) -> Vec<Coverage> {
    let softnet = hidden(MACHINE, "softnet", &machine.softnet);
    softnet.into_iter().chain(hidden(MACHINE, "neighbour_tables", &machine.neighbour_tables)).collect()
}

fn hidden<T>(target: &str, source: &str, reading: &Reading<T>) -> Option<Coverage> {
    let (status, why) = match reading {
        Reading::Denied(why) => (CoverageStatus::Denied, why),
        Reading::Failed(why) => (CoverageStatus::Failed, why),
        Reading::Present(_) | Reading::Absent(_) => return None,
    };
    Some(Coverage {
        target: target.to_owned(),
        source: source.to_owned(),
        status,
        detail: why.clone(),
        limits: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::table::Number;
    use super::*;
    use whydrop_model::Lang;

    fn table(counters: &[(&str, &str, u64)]) -> Table {
        let number = |value| Number { value, narrow: false };
        Table(counters.iter().map(|(p, c, v)| (((*p).to_owned(), (*c).to_owned()), number(*v))).collect())
    }

    #[test]
    fn what_rises_comes_first_and_innocent_risers_after_loss() {
        let before = table(&[
            ("", "TcpExt.ListenDrops", 5),
            ("eth0", "rtnl_link_stats64.rx_nohandler", 0),
            ("", "Ip.OutNoRoutes", 9),
            ("", "Ip.InReceives", 1),
        ]);
        let after = table(&[
            ("", "TcpExt.ListenDrops", 7),
            ("eth0", "rtnl_link_stats64.rx_nohandler", 50),
            ("", "Ip.OutNoRoutes", 9),
            ("", "Ip.InReceives", 900),
        ]);
        let mut rows = compare("netns:web", &before, &after);
        rows.retain(Row::matters);
        sort(&mut rows);
        let told: Vec<(&str, u64)> = rows.iter().map(|r| (r.name(), r.change.risen())).collect();
        assert_eq!(told, [("TcpExt.ListenDrops", 2), ("rx_nohandler", 50), ("Ip.OutNoRoutes", 0)]);
    }

    #[test]
    fn a_counter_that_was_not_there_before_has_no_rise() {
        let rows = compare("x", &table(&[]), &table(&[("", "TcpExt.ListenDrops", 7)]));
        assert_eq!(rows.first().map(|r| (r.value, r.change.risen())), Some((Some(7), 0)));
    }

    #[test]
    fn a_driver_s_counter_is_a_guess_and_says_so() {
        let row = |counter: &str| {
            let of = |n: u64| table(&[("eth0", counter, n)]);
            compare("host", &of(1), &of(3)).remove(0)
        };
        let known = row("ethtool.rx_missed_errors");
        let unheard = row("ethtool.fancy_rx_discards");
        for row in [&known, &unheard] {
            assert!(row.is_guess() && row.matters(), "{}", row.counter);
            assert!(
                write::meaning(row, Lang::En).is_some_and(|text| text.contains("guess")),
                "{}",
                row.counter
            );
            assert!(
                write::meaning(row, Lang::Zh).is_some_and(|text| text.contains("猜测")),
                "{}",
                row.counter
            );
        }
        assert_eq!(unheard.effect(), Some(Effect::Maybe));
        let exact = row("TcpExt.ListenDrops");
        assert!(!exact.is_guess() && !write::meaning(&exact, Lang::En).unwrap().contains("guess"));
        assert_eq!(row("ethtool.fancy_rx_frames").effect(), None);
    }

    #[test]
    fn names_with_numbers_and_names_of_drivers_are_known() {
        assert!(fact("IcmpMsg.InType3").is_some());
        assert_eq!(fact("ethtool.rx_queue_3_drops").map(|c| c.effect), Some(Effect::Lost));
        assert!(fact("ethtool.no_such_counter").is_none());
    }
}
