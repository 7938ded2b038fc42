//! Settings of a kind of interface: IFLA_LINKINFO, as text by name.
//!
//! The keys stand in [`super::link_tables`]: `mode` of a macvlan, `vni` of a vxlan, `port_state` of a bridge port …
//! `lower`, `active_port` and `primary` are interface indexes.

use super::link_tables::{Form, Table, member, own};
use crate::sys::attributes::{Attributes, mac};
use std::collections::BTreeMap;

const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;

/// Reads IFLA_LINKINFO.
pub fn parse(info: Attributes<'_>) -> BTreeMap<String, String> {
    let mut details = BTreeMap::new();
    if let (Some(kind), Some(data)) = (info.text(libc::IFLA_INFO_KIND), info.nested(libc::IFLA_INFO_DATA)) {
        decode(own(&kind), data, &mut details);
    }
    if let (Some(kind), Some(data)) = (info.text(IFLA_INFO_SLAVE_KIND), info.nested(IFLA_INFO_SLAVE_DATA)) {
        decode(member(&kind), data, &mut details);
    }
    details
}

fn decode(table: Table, data: Attributes<'_>, details: &mut BTreeMap<String, String>) {
    for (kind, name, form) in table {
        match (form, data.nested(*kind)) {
            (Form::Nested(table), Some(inner)) => decode(table, inner, details),
            _ => details.extend(value(data, *kind, form).map(|text| ((*name).to_owned(), text))),
        }
    }
}

fn value(data: Attributes<'_>, kind: u16, form: &Form) -> Option<String> {
    let word = |words: &[&str], number: u16| {
        words.get(usize::from(number)).map_or_else(|| number.to_string(), |word| (*word).to_owned())
    };
    Some(match form {
        Form::Number8 => data.u8(kind)?.to_string(),
        Form::Number16 => data.u16(kind)?.to_string(),
        Form::Port => data.be16(kind)?.to_string(),
        Form::Number32 => data.u32(kind)?.to_string(),
        Form::Key => u32::from_be(data.u32(kind)?).to_string(),
        Form::Mask => format!("{:#x}", data.u16(kind)?),
        Form::FlagsBe => format!("{:#x}", data.be16(kind)?),
        Form::Ip => data.ip(kind)?.to_string(),
        Form::Ips => {
            let list = data.nested(kind)?;
            let each: Vec<String> = list.iter().filter_map(|(k, _)| Some(list.ip(k)?.to_string())).collect();
            each.join(",")
        }
        Form::Mac => mac(data.bytes(kind)?)?,
        Form::Switch => if data.u8(kind)? == 0 { "off" } else { "on" }.to_owned(),
        Form::Flag => data.bytes(kind).map(|_| "on".to_owned())?,
        Form::Words(words) => word(words, u16::from(data.u8(kind)?)),
        Form::Words16(words) => word(words, data.u16(kind)?),
        Form::Words32(words) => {
            let number = data.u32(kind)?;
            let word = words.iter().find(|(n, _)| *n == number);
            word.map_or_else(|| number.to_string(), |(_, word)| (*word).to_owned())
        }
        Form::EtherType => match data.be16(kind)? {
            0x8100 => "802.1Q".to_owned(),
            0x88a8 => "802.1ad".to_owned(),
            other => format!("{other:#06x}"),
        },
        Form::Nested(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn info(kind: &str, data: &[u8], port: Option<(&str, &[u8])>) -> Vec<u8> {
        let mut out = attribute(libc::IFLA_INFO_KIND, kind.as_bytes());
        out.extend(attribute(libc::IFLA_INFO_DATA, data));
        if let Some((kind, data)) = port {
            out.extend(attribute(IFLA_INFO_SLAVE_KIND, kind.as_bytes()));
            out.extend(attribute(IFLA_INFO_SLAVE_DATA, data));
        }
        out
    }

    #[test]
    fn vxlan_on_a_bridge_port() {
        let mut data = attribute(1, &42u32.to_ne_bytes());
        data.extend(attribute(2, &[10, 0, 0, 2]));
        data.extend(attribute(15, &4789u16.to_be_bytes()));
        let mut port = attribute(1, &[4]);
        port.extend(attribute(33, &[1]));
        let bytes = info("vxlan", &data, Some(("bridge", &port)));
        let details = parse(Attributes(&bytes));
        let expected = [
            ("isolated", "on"),
            ("port", "4789"),
            ("port_state", "blocking"),
            ("remote", "10.0.0.2"),
            ("vni", "42"),
        ];
        assert_eq!(details.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
        torture(&bytes, |b| parse(Attributes(b)));
    }

    #[test]
    fn modes_in_words() {
        let bytes = info("macvlan", &attribute(1, &1u32.to_ne_bytes()), None);
        assert_eq!(parse(Attributes(&bytes)).get("mode").map(String::as_str), Some("private"));
        let bytes = info("ipvlan", &attribute(1, &1u16.to_ne_bytes()), None);
        assert_eq!(parse(Attributes(&bytes)).get("mode").map(String::as_str), Some("l3"));
    }

    #[test]
    fn a_bond_with_targets_and_a_member_that_is_down() {
        let targets = [attribute(0, &[10, 0, 0, 1]), attribute(1, &[10, 0, 0, 2])].concat();
        let lacp = attribute(5, &[2, 0, 0, 0, 0, 9]);
        let data =
            [attribute(3, &100u32.to_ne_bytes()), attribute(8, &targets), attribute(23, &lacp)].concat();
        let port = [attribute(1, &[1]), attribute(2, &[2]), attribute(3, &4u32.to_ne_bytes())].concat();
        let bytes = info("bond", &data, Some(("bond", &port)));
        let details = parse(Attributes(&bytes));
        let expected = [
            ("arp_targets", "10.0.0.1,10.0.0.2"),
            ("bond_state", "backup"),
            ("lacp_partner", "02:00:00:00:00:09"),
            ("link_failures", "4"),
            ("mii_status", "down"),
            ("miimon_ms", "100"),
        ];
        assert_eq!(details.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
        torture(&bytes, |b| parse(Attributes(b)));
    }
}
