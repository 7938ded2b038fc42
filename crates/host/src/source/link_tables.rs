//! Which attributes of IFLA_LINKINFO each kind of interface has: their numbers, names and forms.
//!
//! Numbers are those of include/uapi/linux/{if_link,if_tunnel,if_bridge}.h. A kernel that does not know one does not
//! send it. The keys by kind are the second column.

/// How the value of one attribute is written.
pub enum Form {
    /// Eight bits.
    Number8,
    /// 16 bits in host order.
    Number16,
    /// In network order.
    Port,
    /// 32 bits in host order.
    Number32,
    /// In network order.
    Key,
    /// 16 bits in hexadecimal.
    Mask,
    /// 16 bits in network order, in hexadecimal.
    FlagsBe,
    /// 4 or 16 bytes.
    Ip,
    /// A nested list of IPv4 addresses, with commas.
    Ips,
    /// A link-layer address.
    Mac,
    /// 0 and 1.
    Switch,
    /// On if it is there.
    Flag,
    /// By position; a number without a word is written as it is.
    Words(&'static [&'static str]),
    /// Words by 32-bit value.
    Words32(&'static [(u32, &'static str)]),
    /// 16 bits that count in words from 0 on.
    Words16(&'static [&'static str]),
    /// The protocol of VLAN tags.
    EtherType,
    /// A nested attribute with a table of its own.
    Nested(Table),
}

/// Attribute number, key, form.
pub type Table = &'static [(u16, &'static str, Form)];

const VLAN: Table = &[(1, "vlan_id", Form::Number16), (5, "vlan_protocol", Form::EtherType)];

const DF: Form = Form::Words(&["unset", "set", "inherit"]);

const VXLAN: Table = &[
    (1, "vni", Form::Number32),
    (2, "remote", Form::Ip),
    (3, "lower", Form::Number32),
    (4, "local", Form::Ip),
    (5, "ttl", Form::Number8),
    (6, "tos", Form::Number8),
    (7, "learning", Form::Switch),
    (8, "ageing_s", Form::Number32),
    (9, "limit", Form::Number32),
    (11, "proxy", Form::Switch),
    (13, "l2miss", Form::Switch),
    (14, "l3miss", Form::Switch),
    (15, "port", Form::Port),
    (16, "remote", Form::Ip),
    (17, "local", Form::Ip),
    (18, "udp_csum", Form::Switch),
    (19, "udp_zero_csum6_tx", Form::Switch),
    (20, "udp_zero_csum6_rx", Form::Switch),
    (23, "gbp", Form::Flag),
    (25, "external", Form::Switch),
    (27, "gpe", Form::Flag),
    (29, "df", DF),
];
const GENEVE: Table = &[
    (1, "vni", Form::Number32),
    (2, "remote", Form::Ip),
    (3, "ttl", Form::Number8),
    (4, "tos", Form::Number8),
    (5, "port", Form::Port),
    (6, "external", Form::Flag),
    (7, "remote", Form::Ip),
    (8, "udp_csum", Form::Switch),
    (9, "udp_zero_csum6_tx", Form::Switch),
    (10, "udp_zero_csum6_rx", Form::Switch),
    (13, "df", DF),
];
const MACVLAN: Table = &[
    (
        1,
        "mode",
        Form::Words32(&[(1, "private"), (2, "vepa"), (4, "bridge"), (8, "passthru"), (16, "source")]),
    ),
    (2, "flags", Form::Mask),
    (6, "source_macs", Form::Number32),
];
const IPVLAN: Table = &[
    (1, "mode", Form::Words16(&["l2", "l3", "l3s"])),
    (2, "flags", Form::Words16(&["bridge", "private", "vepa"])),
];
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
    (3, "miimon_ms", Form::Number32),
    (4, "updelay_ms", Form::Number32),
    (5, "downdelay_ms", Form::Number32),
    (7, "arp_interval_ms", Form::Number32),
    (8, "arp_targets", Form::Ips),
    (9, "arp_validate", Form::Number32),
    (11, "primary", Form::Number32),
    (
        14,
        "xmit_hash",
        Form::Words(&["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"]),
    ),
    (18, "min_links", Form::Number32),
    (21, "lacp_rate", Form::Words(&["slow", "fast"])),
    (23, "", Form::Nested(BOND_LACP)),
];
const BOND_LACP: Table = &[
    (1, "lacp_aggregator", Form::Number16),
    (2, "lacp_ports", Form::Number16),
    (5, "lacp_partner", Form::Mac),
];
const BRIDGE: Table = &[
    (1, "forward_delay_cs", Form::Number32),
    (4, "ageing_cs", Form::Number32),
    (5, "stp", Form::Number32),
    (7, "vlan_filtering", Form::Switch),
    (8, "vlan_protocol", Form::EtherType),
    (9, "group_fwd_mask", Form::Mask),
    (22, "mcast_router", Form::Number8),
    (23, "mcast_snooping", Form::Switch),
    (25, "mcast_querier", Form::Switch),
    (27, "mcast_hash_max", Form::Number32),
    (36, "nf_call_iptables", Form::Switch),
    (37, "nf_call_ip6tables", Form::Switch),
    (38, "nf_call_arptables", Form::Switch),
    (39, "vlan_default_pvid", Form::Number16),
    (47, "", Form::Nested(QUERIER)),
];
/// BRIDGE_QUERIER_* (include/uapi/linux/if_bridge.h; 5.16): the querier that the bridge has heard or is.
const QUERIER: Table = &[
    (1, "querier", Form::Ip),
    (2, "querier_port", Form::Number32),
    (5, "querier6", Form::Ip),
    (6, "querier6_port", Form::Number32),
];
const VRF: Table = &[(1, "table", Form::Number32)];
const IPTUN: Table = &[
    (1, "lower", Form::Number32),
    (2, "local", Form::Ip),
    (3, "remote", Form::Ip),
    (4, "ttl", Form::Number8),
    (5, "tos", Form::Number8),
    (9, "inner_protocol", Form::Number8),
    (10, "pmtudisc", Form::Switch),
    (19, "external", Form::Flag),
];
const GRE: Table = &[
    (1, "lower", Form::Number32),
    (2, "flags_in", Form::FlagsBe),
    (3, "flags_out", Form::FlagsBe),
    (4, "key_in", Form::Key),
    (5, "key_out", Form::Key),
    (6, "local", Form::Ip),
    (7, "remote", Form::Ip),
    (8, "ttl", Form::Number8),
    (9, "tos", Form::Number8),
    (10, "pmtudisc", Form::Switch),
    (18, "external", Form::Flag),
    (19, "ignore_df", Form::Switch),
];
const VTI: Table = &[
    (1, "lower", Form::Number32),
    (2, "key_in", Form::Key),
    (3, "key_out", Form::Key),
    (4, "local", Form::Ip),
    (5, "remote", Form::Ip),
];
const XFRM: Table = &[(1, "lower", Form::Number32), (2, "if_id", Form::Number32)];
const TUN: Table =
    &[(3, "tun_type", Form::Words(&["", "tun", "tap"])), (9, "disabled_queues", Form::Number32)];
