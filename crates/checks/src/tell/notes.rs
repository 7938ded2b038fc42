//! What moved, or stands above zero, and means no harm.

use crate::assign::Assignment;
use crate::evidence::case::Space;
use crate::loss::{FRAMES, Kind};
use crate::rule::fill_words;
use std::collections::BTreeMap;
use whydrop_facts::place::Place;
use whydrop_model::{Finding, Ledger, Note, NoteStatus, Phrase, Text, text};

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
            "{n} {n|packet|packets} to closed ports {n|was|were} refused: a scan or a late client, not a loss",
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
        text!(
            "{n} {n|packet was|packets were} still unread when {n|its|their} socket was closed",
            "套接字关闭时还有 {n} 个包未读"
        ),
    ),
];

const UNJUDGED: Text = text!(
    "{function} dropped {n}: {why}; nothing here tells whether anybody misses them",
    "{function} 丢弃了 {n} 个包：{why}；在此无法判断是否有人需要它们"
);
const PROBER: Text = text!(
    "{n} half-open connections were reset by whydrop's own SYN probes",
    "{n} 个半连接被 whydrop 自己的 SYN 探测重置"
);
const OLD: Text = text!("stands at {n} and did not move in the window", "值为 {n}，观察窗口内没有变化");
const SCATTERED: Text = text!(
    "{n} of {of} segments to hosts beyond this machine were sent again ({percent} %): scattered loss on the way",
    "发往本机之外主机的 {of} 个报文段中有 {n} 个重传（{percent}%）：途中零星丢失"
);
const RESTARTED: Text = text!(
    "{n} {n|attempt was|attempts were} refused while the service at {service} was started anew",
    "{service} 的服务重启期间，有 {n} 次尝试被拒绝"
);
const UNKNOWN_FRAMES: Text = text!(
    "rx_dropped rose by {n}, and nothing else shows a lost packet: mostly frames of protocols that nobody here speaks",
    "rx_dropped +{n}，而没有其他迹象表明丢包：多为本机无人处理的协议的帧"
);
const IDLE: Text = text!(
    "the only interface is lo and no packet passed it in the window: nothing was tried, so nothing could be lost",
    "只有 lo 接口，且窗口内没有包经过：没有任何尝试，也就谈不上丢包"
);
const SQUEEZED: Text = text!(
    "time_squeeze rose by {n}: work was put off to the next round, no packet was lost",
    "time_squeeze +{n}：工作推迟到下一轮处理，没有丢包"
);

