//! What containers and their port mappings bring along.

use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::Place;
use std::net::Ipv4Addr;
use whydrop_model::text;

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::pair(
            "container.route_localnet",
            text!(
                "port 80 is sent on to a server that listens on 127.0.0.1",
                "80 端口被转到只监听 127.0.0.1 的服务器"
            ),
        )
        .needs(&[Need::IptablesNft])
        .breaks(
            vec![
                Change::Serve(vec![Service::Page { ip: Ipv4Addr::LOCALHOST, port: 80, bytes: 8192 }]),
                Change::Tool { at: Place::Server, argv: &SEND_ON, undo: &KEEP },
            ],
            &["container.route_localnet"],
        ),
    ]
}

const SEND_ON: [&str; 13] = rule("-A");
const KEEP: [&str; 13] = rule("-D");

const fn rule(verb: &'static str) -> [&'static str; 13] {
    [
        "iptables-nft",
        "-t",
        "nat",
        verb,
        "PREROUTING",
        "-p",
        "tcp",
        "--dport",
        "80",
        "-j",
        "DNAT",
        "--to-destination",
        "127.0.0.1:80",
    ]
}
