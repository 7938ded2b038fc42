//! What moved, or stands above zero, and means no harm.

use crate::case::Space;
use crate::reconcile::FRAMES;
use crate::rule::{Suspect, fill_words};
use crate::rules::route::circle;
use std::collections::BTreeMap;
use whydrop_facts::Class;
use whydrop_facts::place::{self, Place};
use whydrop_model::{Note, NoteStatus, Phrase, Text, Unexplained, text};

/// A movement of one counter that is innocent by itself.
struct Innocent {
    counter: &'static str,
    text: Text,
}

/// Counters of snmp and netstat that alarm people and name no loss.
const COUNTERS: &[Innocent] = &[
    Innocent {
        counter: "TcpExt.TCPAbortOnData",
        text: text!(
            "{n} connections were closed with data unread: the program's choice, nothing is lost on the way",
            "{n} 个连接在数据未读完时被关闭：是程序的选择，途中没有丢包"
        ),
    },
    Innocent {
        counter: "TcpExt.TCPAbortOnClose",
        text: text!(
            "{n} connections were closed before all was read: the program's choice, nothing is lost on the way",
            "{n} 个连接在读完之前被关闭：是程序的选择，途中没有丢包"
        ),
    },
    Innocent {
        counter: "TcpExt.TCPReqQFullDoCookies",
        text: text!(
            "{n} SYNs were answered with cookies because the queue was full: none was lost",
            "队列已满，{n} 个 SYN 以 cookie 作答：没有丢失"
        ),
    },
];

/// Counters of losses: what they hold from before the window is history.
const HISTORY: &[(&str, &str)] = &[
    ("TcpExt.ListenOverflows", "tcp.accept_queue_overflow"),
    ("TcpExt.TCPReqQFullDrop", "tcp.syn_queue_overflow"),
    ("Udp.RcvbufErrors", "udp.rcvbuf_overflow"),
    ("TcpExt.IPReversePathFilter", "route.rp_filter"),
    ("Ip.OutNoRoutes", "route.no_route"),
];

/// Interface counters of losses.
const LINK_HISTORY: &[&str] = &["rx_dropped", "tx_dropped", "rx_errors", "tx_errors", "rx_missed_errors"];

/// Drop reasons of frames and packets that were never meant to be taken.
const BENIGN_REASONS: &[(&str, Text)] = &[
    (
        "NO_SOCKET",
        text!(
            "{n} packets to closed ports were refused: a scan or a late client, not a loss",
            "{n} 个发往关闭端口的包被拒绝：扫描或迟到的客户端，不算丢包"
        ),
    ),
    (
        "UNHANDLED_PROTO",
        text!(
            "{n} frames of a protocol that nobody here speaks (LLDP, STP and the like)",
            "{n} 个本机无人处理的协议的帧（LLDP、STP 等）"
        ),
    ),
    ("OTHERHOST", text!("{n} frames were addressed to other machines", "{n} 个帧是发给其他机器的")),
    (
        "QUEUE_PURGE",
        text!("{n} packets were still unread when their socket was closed", "套接字关闭时还有 {n} 个包未读"),
    ),
];

const TRACEROUTE: Text = text!(
    "the TTL of {n} packets ended here, as that of a traceroute is meant to",
    "{n} 个包的 TTL 在此耗尽，这正是 traceroute 的用意"
);
const UNJUDGED: Text = text!(
    "{function} dropped {n}: {why}; nothing here tells whether anybody misses them",
    "{function} 丢弃了 {n} 个包：{why}；在此无法判断是否有人需要它们"
);
const PROBER: Text = text!(
    "{n} half-open connections were reset by whydrop's own SYN probes",
    "{n} 个半连接被 whydrop 自己的 SYN 探测重置"
);
const OLD: Text = text!("stands at {n} and did not move in the window", "值为 {n}，观察窗口内没有变化");
const UNKNOWN_FRAMES: Text = text!(
    "rx_dropped rose by {n}, and nothing else shows a lost packet: mostly frames of protocols that nobody here speaks",
    "rx_dropped +{n}，而没有其他迹象表明丢包：多为本机无人处理的协议的帧"
);
const SQUEEZED: Text = text!(
    "time_squeeze rose by {n}: work was put off to the next round, no packet was lost",
    "time_squeeze +{n}：工作推迟到下一轮处理，没有丢包"
);

/// Notes on one namespace, given what was found and what is unexplained.
pub fn of(space: Space<'_>, suspects: &[Suspect], unexplained: &[Unexplained]) -> Vec<Note> {
    let mut notes = Notes { space, out: vec![] };
    notes.counters();
    notes.drop_events();
    notes.unjudged(suspects);
    notes.links(suspects, unexplained);
    notes.history(suspects);
    notes.machine();
    notes.out
}

struct Notes<'a> {
    space: Space<'a>,
    out: Vec<Note>,
}

