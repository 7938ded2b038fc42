//! The picture of a way: the namespaces that packets pass in order, and what is lost in each. One description for the
//! drawing and for the terminal; its numbers are those of the ledger.

mod lines;
mod svg;

pub(crate) use lines::write;
pub(crate) use svg::draw;

use crate::layout::name;
use crate::number::count;
use crate::text::{flow_line, target_name};
use std::collections::BTreeMap;
use whydrop_model::flow::FlowDirection;
use whydrop_model::report::{SufferingFlow, WayStep};
use whydrop_model::{Direction, Finding, Lang, ProbeResult, Report, text};

/// The way of one flow through all lanes.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// Whose packets these are.
    pub title: String,
    /// True for a probe of ours, false for what programs do.
    pub probe: bool,
    /// How many were sent or tried, if that was counted.
    pub sent: Option<u64>,
    /// How many had success.
    pub arrived: Option<u64>,
    /// In the order of the request.
    pub lanes: Vec<Lane>,
    /// True if the way goes on beyond the last lane that is on it.
    pub leaves: bool,
}

/// One namespace.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    /// Short name.
    pub name: String,
    /// False for a namespace in which something was lost beside this way.
    pub on_way: bool,
    /// Interfaces, translations, tunnels.
    pub marks: Vec<String>,
    /// What is lost here.
    pub losses: Vec<Strip>,
}

/// Packets that leave the way for ever.
#[derive(Clone, Debug)]
pub(crate) struct Strip {
    /// Number of the cause, or `?`; several that may have taken them as `1/2`.
    pub number: String,
    /// None if they cannot be counted.
    pub packets: Option<u64>,
    /// Where.
    pub label: String,
    /// True if it is the answer that is lost.
    pub back: bool,
}

impl Picture {
    /// The way of whoever suffers most; none if nobody wants anything and nothing is lost.
    pub fn of(report: &Report, lang: Lang) -> Option<Self> {
        let probe = report.probes.iter().enumerate().max_by_key(|(i, p)| (p.lost + p.late, usize::MAX - i));
        let probe = probe.filter(|(_, p)| p.lost + p.late > 0 || report.flows.is_empty());
        let steps = |i: usize| report.probe_ways.get(i).map(Vec::as_slice).unwrap_or_default();
        let mut out = match (probe, report.flows.first()) {
            (Some((i, probe)), _) => Self::of_probe(report, probe, steps(i), lang),
            (None, Some(flow)) => Self::of_flow(report, flow, lang),
            (None, None) => Self::of_nobody(lang),
        };
        let inbound =
            probe.is_none() && report.flows.first().is_some_and(|f| f.direction == FlowDirection::In);
        let mut ids: Vec<String> = match (probe, report.flows.first()) {
            (Some((i, probe)), _) => on_way(&probe.from, steps(i)),
            (None, Some(flow)) => on_way(&flow.target, &flow.way),
            (None, None) => vec![],
        };
        let on_way = ids.len();
        let mut strips = strips(report, lang);
        for id in strips.keys() {
            if !ids.contains(id) {
                ids.push(id.clone());
            }
        }
        let way: &[WayStep] = match (probe, report.flows.first()) {
            (Some((i, _)), _) => steps(i),
            (None, Some(flow)) => &flow.way,
            (None, None) => &[],
        };
        for (index, id) in ids.iter().enumerate() {
            let place = Place { index, on_way, inbound };
            let losses = strips
                .remove(id)
                .into_iter()
                .flatten()
                .map(|(strip, direction)| Strip { back: place.is_back(direction), ..strip });
            out.lanes.push(Lane {
                name: target_name(report, id),
                on_way: index < on_way,
                marks: way.iter().find(|step| step.target == *id).map(marks).unwrap_or_default(),
                losses: losses.collect(),
            });
        }
        (!out.lanes.is_empty()).then_some(out)
    }

    fn of_probe(report: &Report, probe: &ProbeResult, way: &[WayStep], lang: Lang) -> Self {
        let from = target_name(report, &probe.from);
        let title = text!("{url} from {from}", "{url}，自 {from} 发出");
        Self {
            title: title.fill(&[("url", &name(&probe.url)), ("from", &from)]).get(lang).to_owned(),
            probe: true,
            sent: Some(probe.transmitted),
            arrived: Some(probe.received),
            lanes: vec![],
            leaves: way.last().is_none_or(|last| last.outgoing.is_some()),
        }
    }

    fn of_flow(report: &Report, flow: &SufferingFlow, lang: Lang) -> Self {
        Self {
            title: flow_line(report, flow, lang),
            probe: false,
            sent: (flow.attempts > 0).then_some(flow.attempts),
            arrived: (flow.attempts > 0).then_some(flow.succeeded),
            lanes: vec![],
            leaves: flow.beyond.is_some(),
        }
    }

    fn of_nobody(lang: Lang) -> Self {
        let title = text!("What was lost, and where", "丢失的包及其位置").get(lang).to_owned();
        Self { title, probe: false, sent: None, arrived: None, lanes: vec![], leaves: false }
    }

    /// Packets that are drawn as the whole band: what was sent, or what is known of it if that is more.
    pub fn whole(&self) -> u64 {
        let lanes = self.lanes.iter().filter(|lane| lane.on_way);
        let lost: u64 = lanes.flat_map(|lane| &lane.losses).filter_map(|strip| strip.packets).sum();
        self.sent.unwrap_or(0).max(lost.saturating_add(self.arrived.unwrap_or(0))).max(1)
    }

