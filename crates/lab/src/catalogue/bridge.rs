//! Bridges that do not let pass.

use crate::fault::{Change, Fault};
use crate::site::Place;
use whydrop_model::text;

pub(super) fn faults() -> Vec<Fault> {
    let at_the_switch = |argv: &'static [&'static str], undo: &'static [&'static str]| Change::Tool {
        at: Place::Router,
        argv,
        undo,
    };
    vec![
        Fault::switched(
            "bridge.port_blocking",
            text!("the switch's port to the server is disabled", "交换机通往服务器的端口被禁用"),
        )
        .breaks(
            vec![at_the_switch(
                &["bridge", "link", "set", "dev", "eth1", "state", "0"],
                &["bridge", "link", "set", "dev", "eth1", "state", "3"],
            )],
            &["bridge.port_blocking"],
        ),
        Fault::switched(
            "bridge.port_isolated",
            text!("the ports of client and server are isolated", "客户端与服务器的端口相互隔离"),
        )
        .breaks(
            vec![
                at_the_switch(
                    &["bridge", "link", "set", "dev", "eth0", "isolated", "on"],
                    &["bridge", "link", "set", "dev", "eth0", "isolated", "off"],
                ),
                at_the_switch(
                    &["bridge", "link", "set", "dev", "eth1", "isolated", "on"],
                    &["bridge", "link", "set", "dev", "eth1", "isolated", "off"],
                ),
            ],
            &["bridge.port_isolated"],
        ),
    ]
}