impl Notes<'_> {
    fn add(&mut self, status: NoteStatus, cause: Option<&str>, subject: &str, text: Phrase) {
        self.out.push(Note {
            cause: cause.map(str::to_owned),
            target: self.space.target().id.clone(),
            subject: subject.to_owned(),
            status,
            text,
        });
    }

    fn counters(&mut self) {
        let space = self.space;
        let probed = space.case.ways.iter().any(|way| way.probe.method == "syn" && way.visits(space));
        let embryonic = space.mib("TcpExt.EmbryonicRsts");
        if embryonic > 0 && probed {
            self.add(NoteStatus::Benign, None, "TcpExt.EmbryonicRsts", PROBER.fill(&[("n", &embryonic)]));
        }
        for innocent in COUNTERS {
            let rise = space.mib(innocent.counter);
            if rise > 0 {
                self.add(NoteStatus::Benign, None, innocent.counter, innocent.text.fill(&[("n", &rise)]));
            }
        }
    }

    fn drop_events(&mut self) {
        // What the probes themselves met at a closed port is a finding or nothing.
        let refused: u64 =
            self.space.case.ways.iter().filter(|w| w.visits(self.space)).map(|w| w.probe.refused).sum();
        for (reason, text) in BENIGN_REASONS {
            let own = if *reason == "NO_SOCKET" { refused } else { 0 };
            let drops = self.space.drops_because(&[reason]).saturating_sub(own);
            if drops > 0 {
                self.add(NoteStatus::Benign, None, reason, text.fill(&[("n", &drops)]));
            }
        }
    }

    /// Drops that are harm under conditions of which nobody here knows whether they hold.
    fn unjudged(&mut self, suspects: &[Suspect]) {
        let space = self.space;
        let mut kinds: BTreeMap<(&str, &str), (Place, u64)> = BTreeMap::new();
        for count in space.drop_counts() {
            let place = place::of_count(count);
            let told = BENIGN_REASONS.iter().any(|(reason, _)| *reason == count.reason);
            if place.class != Class::Conditional || told {
                continue;
            }
            let kind = (count.reason.as_str(), count.function.as_str());
            kinds.entry(kind).or_insert((place, 0)).1 += count.drops;
        }
        for ((reason, function), (place, drops)) in kinds {
            let found = |s: &Suspect| {
                s.finding.target == space.target().id
                    && match place.cause {
                        Some(cause) => s.finding.cause == cause,
                        None => s.finding.stage == place.stage,
                    }
            };
            if suspects.iter().any(found) {
                continue;
            }
            let subject = if reason.is_empty() { function } else { reason };
            if place.cause == Some(circle::CAUSE.id) {
                let counts = space
                    .drop_counts()
                    .filter(|c| (c.reason.as_str(), c.function.as_str()) == (reason, function));
                let lost: u64 = counts.map(|count| circle::not_traced(space, count)).sum();
                if drops > lost {
                    let text = TRACEROUTE.fill(&[("n", &(drops - lost))]);
                    self.add(NoteStatus::Benign, place.cause, subject, text);
                }
                continue;
            }
            let words = [
                ("n", Phrase::same(drops.to_string())),
                ("function", Phrase::same(function)),
                ("why", place.why.phrase()),
            ];
            let text = fill_words(UNJUDGED, &words.each_ref().map(|(name, phrase)| (*name, phrase)));
            self.add(NoteStatus::Unjudged, place.cause, subject, text);
        }
    }

    fn links(&mut self, suspects: &[Suspect], unexplained: &[Unexplained]) {
        let space = self.space;
        let lost = |place: &Unexplained| place.target == space.target().id && place.source == FRAMES;
        if unexplained.iter().any(lost) {
            return;
        }
        if suspects.iter().any(|s| s.finding.target == space.target().id) {
            return;
        }
        for link in space.links() {
            let rise = space.link_rise(link, FRAMES);
            if rise > 0 {
                let subject = format!("{} rx_dropped", link.name);
                self.add(NoteStatus::Benign, None, &subject, UNKNOWN_FRAMES.fill(&[("n", &rise)]));
            }
        }
    }

    fn history(&mut self, suspects: &[Suspect]) {
        let space = self.space;
        for (name, cause) in HISTORY {
            let told =
                suspects.iter().any(|s| s.finding.cause == *cause && s.finding.target == space.target().id);
            if let Some(value) = space.mib_value(name).filter(|n| *n > 0 && space.mib(name) == 0 && !told) {
                self.add(NoteStatus::Old, Some(cause), name, OLD.fill(&[("n", &value)]));
            }
        }
        for link in space.links() {
            for field in LINK_HISTORY {
                let value = link.stats.get(*field).copied().filter(|n| *n > 0);
                if let Some(value) = value.filter(|_| space.link_rise(link, field) == 0) {
                    let subject = format!("{} {field}", link.name);
                    self.add(NoteStatus::Old, None, &subject, OLD.fill(&[("n", &value)]));
                }
            }
        }
    }

    fn machine(&mut self) {
        let [before, after] = &self.space.case.observation.machine;
        let sum = |m: &whydrop_model::snapshot::MachineSnapshot| {
            m.softnet.iter().map(|c| c.time_squeeze).sum::<u64>()
        };
        let rise = sum(after).saturating_sub(sum(before));
        if rise > 0 && self.space.target().kind == whydrop_model::TargetKind::Host {
            self.add(NoteStatus::Benign, None, "softnet time_squeeze", SQUEEZED.fill(&[("n", &rise)]));
        }
    }
}