    /// What went in and what came back, as far as counted: `50 sent`, `25 answered`.
    pub fn ends(&self, lang: Lang) -> [String; 2] {
        let words = match self.probe {
            true => [text!("{n} sent", "发出 {n}"), text!("{n} answered", "应答 {n}")],
            false => [text!("{n} attempts", "尝试 {n}"), text!("{n} with success", "成功 {n}")],
        };
        let said = |n: Option<u64>, words: whydrop_model::Text| {
            n.map_or_else(String::new, |n| words.fill(&[("n", &count(n))]).get(lang).to_owned())
        };
        [said(self.sent, words[0]), said(self.arrived, words[1])]
    }
}

/// Where a lane stands on the way.
struct Place {
    index: usize,
    /// How many lanes are on it.
    on_way: usize,
    inbound: bool,
}

impl Place {
    /// Whether a loss in this direction, seen from the namespace, takes the answer.
    fn is_back(&self, direction: Option<Direction>) -> bool {
        let starts = self.index == 0 && !(self.inbound && self.on_way == 1);
        match direction {
            _ if self.on_way == 0 => false,
            Some(Direction::Receive) => starts,
            Some(Direction::Transmit) => !starts && self.index + 1 >= self.on_way,
            Some(Direction::Forward) | None => false,
        }
    }
}

/// Targets that the way passes, from its start.
fn on_way(start: &str, way: &[WayStep]) -> Vec<String> {
    let mut out: Vec<String> = way.iter().map(|step| step.target.clone()).collect();
    if out.is_empty() {
        out.push(start.to_owned());
    }
    out
}

fn marks(step: &WayStep) -> Vec<String> {
    let devices = match (&step.incoming, &step.outgoing) {
        (Some(incoming), Some(outgoing)) => Some(format!("{} > {}", name(incoming), name(outgoing))),
        (Some(one), None) | (None, Some(one)) => Some(name(one)),
        (None, None) => None,
    };
    let nat = step.destination.iter().map(|to| format!("DNAT {}", name(to)));
    let snat = step.source.iter().map(|from| format!("SNAT {}", name(from)));
    devices.into_iter().chain(nat).chain(snat).chain(step.tunnel.as_deref().map(name)).collect()
}

type Strips = BTreeMap<String, Vec<(Strip, Option<Direction>)>>;

/// What the ledger charges, by target. Findings that are charged nothing are there, too, with what is known of them.
fn strips(report: &Report, lang: Lang) -> Strips {
    let mut out = Strips::new();
    let mut charged = vec![false; report.findings.len()];
    for entry in &report.ledger.entries {
        let finding = entry.finding.and_then(|i| report.findings.get(i));
        if let Some(seen) = entry.finding.and_then(|i| charged.get_mut(i)) {
            *seen = true;
        }
        let ids: Vec<&str> = entry.one_of.iter().filter_map(|id| id.strip_prefix('f')).collect();
        let number = match (ids.is_empty(), entry.finding) {
            (false, _) => ids.join("/"),
            (true, Some(i)) if finding.is_some() => (i + 1).to_string(),
            (true, _) => "?".to_owned(),
        };
        let label = finding.map_or_else(|| name(&entry.stage), |finding| name(&finding.subject));
        let direction = finding.map_or_else(|| of_stage(&entry.stage), direction);
        add(
            &mut out,
            &entry.target,
            Strip { number, packets: Some(entry.packets), label, back: false },
            direction,
        );
    }
    for (i, finding) in report.findings.iter().enumerate().filter(|(i, _)| charged.get(*i) == Some(&false)) {
        let packets = finding.packets_lost.map(|_| 0);
        let strip =
            Strip { number: (i + 1).to_string(), packets, label: name(&finding.subject), back: false };
        add(&mut out, &finding.target, strip, direction(finding));
    }
    for place in &report.ledger.unexplained_at {
        let what = if place.function.is_empty() { &place.source } else { &place.function };
        let label = text!("unexplained, {stage} {what}", "未查明，{stage} {what}");
        let label = label.fill(&[("stage", &name(&place.stage)), ("what", &name(what))]).get(lang).to_owned();
        let strip = Strip { number: "?".to_owned(), packets: Some(place.packets), label, back: false };
        add(&mut out, &place.target, strip, of_stage(&place.stage));
    }
    out
}

/// Entries of one thing are one strip.
fn add(out: &mut Strips, target: &str, strip: Strip, direction: Option<Direction>) {
    let lane = out.entry(target.to_owned()).or_default();
    match lane.iter_mut().find(|(known, _)| known.number == strip.number && known.label == strip.label) {
        Some((known, _)) => {
            known.packets = known.packets.zip(strip.packets).map(|(a, b)| a.saturating_add(b));
        }
        None => lane.push((strip, direction)),
    }
}

fn direction(finding: &Finding) -> Option<Direction> {
    finding.direction.or_else(|| of_stage(&finding.stage))
}

fn of_stage(stage: &str) -> Option<Direction> {
    let has = |words: &[&str]| words.iter().any(|word| stage.contains(word));
    match () {
        () if has(&["forward"]) => Some(Direction::Forward),
        () if has(&["input", "receive", "ingress", "prerouting", "accept"]) => Some(Direction::Receive),
        () if has(&["output", "transmit", "egress", "postrouting"]) => Some(Direction::Transmit),
        () => None,
    }
}
