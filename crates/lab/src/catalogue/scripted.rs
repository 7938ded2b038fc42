//! Programs whose own state is at fault: their descriptors, workers, socket options and addresses.

use super::{PYTHON, script, served, tool};
use crate::fault::{BOTH, Change, Fault};
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
use std::net::{Ipv4Addr, SocketAddr};
use whydrop_model::text;

/// A second address of the server.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 22);

pub(super) fn faults() -> Vec<Fault> {
    vec![
        served(
            "app.fd_exhausted",
            text!(
                "the web server has never closed connections whose clients are gone, until it may open no more",
                "Web 服务器从不关闭客户端已离开的连接，直到不能再打开新的"
            ),
            [script!("descriptors", "run(leaks=False)"), script!("descriptors", "run(leaks=True)")],
            &["app.fd_exhausted"],
        ),
        served(
            "app.reuseport_stuck_member",
            text!(
                "one of two processes that share port 80 was stopped by a signal",
                "共用 80 端口的两个进程之一被信号暂停"
            ),
            [script!("members", "run(stopped=False)"), script!("members", "run(stopped=True)")],
            &["app.reuseport_stuck_member"],
        ),
        slow_reader(),
        slow_clients(),
        other_source(),
        filtered(),
        other_address(),
        other_device(),
        resolver(),
        memberships(),
    ]
}

fn slow_reader() -> Fault {
    let mut fault = served(
        "app.slow_reader",
        text!("the program that takes an upload does not read", "接收上传的程序不读取数据"),
        [script!("sink", "take(reads=True)"), script!("sink", "take(reads=False)")],
        &["app.slow_reader"],
    );
    fault.traffic = vec![Traffic::Script { text: script!("sink", "send('10.77.0.2')") }];
    fault.probes = vec![];
    fault
}

fn slow_clients() -> Fault {
    let dripping = Traffic::Script { text: script!("workers", "drip('10.77.0.2')") };
    let traffic = vec![Traffic::requests(Topology::Pair, 10), dripping];
    let mut fault = Fault::pair(
        "app.slow_clients",
        text!(
            "clients that never end their requests hold all four workers of the web server",
            "不结束请求的客户端占住了 Web 服务器的全部四个工作者"
        ),
    )
    .needs(PYTHON)
    .breaks(vec![Change::Traffic(traffic)], &["app.slow_clients"]);
    fault.services = vec![Service::Script { text: script!("workers", "work()") }];
    fault
}

/// Has a second address at the server, which is asked by UDP.
fn second_asked(fault: Fault) -> Fault {
    let argv = &["ip", "addr", "add", "10.77.0.22/24", "dev", "eth0"];
    let mut fault = fault.prepares(vec![tool(Place::Server, argv, &[])]);
    fault.traffic = vec![Traffic::Asks { to: SocketAddr::new(SECOND.into(), 9000), per_second: 10 }];
    fault.probes = vec![];
    fault
}

fn other_source() -> Fault {
    second_asked(served(
        "app.reply_source_mismatch",
        text!(
            "a service that is bound to no address answers from the first one, not from the one that was asked",
            "未绑定具体地址的服务用第一个地址应答，而不是被访问的那个地址"
        ),
        [script!("datagrams", "echo('10.77.0.22')"), script!("datagrams", "echo()")],
        &["app.reply_source_mismatch"],
    ))
}

fn filtered() -> Fault {
    second_asked(served(
        "socket.filter_drop",
        text!("a filter on the service's socket takes all datagrams", "服务套接字上的过滤器丢弃所有数据报"),
        [
            script!("datagrams", "echo('10.77.0.22')"),
            script!("datagrams", "echo('10.77.0.22', refuses=True)"),
        ],
        &["socket.filter_drop"],
    ))
}

fn other_address() -> Fault {
    let second = Service::Page { ip: Ipv4Addr::new(10, 78, 0, 2).into(), port: 80, bytes: 8192 };
    Fault::new(
        "app.bound_wrong_device/address",
        text!(
            "the web server listens on the address of the other interface",
            "Web 服务器监听的是另一个接口的地址"
        ),
        Topology::TwoLinks,
        vec!["tcp://10.77.0.2:80"],
    )
    .breaks(vec![Change::Serve(vec![second])], &["app.bound_wrong_device"])
}

fn other_device() -> Fault {
    let fault = served(
        "app.bound_wrong_device",
        text!(
            "the web server's socket is bound to the other interface",
            "Web 服务器的套接字绑定在另一个接口上"
        ),
        [script!("bound", "run('eth0')"), script!("bound", "run('eth1')")],
        &["app.bound_wrong_device"],
    );
    Fault { topology: Topology::TwoLinks, ..fault }
}

fn resolver() -> Fault {
    let asks = |text| vec![Traffic::requests(Topology::Pair, 10), Traffic::Script { text }];
    let mut fault = Fault::pair(
        "dns.server_unreachable",
        text!("the client asks a name server whose address nobody has", "客户端查询的域名服务器地址无人拥有"),
    )
    .needs(PYTHON)
    .breaks(
        vec![Change::Traffic(asks(script!("datagrams", "resolve('10.77.0.53')")))],
        &["dns.server_unreachable"],
    )
    .asked(&[BOTH, &[Place::Client]]);
    fault.services.push(Service::Echo { port: 53 });
    fault.traffic = asks(script!("datagrams", "resolve('10.77.0.2')"));
    fault.target = Place::Client;
    fault
}

fn memberships() -> Fault {
    let mut fault = served(
        "mcast.membership_limit",
        text!("the group that is sent to is the 21st of a socket", "流量发往的是套接字的第 21 个组"),
        [script!("groups", "listen(first=21)"), script!("groups", "listen(first=1)")],
        &["mcast.membership_limit"],
    )
    .asked(&[BOTH, &[Place::Server]]);
    let to = SocketAddr::new(Ipv4Addr::new(239, 7, 7, 21).into(), 9000);
    let from = Ipv4Addr::new(10, 77, 0, 1).into();
    fault.traffic = vec![Traffic::Datagrams { from, to, per_second: 20, bytes: 100 }];
    fault.probes = vec![];
    fault
}