/// Notes on one namespace, given what was found and what is unexplained.
pub fn of(space: Space<'_>, assignment: &Assignment<'_>, findings: &[Finding], ledger: &Ledger) -> Vec<Note> {
    let mut notes = Notes { space, out: vec![] };
    notes.counters();
    notes.drop_events(assignment);
    notes.unjudged(assignment);
    notes.links(findings, ledger);
    notes.scattered();
    notes.restarts();
    notes.history(findings);
    notes.machine();
    notes.idle(findings);
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
        let syn =
            |flow: &&crate::evidence::flow::Flow<'_>| flow.probe().is_some_and(|probe| probe.method == "syn");
        let probed = space.flows_through().any(|flow| syn(&flow));
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

    fn drop_events(&mut self, assignment: &Assignment<'_>) {
        let space = self.space;
        // What the probes themselves met at a closed port is a finding or nothing.
        let refused: u64 = space.flows_through().map(|flow| flow.trouble.refused).sum();
        let guilty = (0..assignment.culprits.len()).filter(|index| assignment.is_guilty(*index));
        let told: Vec<_> = guilty
            .flat_map(|index| assignment.taken_by(index))
            .filter(|(loss, _)| loss.is_in(space))
            .collect();
        for (reason, text) in BENIGN_REASONS {
            let own = if *reason == "NO_SOCKET" { refused } else { 0 };
            let told = told.iter().filter(|(loss, _)| loss.reason() == Some(*reason)).map(|(_, n)| *n).sum();
            let drops = space.drops_because(&[reason]).saturating_sub(own.max(told));
            if drops > 0 {
                self.add(NoteStatus::Benign, None, reason, text.fill(&[("n", &drops)]));
            }
        }
    }

    /// Drops that are harm under conditions of which nobody here knows whether they hold.
    fn unjudged(&mut self, assignment: &Assignment<'_>) {
        let space = self.space;
        let mut kinds: BTreeMap<(&str, &str), (Place, u64)> = BTreeMap::new();
        for loss in space.losses().filter(|loss| loss.kind == Kind::MayBeHarm && loss.flow.is_none()) {
            let left = assignment.left.get(loss.id).copied().unwrap_or(0);
            let Some((count, place)) = loss.count.zip(loss.place) else { continue };
            let told = BENIGN_REASONS.iter().any(|(reason, _)| *reason == count.reason);
            if left > 0 && !told {
                let kind = (count.reason.as_str(), count.function.as_str());
                kinds.entry(kind).or_insert((place, 0)).1 += left;
            }
        }
        for ((reason, function), (place, drops)) in kinds {
            let subject = if reason.is_empty() { function } else { reason };
            let words = [
                ("n", Phrase::same(drops.to_string())),
                ("function", Phrase::same(function)),
                ("why", place.why.phrase()),
            ];
            let text = fill_words(UNJUDGED, &words.each_ref().map(|(name, phrase)| (*name, phrase)));
            self.add(NoteStatus::Unjudged, place.cause, subject, text);
        }
    }

    fn links(&mut self, findings: &[Finding], ledger: &Ledger) {
        let space = self.space;
        let here = &space.target().id;
        let mut lost = ledger.unexplained_at.iter().filter(|place| place.source == FRAMES);
        if lost.any(|place| place.target == *here) || findings.iter().any(|f| f.target == *here) {
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

    /// What was lost beyond this machine and is no trouble, by device and next hop.
    fn restarts(&mut self) {
        let space = self.space;
        let seen = space.case.seen.into_iter().flat_map(|seen| &seen.restarts);
        for (_, service, n) in seen.filter(|(inode, _, _)| *inode == space.inode()) {
            let text = RESTARTED.fill(&[("n", n), ("service", service)]);
            self.add(NoteStatus::Benign, None, &service.to_string(), text);
        }
    }

    fn scattered(&mut self) {
        let space = self.space;
        let seen = space.case.seen.into_iter().flat_map(|seen| &seen.scattered);
        for (hop, n, of) in seen.filter(|(hop, _, _)| hop.inode == space.inode()) {
            let device = space.after.link_name(hop.link);
            let subject =
                hop.gateway.map_or_else(|| device.clone(), |gateway| format!("{device} via {gateway}"));
            let percent = format!("{:.2}", *n as f64 * 100.0 / (*of).max(1) as f64);
            let text = SCATTERED.fill(&[("n", n), ("of", of), ("percent", &percent)]);
            self.add(NoteStatus::Benign, None, &subject, text);
        }
    }

    fn history(&mut self, findings: &[Finding]) {
        let space = self.space;
        for (name, cause) in HISTORY {
            let told = findings.iter().any(|f| f.cause == *cause && f.target == space.target().id);
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

    /// A namespace that is joined with nobody, in which nobody tried anything.
    fn idle(&mut self, findings: &[Finding]) {
        let space = self.space;
        let asked = space.is_target() && findings.is_empty();
        let moved = |link: &whydrop_model::snapshot::Link| {
            ["rx_packets", "tx_packets"].iter().any(|field| space.link_rise(link, field) > 0)
        };
        let received = ["Ip.InReceives", "Ip.OutRequests"].iter().any(|name| space.mib(name) > 0);
        let alone = space.after.links.is_present() && space.links().all(|link| link.loopback);
        let tried = received || space.links().any(moved) || space.flows_through().next().is_some();
        if asked && alone && !tried {
            self.add(NoteStatus::Unjudged, None, "traffic", IDLE.phrase());
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
