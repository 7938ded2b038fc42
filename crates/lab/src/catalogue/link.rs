//! Interfaces that are off or unplugged.

use crate::fault::{Change, Fault};
use crate::site::Place;
use whydrop_model::{Action, text};

pub(super) fn faults() -> Vec<Fault> {
    let down = |dev: &str| Action::LinkState { dev: dev.into(), up: false };
    vec![
        Fault::pair("link.admin_down", text!("the server's eth0 is switched off", "服务器的 eth0 被关闭"))
            .breaks(vec![Change::Act(Place::Server, down("eth0"))], &["link.admin_down"]),
        Fault::routed(
            "link.no_carrier",
            text!(
                "the cable of the server's eth0 is pulled at the router",
                "服务器 eth0 的网线在路由器一端被拔掉"
            ),
        )
        .breaks(vec![Change::Act(Place::Router, down("eth1"))], &["link.no_carrier"])
        .in_view(&["link.admin_down"]),
    ]
}
