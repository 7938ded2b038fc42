//! Settings of a kind of interface: IFLA_LINKINFO, as text by name.
//!
//! Keys by kind: vlan `vlan_id`, `vlan_protocol` · vxlan `vni`, `remote`, `local`, `port`, `lower` (interface index)
//! · geneve `vni`, `remote`, `port` · macvlan, macvtap `mode` · ipvlan `mode` · bond `mode`, `active_port` (interface
//! index) · bridge `vlan_filtering`, `stp` (0 off, 1 kernel, 2 user space), `nf_call_iptables` · vrf `table` · gre, ipip, sit `local`, `remote` ·
//! tun `tun_type` · member of a bridge `port_state`, `isolated`, `locked`, `learning`, `unicast_flood` · member of a
//! bond `bond_state`.

use crate::sys::attributes::Attributes;
use std::collections::BTreeMap;

const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;

/// How the value of one attribute is written.
enum Form {
    Number16,
    Port,
    Number32,
    Ip,
    /// 0 and 1.
    Switch,
    /// By position; a number without a word is written as it is.
    Words(&'static [&'static str]),
    /// Words by 32-bit value.
    Words32(&'static [(u32, &'static str)]),
    EtherType,
}

/// Attribute numbers are those of include/uapi/linux/{if_link,if_tunnel,if_bridge}.h.
type Table = &'static [(u16, &'static str, Form)];

const VLAN: Table = &[(1, "vlan_id", Form::Number16), (5, "vlan_protocol", Form::EtherType)];
const VXLAN: Table = &[
    (1, "vni", Form::Number32),
    (2, "remote", Form::Ip),
    (3, "lower", Form::Number32),
    (4, "local", Form::Ip),
    (15, "port", Form::Port),
    (16, "remote", Form::Ip),
    (17, "local", Form::Ip),
];
const GENEVE: Table =
    &[(1, "vni", Form::Number32), (2, "remote", Form::Ip), (5, "port", Form::Port), (7, "remote", Form::Ip)];
const MACVLAN: Table = &[(
    1,
    "mode",
    Form::Words32(&[(1, "private"), (2, "vepa"), (4, "bridge"), (8, "passthru"), (16, "source")]),
)];
const IPVLAN: Table = &[(1, "mode", Form::Words(&["l2", "l3", "l3s"]))];
const BOND: Table = &[
    (
        1,
        "mode",
        Form::Words(&[
            "balance-rr",
            "active-backup",
            "balance-xor",
            "broadcast",
            "802.3ad",
            "balance-tlb",
            "balance-alb",
        ]),
    ),
    (2, "active_port", Form::Number32),
];
const BRIDGE: Table = &[
    (5, "stp", Form::Number32),
    (7, "vlan_filtering", Form::Switch),
    (36, "nf_call_iptables", Form::Switch),
];
const VRF: Table = &[(1, "table", Form::Number32)];
const TUNNEL: Table = &[(2, "local", Form::Ip), (3, "remote", Form::Ip)];
const GRE: Table = &[(6, "local", Form::Ip), (7, "remote", Form::Ip)];
const TUN: Table = &[(3, "tun_type", Form::Words(&["", "tun", "tap"]))];
const BRIDGE_PORT: Table = &[
    (1, "port_state", Form::Words(&["disabled", "listening", "learning", "forwarding", "blocking"])),
    (8, "learning", Form::Switch),
    (9, "unicast_flood", Form::Switch),
    (33, "isolated", Form::Switch),
    (39, "locked", Form::Switch),
];
const BOND_PORT: Table = &[(1, "bond_state", Form::Words(&["active", "backup"]))];

fn table(kind: &str) -> Table {
    match kind {
        "vlan" => VLAN,
        "vxlan" => VXLAN,
        "geneve" => GENEVE,
        "macvlan" | "macvtap" => MACVLAN,
        "ipvlan" | "ipvtap" => IPVLAN,
        "bond" => BOND,
        "bridge" => BRIDGE,
        "vrf" => VRF,
        "ipip" | "sit" => TUNNEL,
        "gre" | "gretap" => GRE,
        "tun" => TUN,
        _ => &[],
    }
}

/// Reads IFLA_LINKINFO.
pub fn parse(info: Attributes<'_>) -> BTreeMap<String, String> {
    let mut details = BTreeMap::new();
    let own = info.text(libc::IFLA_INFO_KIND);
    if let (Some(kind), Some(data)) = (own, info.nested(libc::IFLA_INFO_DATA)) {
        decode(table(&kind), data, &mut details);
    }
    let port = info.text(IFLA_INFO_SLAVE_KIND);
    if let (Some(kind), Some(data)) = (port, info.nested(IFLA_INFO_SLAVE_DATA)) {
        match kind.as_str() {
            "bridge" => decode(BRIDGE_PORT, data, &mut details),
            "bond" => decode(BOND_PORT, data, &mut details),
            _ => (),
        }
    }
    details
}

fn decode(table: Table, data: Attributes<'_>, details: &mut BTreeMap<String, String>) {
    for (kind, name, form) in table {
        details.extend(value(data, *kind, form).map(|text| ((*name).to_owned(), text)));
    }
}

fn value(data: Attributes<'_>, kind: u16, form: &Form) -> Option<String> {
    Some(match form {
        Form::Number16 => data.u16(kind)?.to_string(),
        Form::Port => data.be16(kind)?.to_string(),
        Form::Number32 => data.u32(kind)?.to_string(),
        Form::Ip => data.ip(kind)?.to_string(),
        Form::Switch => if data.u8(kind)? == 0 { "off" } else { "on" }.to_owned(),
        Form::Words(words) => {
            let number = data.u8(kind)?;
            words.get(usize::from(number)).map_or_else(|| number.to_string(), |word| (*word).to_owned())
        }
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
}
