//! Matches by port and TCP flags: tcp, udp, multiport.

use super::{Blob, XtMatch, not};
use whydrop_model::netfilter::{Field, Match};

/// What `-m tcp` and `-m udp` ask for. iptables over nf_tables stores the same as native expressions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports {
    /// Negated, first, last.
    pub source: Option<(bool, u16, u16)>,
    /// Negated, first, last.
    pub destination: Option<(bool, u16, u16)>,
    /// Negated, TCP option number.
    pub option: Option<(bool, u8)>,
    /// Negated, mask, wanted flags.
    pub flags: Option<(bool, u8, u8)>,
}

/// TCP flags in the order in which iptables prints them.
const FLAGS: [(u8, &str); 6] =
    [(0x01, "FIN"), (0x02, "SYN"), (0x04, "RST"), (0x08, "PSH"), (0x10, "ACK"), (0x20, "URG")];

fn flag_names(flags: u8) -> String {
    let names: Vec<&str> = FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word).collect();
    if names.is_empty() { "NONE".to_owned() } else { names.join(",") }
}

impl Ports {
    /// The match as `-m NAME`.
    pub fn render(&self, name: &'static str) -> XtMatch {
        let (mut options, mut matches) = (vec![], vec![]);
        for (range, word) in [(self.source, "sport"), (self.destination, "dport")] {
            let Some((negated, first, last)) = range else { continue };
            let ports = if first == last { first.to_string() } else { format!("{first}:{last}") };
            let text = format!("{}--{word} {ports}", not(negated));
            let condition = if word == "sport" { Match::SourcePorts } else { Match::DestinationPorts };
            matches.push(condition(first, last).unless(negated));
            options.push(text);
        }
        if let Some((negated, number)) = self.option {
            let text = format!("{}--tcp-option {number}", not(negated));
            matches.push(Match::Other(text.clone()));
            options.push(text);
        }
        if let Some((negated, mask, wanted)) = self.flags {
            options.push(format!("{}--tcp-flags {} {}", not(negated), flag_names(mask), flag_names(wanted)));
            let [mask, wanted] = [mask, wanted].map(u32::from);
            let flags = Match::Number { field: Field::TcpFlags, mask, low: wanted, high: wanted };
            matches.push(flags.unless(negated));
        }
        XtMatch { name, options: options.join(" "), matches, comment: None }
    }
}

fn range(blob: Blob<'_>, at: usize, negated: bool) -> Option<Option<(bool, u16, u16)>> {
    let (first, last) = (blob.u16(at)?, blob.u16(at + 2)?);
    Some((negated || (first, last) != (0, u16::MAX)).then_some((negated, first, last)))
}

/// `xt_tcp`: two port ranges, option, flag mask, flags, inversions.
pub(super) fn tcp(blob: Blob<'_>) -> Option<XtMatch> {
    let [option, mask, wanted, inverted] = [blob.u8(8)?, blob.u8(9)?, blob.u8(10)?, blob.u8(11)?];
    if (mask | wanted) & 0xc0 != 0 || inverted & 0xf0 != 0 {
        return None;
    }
    let ports = Ports {
        source: range(blob, 0, inverted & 1 != 0)?,
        destination: range(blob, 4, inverted & 2 != 0)?,
        option: (option != 0 || inverted & 8 != 0).then_some((inverted & 8 != 0, option)),
        flags: (mask != 0 || inverted & 4 != 0).then_some((inverted & 4 != 0, mask, wanted)),
    };
    Some(ports.render("tcp"))
}

/// `xt_udp`: two port ranges, inversions.
pub(super) fn udp(blob: Blob<'_>) -> Option<XtMatch> {
    let inverted = blob.u8(8)?;
    let ports = Ports {
        source: range(blob, 0, inverted & 1 != 0)?,
        destination: range(blob, 4, inverted & 2 != 0)?,
        ..Ports::default()
    };
    Some(ports.render("udp"))
}

/// `XT_MULTI_PORTS`.
const MULTI_PORTS: usize = 15;

/// `xt_multiport_v1`: u8 side, u8 count, 15 ports, 15 range marks, u8 invert.
pub(super) fn multiport(blob: Blob<'_>) -> Option<XtMatch> {
    type Side = fn(u16, u16) -> Match;
    let sides: [(&str, &[Side]); 3] = [
        ("--sports", &[Match::SourcePorts]),
        ("--dports", &[Match::DestinationPorts]),
        ("--ports", &[Match::SourcePorts, Match::DestinationPorts]),
    ];
    let (side, sides) = *sides.get(usize::from(blob.u8(0)?))?;
    let count = usize::from(blob.u8(1)?);
    if count > MULTI_PORTS {
        return None;
    }
    let mut list = String::new();
    let mut in_range = false;
    let mut ranges: Vec<(u16, u16)> = vec![];
    for i in 0..count {
        if i > 0 {
            list.push(if in_range { ':' } else { ',' });
        }
        let port = blob.u16(2 + 2 * i)?;
        list.push_str(&port.to_string());
        match ranges.last_mut() {
            Some((_, last)) if in_range => *last = port,
            _ => ranges.push((port, port)),
        }
        // A mark says that the next port ends a range.
        in_range = !in_range && blob.u8(32 + i)? != 0;
    }
    let members = ranges.iter().flat_map(|(first, last)| sides.iter().map(|side| side(*first, *last)));
    let (inverted, any) = (blob.u8(47)? != 0, Match::AnyOf(members.collect()));
    XtMatch::known("multiport", format!("{}{side} {list}", not(inverted)), any.unless(inverted))
}
