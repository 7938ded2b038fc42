//! Which drops become lines. Counts are never filtered: the summary holds every drop of the targets.

use super::Line;
use crate::failure::Refusal;
use crate::settings::{lang, say};
use anyhow::Result;
use std::net::{IpAddr, SocketAddr};
use whydrop_facts::Class;
use whydrop_host::trace;
use whydrop_model::shell::sanitize;
use whydrop_model::text;
use whydrop_report::error::Problem;
use whydrop_report::explain;

/// Filters as typed. Several values of one filter are alternatives; different filters must all hold.
#[derive(Clone, Debug, clap::Args)]
pub struct FilterArgs {
    /// Port.
    #[arg(long, value_name = "PORT", help = say(text!("Only packets from or to this port", "只看来自或发往该端口的包")))]
    port: Vec<u16>,
    /// Flow.
    #[arg(long, value_name = "ADDR[:PORT][,ADDR[:PORT]]", value_parser = Flow::parse,
          help = say(text!("Only packets of this flow, both ways: one end, or both", "只看该流的包（双向）：一端或两端")))]
    flow: Vec<Flow>,
    /// Reason.
    #[arg(long, value_name = "REASON", help = say(text!("Only drops for this reason", "只看该原因的丢弃")))]
    reason: Vec<String>,
    /// Interface.
    #[arg(long, value_name = "NAME", help = say(text!("Only drops at this interface", "只看该接口上的丢弃")))]
    interface: Vec<String>,
    /// Innocent ones too.
    #[arg(short = 'a', long, help = say(text!("Show harmless drops, too", "也显示无害的丢弃")))]
    benign: bool,
}

/// One or both ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    one: End,
    other: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    ip: IpAddr,
    port: Option<u16>,
}

impl Flow {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut ends = text.split(',').map(End::parse);
        let flow = Self { one: ends.next().ok_or("empty")??, other: ends.next().transpose()? };
        if ends.next().is_some() {
            Err(say(text!("more than two ends", "多于两端")).to_owned())
        } else {
            Ok(flow)
        }
    }

    fn holds(self, source: SocketAddr, destination: SocketAddr) -> bool {
        let way =
            |from: SocketAddr, to: SocketAddr| self.one.is(from) && self.other.is_none_or(|end| end.is(to));
        way(source, destination) || way(destination, source)
    }
}

impl End {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        // An IPv6 address may stand in brackets, with a port behind them or not.
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Ok(Self { ip, port: None });
        }
        let address: SocketAddr = text.parse().map_err(|_| {
            let what = text!(
                "\"{text}\" is no ADDR[:PORT], such as 10.0.0.2:80 or [fd00::2]:80",
                "\"{text}\" 不是 ADDR[:PORT]，例如 10.0.0.2:80 或 [fd00::2]:80"
            );
            what.fill(&[("text", &text)]).get(lang()).to_owned()
        })?;
        Ok(Self { ip: address.ip(), port: Some(address.port()) })
    }

    fn is(self, address: SocketAddr) -> bool {
        self.ip == address.ip() && self.port.is_none_or(|port| port == address.port())
    }
}

/// Filters, ready to ask.
pub struct Filter(FilterArgs);

impl Filter {
    /// Takes reasons as people write them: any case, with or without the kernel's prefix. A reason that neither
    /// whydrop nor this kernel knows is an error: waiting for it would look like silence.
    pub fn new(args: &FilterArgs) -> Result<Self> {
        let mut args = args.clone();
        for reason in &mut args.reason {
            let upper = reason.to_ascii_uppercase();
            let name = upper.strip_prefix("SKB_DROP_REASON_").unwrap_or(&upper);
            if whydrop_facts::reason(name).is_none()
                && !name.starts_with("REASON_")
                && !trace::knows_reason(name)
            {
                return Err(unknown(reason));
            }
            *reason = name.to_owned();
        }
        Ok(Self(args))
    }

    /// True if it asks for more than what drops are counted by.
    pub fn looks_inside(&self) -> bool {
        let args = &self.0;
        !(args.port.is_empty() && args.flow.is_empty() && args.reason.is_empty() && args.interface.is_empty())
    }