const MACSEC: Table = &[
    (6, "encoding_sa", Form::Number8),
    (7, "encrypt", Form::Switch),
    (8, "protect", Form::Switch),
    (12, "replay_protect", Form::Switch),
    (13, "validation", Form::Words(&["disabled", "check", "strict"])),
];

const BRIDGE_PORT: Table = &[
    (1, "port_state", Form::Words(&["disabled", "listening", "learning", "forwarding", "blocking"])),
    (4, "hairpin", Form::Switch),
    (5, "bpdu_guard", Form::Switch),
    (6, "root_block", Form::Switch),
    (8, "learning", Form::Switch),
    (9, "unicast_flood", Form::Switch),
    (10, "proxyarp", Form::Switch),
    (25, "mcast_router", Form::Number8),
    (27, "mcast_flood", Form::Switch),
    (29, "vlan_tunnel", Form::Switch),
    (30, "bcast_flood", Form::Switch),
    (31, "group_fwd_mask", Form::Mask),
    (32, "neigh_suppress", Form::Switch),
    (33, "isolated", Form::Switch),
    (39, "locked", Form::Switch),
];
const BOND_PORT: Table = &[
    (1, "bond_state", Form::Words(&["active", "backup"])),
    (2, "mii_status", Form::Words(&["up", "going_down", "down", "going_up"])),
    (3, "link_failures", Form::Number32),
    (6, "lacp_aggregator", Form::Number16),
    (7, "lacp_state", Form::Number8),
    (8, "lacp_partner_state", Form::Number16),
];
const VRF_PORT: Table = &[(1, "vrf_table", Form::Number32)];

/// Of an interface's own kind (IFLA_INFO_DATA).
pub fn own(kind: &str) -> Table {
    match kind {
        "vlan" => VLAN,
        "vxlan" => VXLAN,
        "geneve" => GENEVE,
        "macvlan" | "macvtap" => MACVLAN,
        "ipvlan" | "ipvtap" => IPVLAN,
        "bond" => BOND,
        "bridge" => BRIDGE,
        "vrf" => VRF,
        "ipip" | "sit" | "ip6tnl" => IPTUN,
        "gre" | "gretap" | "ip6gre" | "ip6gretap" | "erspan" | "ip6erspan" => GRE,
        "vti" | "vti6" => VTI,
        "xfrm" => XFRM,
        "tun" => TUN,
        "macsec" => MACSEC,
        _ => &[],
    }
}

/// Of a member of this kind of interface (IFLA_INFO_SLAVE_DATA).
pub fn member(kind: &str) -> Table {
    match kind {
        "bridge" => BRIDGE_PORT,
        "bond" => BOND_PORT,
        "vrf" => VRF_PORT,
        _ => &[],
    }
}
