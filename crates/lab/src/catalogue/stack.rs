//! Devices on devices: VLANs and bonds, and a bridge that filters by VLAN.

use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::site::Place;
use whydrop_model::text;

/// A command and its way back.
type Step = [&'static [&'static str]; 2];

/// The server's address leaves eth0 for another device.
const WITHOUT_ADDRESS: Step = [
    &["ip", "addr", "del", "10.77.0.2/24", "dev", "eth0"],
    &["ip", "addr", "add", "10.77.0.2/24", "dev", "eth0"],
];

const VLAN: [Step; 4] = [
    WITHOUT_ADDRESS,
    [
        &["ip", "link", "add", "link", "eth0", "name", "eth0.20", "type", "vlan", "id", "20"],
        &["ip", "link", "del", "eth0.20"],
    ],
    [
        &["ip", "addr", "add", "10.77.0.2/24", "dev", "eth0.20"],
        &["ip", "addr", "del", "10.77.0.2/24", "dev", "eth0.20"],
    ],
    [&["ip", "link", "set", "eth0.20", "up"], &["ip", "link", "set", "eth0.20", "down"]],
];

/// The port to the server leaves VLAN 1 for VLAN 20.
const FILTER: [Step; 3] = [
    [
        &["ip", "link", "set", "br0", "type", "bridge", "vlan_filtering", "1"],
        &["ip", "link", "set", "br0", "type", "bridge", "vlan_filtering", "0"],
    ],
    [
        &["bridge", "vlan", "add", "dev", "eth1", "vid", "20", "pvid", "untagged"],
        &["bridge", "vlan", "del", "dev", "eth1", "vid", "20"],
    ],
    [
        &["bridge", "vlan", "del", "dev", "eth1", "vid", "1"],
        &["bridge", "vlan", "add", "dev", "eth1", "vid", "1", "pvid", "untagged"],
    ],
];

/// A bond of eth0 alone, which is then switched off.
const BOND: [Step; 7] = [
    WITHOUT_ADDRESS,
    [
        &["ip", "link", "add", "bond0", "type", "bond", "mode", "active-backup", "miimon", "100"],
        &["ip", "link", "del", "bond0"],
    ],
    [&["ip", "link", "set", "eth0", "down"], &["ip", "link", "set", "eth0", "up"]],
    [&["ip", "link", "set", "eth0", "master", "bond0"], &["ip", "link", "set", "eth0", "nomaster"]],
    [&["ip", "link", "set", "bond0", "up"], &["ip", "link", "set", "bond0", "down"]],
    [
        &["ip", "addr", "add", "10.77.0.2/24", "dev", "bond0"],
        &["ip", "addr", "del", "10.77.0.2/24", "dev", "bond0"],
    ],
    [&["ip", "link", "set", "eth0", "down"], &["ip", "link", "set", "eth0", "up"]],
];

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::pair(
            "vlan.id_mismatch",
            text!("the server uses VLAN 20, the client none", "服务器使用 VLAN 20，客户端不使用 VLAN"),
        )
        .needs(&[Need::Vlan])
        .breaks(steps(Place::Server, &VLAN), &["vlan.id_mismatch"]),
        Fault::switched(
            "bridge.vlan_filter",
            text!("the ports of client and server are in two VLANs", "客户端与服务器的端口属于两个 VLAN"),
        )
        .needs(&[Need::BridgeVlan])
        .breaks(steps(Place::Router, &FILTER), &["bridge.vlan_filter"]),
        Fault::pair(
            "bond.no_active_slave",
            text!("the only member of the server's bond is switched off", "服务器 bond 的唯一成员被关闭"),
        )
        .needs(&[Need::Bond])
        .breaks(steps(Place::Server, &BOND), &["bond.no_active_slave"]),
    ]
}

fn steps(at: Place, steps: &'static [Step]) -> Vec<Change> {
    steps.iter().map(|[argv, undo]| Change::Tool { at, argv, undo }).collect()
}