    /// True if harmless drops are shown, too.
    pub fn shows_all(&self) -> bool {
        self.0.benign
    }

    /// What becomes of a drop.
    pub fn judge(&self, line: &Line<'_>) -> Verdict {
        let event = line.event;
        let ends = event.source.zip(event.destination);
        let any = |filters: usize, holds: bool| filters == 0 || holds;
        let port =
            |(s, d): (SocketAddr, SocketAddr)| self.0.port.iter().any(|&p| p == s.port() || p == d.port());
        let flow = |(s, d): (SocketAddr, SocketAddr)| self.0.flow.iter().any(|f| f.holds(s, d));
        let passes = any(self.0.port.len(), ends.is_some_and(port))
            && any(self.0.flow.len(), ends.is_some_and(flow))
            && any(self.0.reason.len(), self.0.reason.contains(&event.reason))
            && any(
                self.0.interface.len(),
                event.interface.as_ref().is_some_and(|i| self.0.interface.contains(i)),
            );
        match line.place.class {
            _ if !passes => Verdict::Other,
            Class::Benign | Class::NotADrop if !self.0.benign => Verdict::Harmless,
            _ => Verdict::Show,
        }
    }
}

fn unknown(reason: &str) -> anyhow::Error {
    let near = explain::find(reason, &[]).err().unwrap_or_default();
    let what = text!("this kernel has no drop reason \"{reason}\"", "本机内核没有丢包原因码 \"{reason}\"");
    let what = what.fill(&[("reason", &sanitize(reason, 80))]);
    let close = near.into_iter().filter(|name| whydrop_facts::reason(name).is_some()).collect();
    Refusal(Problem { what, close, ..Problem::default() }).into()
}

/// What becomes of a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It becomes a line.
    Show,
    /// It would, were it not harmless.
    Harmless,
    /// It was not asked for.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;
    use whydrop_facts::place;
    use whydrop_model::DropEvent;

    fn passes(args: &FilterArgs) -> bool {
        let event = DropEvent {
            reason: "NETFILTER_DROP".into(),
            interface: Some("eth0".into()),
            source: Some(([10, 0, 0, 1], 40000).into()),
            destination: Some(([10, 0, 0, 2], 80).into()),
            ..DropEvent::default()
        };
        Filter::new(args).expect("known reasons").judge(&Line {
            event: &event,
            place: place::of_event(&event),
            target: None,
        }) == Verdict::Show
    }

    fn none() -> FilterArgs {
        FilterArgs { port: vec![], flow: vec![], reason: vec![], interface: vec![], benign: false }
    }

    #[test]
    fn filters_hold_together_and_values_are_alternatives() {
        assert!(passes(&none()));
        assert!(passes(&FilterArgs { port: vec![9, 80], ..none() }));
        assert!(!passes(&FilterArgs { port: vec![9], ..none() }));
        assert!(passes(&FilterArgs { reason: vec!["skb_drop_reason_netfilter_drop".into()], ..none() }));
        assert!(!passes(&FilterArgs { port: vec![80], interface: vec!["lo".into()], ..none() }));
    }

    #[test]
    fn a_flow_is_meant_both_ways() {
        let flow = |text| vec![Flow::parse(text).expect("valid")];
        assert!(passes(&FilterArgs { flow: flow("10.0.0.2:80,10.0.0.1"), ..none() }));
        assert!(passes(&FilterArgs { flow: flow("10.0.0.1"), ..none() }));
        assert!(!passes(&FilterArgs { flow: flow("10.0.0.2:81"), ..none() }));
        assert!(!passes(&FilterArgs { flow: flow("10.0.0.1,10.0.0.3"), ..none() }));
        assert_eq!(Flow::parse("[fd00::1],fd00::2"), Flow::parse("fd00::1,[fd00::2]"));
        assert!(Flow::parse("[fd00::1]:80").is_ok_and(|flow| flow.one.port == Some(80)));
        assert!(Flow::parse("web:80").is_err() && Flow::parse("1.1.1.1,2.2.2.2,3.3.3.3").is_err());
    }
}
