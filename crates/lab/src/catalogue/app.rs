//! Programs that do not read, accept or listen.

use crate::fault::{Change, Fault};
use crate::service::Service;
use crate::site::Topology;
use crate::traffic::Traffic;
use std::net::Ipv4Addr;
use whydrop_model::text;

pub(super) fn faults() -> Vec<Fault> {
    let mut deaf = Fault::pair(
        "udp.rcvbuf_overflow",
        text!("a program with a small receive buffer does not read", "接收缓冲区很小的程序不读取数据"),
    );
    deaf.services.push(Service::datagrams());
    deaf.traffic.push(Traffic::datagrams(Topology::Pair, 200, 512));
    let stuck = Service::Datagrams { port: 9000, reads: false, buffer: Some(4096) };
    let deaf = deaf.breaks(vec![Change::Serve(vec![Service::page(8192), stuck])], &["udp.rcvbuf_overflow"]);
    vec![
        Fault::pair(
            "tcp.accept_queue_overflow",
            text!("the web server hangs and accepts no connection", "Web 服务器卡住，不再接受连接"),
        )
        .breaks(
            vec![Change::Serve(vec![Service::Hung { port: 80, backlog: 1 }])],
            &["tcp.accept_queue_overflow"],
        ),
        deaf,
        Fault::pair("app.not_listening", text!("no program listens on port 80", "没有程序监听 80 端口"))
            .breaks(vec![Change::Serve(vec![])], &["app.not_listening"]),
        Fault::pair(
            "app.bound_loopback",
            text!("the web server listens on 127.0.0.1 only", "Web 服务器只监听 127.0.0.1"),
        )
        .breaks(
            vec![Change::Serve(vec![Service::Page {
                ip: Ipv4Addr::LOCALHOST.into(),
                port: 80,
                bytes: 8192,
            }])],
            &["app.bound_loopback"],
        ),
    ]
}
