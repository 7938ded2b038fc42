//! Routers and hosts that send packets the wrong way, or not on.

use super::tool;
use crate::fault::{BOTH, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::{Manner, Traffic};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use whydrop_model::text;

const LAN: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 9);

pub(super) fn faults() -> Vec<Fault> {
    vec![
        no_return(),
        forwarding_off(),
        forwarding_off_on_one(),
        circle(),
        turned(),
        overlap(),
        prefix(),
        address(),
        martian(),
        fragments(),
        short_queue(),
        short_class(),
        duplicate(),
    ]
}

fn no_return() -> Fault {
    Fault::routed("route.no_return_route", text!("the server has no route back", "服务器没有返回的路由"))
        .breaks(
            vec![tool(
                Place::Server,
                &["ip", "route", "del", "10.77.1.0/24"],
                &["ip", "route", "add", "10.77.1.0/24", "via", "10.77.2.1"],
            )],
            &["route.no_return_route"],
        )
        .asked(&[BOTH, &[Place::Server]])
}

fn forwarding_off() -> Fault {
    let mut fault =
        Fault::routed("route.forwarding_off", text!("the router does not forward", "路由器未开启转发"))
            .breaks(
                vec![tool(
                    Place::Router,
                    &["sysctl", "-qw", "net.ipv4.ip_forward=0"],
                    &["sysctl", "-qw", "net.ipv4.ip_forward=1"],
                )],
                &["route.forwarding_off"],
            );
    fault.target = Place::Router;
    fault.asked = &[BOTH, &[Place::Router]];
    fault
}

fn forwarding_off_on_one() -> Fault {
    Fault::routed(
        "route.forwarding_off/interface",
        text!("the router does not forward what comes by eth0", "路由器不转发从 eth0 到达的包"),
    )
    .breaks(
        vec![tool(
            Place::Router,
            &["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0"],
            &["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=1"],
        )],
        &["route.forwarding_off"],
    )
    .aims_at(Place::Router)
    .asked(&[BOTH, &[Place::Router]])
}

/// The server's second address goes, and its default route leads back to the router.
fn circle() -> Fault {
    let mut fault = Fault::routed(
        "route.loop",
        text!("router and server send the packets to each other", "路由器与服务器互相转发这些包"),
    )
    .prepares(vec![
        tool(Place::Client, &["ip", "route", "add", "10.99.0.0/24", "via", "10.77.1.1"], &[]),
        tool(Place::Router, &["ip", "route", "add", "10.99.0.0/24", "via", "10.77.2.2"], &[]),
        tool(Place::Server, &["ip", "addr", "add", "10.99.0.9/32", "dev", "lo"], &[]),
        tool(Place::Server, &["ip", "route", "add", "10.99.0.0/24", "via", "10.77.2.1"], &[]),
        tool(
            Place::Server,
            &["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0"],
            &[],
        ),
        tool(Place::Server, &["sysctl", "-qw", "net.ipv4.conf.eth0.send_redirects=0"], &[]),
    ])
    .breaks(
        vec![tool(
            Place::Server,
            &["ip", "addr", "del", "10.99.0.9/32", "dev", "lo"],
            &["ip", "addr", "add", "10.99.0.9/32", "dev", "lo"],
        )],
        &["route.loop"],
    );
    fault.traffic = vec![Traffic::web(LAN, 10)];
    fault.probes = vec!["tcp://10.99.0.9:80"];
    fault.target = Place::Router;
    fault.asked = &[BOTH, &[Place::Router]];
    fault
}

/// A table of its own for the server leads back to where the packets come from.
fn turned() -> Fault {
    Fault::routed(
        "route.policy_rule/table",
        text!("a policy rule of the router leads back to the client", "路由器的一条策略规则把包引回客户端"),
    )
    .prepares(vec![tool(
        Place::Router,
        &["ip", "route", "add", "default", "via", "10.77.1.2", "table", "77"],
        &[],
    )])
    .breaks(
        vec![tool(
            Place::Router,
            &["ip", "rule", "add", "to", "10.77.2.2", "lookup", "77", "pref", "100"],
            &["ip", "rule", "del", "pref", "100"],
        )],
        &["route.policy_rule"],
    )
    .aims_at(Place::Router)
    .asked(&[BOTH, &[Place::Router]])
}

/// Half of the server's network is on another cable of the client, by an address of its own there.
fn overlap() -> Fault {
    Fault::routed(
        "route.overlap",
        text!("a network of the client covers the server's address", "客户端的另一个网段覆盖了服务器的地址"),
    )
    .prepares(vec![
        tool(
            Place::Client,
            &["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth9", "netns", "{router}"],
            &[],
        ),
        tool(Place::Client, &["ip", "link", "set", "eth1", "up"], &[]),
        tool(Place::Router, &["ip", "link", "set", "eth9", "up"], &[]),
    ])
    .breaks(
        vec![tool(
            Place::Client,
            &["ip", "addr", "add", "10.77.2.100/25", "dev", "eth1"],
            &["ip", "addr", "del", "10.77.2.100/25", "dev", "eth1"],
        )],
        &["route.overlap"],
    )
    .aims_at(Place::Client)
    .asked(&[BOTH, &[Place::Client]])
}

fn prefix() -> Fault {
    Fault::pair("addr.wrong_prefix", text!("the server's prefix is too long", "服务器地址的前缀过长")).breaks(
        vec![
            tool(
                Place::Server,
                &["ip", "addr", "del", "10.77.0.2/24", "dev", "eth0"],
                &["ip", "addr", "add", "10.77.0.2/24", "dev", "eth0"],
            ),
            tool(
                Place::Server,
                &["ip", "addr", "add", "10.77.0.2/31", "dev", "eth0"],
                &["ip", "addr", "del", "10.77.0.2/31", "dev", "eth0"],
            ),
        ],
        &["addr.wrong_prefix"],
    )
}

fn address() -> Fault {
    let mut fault = Fault::pair(
        "addr.wrong_address",
        text!("the server has another address than its service", "服务器的地址与其服务绑定的地址不同"),
    )
    .breaks(
        vec![
            tool(
                Place::Server,
                &["ip", "addr", "del", "10.77.0.2/24", "dev", "eth0"],
                &["ip", "addr", "add", "10.77.0.2/24", "dev", "eth0"],
            ),
            tool(
                Place::Server,
                &["ip", "addr", "add", "10.77.0.7/24", "dev", "eth0"],
                &["ip", "addr", "del", "10.77.0.7/24", "dev", "eth0"],
            ),
        ],
        &["addr.wrong_address"],
    );
    fault.services = vec![Service::Page { ip: IpAddr::V4(Topology::Pair.server()), port: 80, bytes: 8192 }];
    fault
}

const MARTIAN: Need = Need::Commands(&[&[
    "iptables-nft",
    "-t",
    "nat",
    "-A",
    "POSTROUTING",
    "-j",
    "SNAT",
    "--to-source",
    "127.0.0.9",
]]);

/// The client's packets leave with a loopback address.
fn martian() -> Fault {
    Fault::routed(
        "route.martian_source",
        text!("the client's datagrams leave with a loopback source", "客户端的数据报以回环地址为源地址"),
    )
    .needs(&[MARTIAN])
    .breaks(
        vec![tool(
            Place::Client,
            &[
                "iptables-nft",
                "-t",
                "nat",
                "-A",
                "POSTROUTING",
                "-p",
                "tcp",
                "-j",
                "SNAT",
                "--to-source",
                "127.0.0.9",
            ],
            &[
                "iptables-nft",
                "-t",
                "nat",
                "-D",
                "POSTROUTING",
                "-p",
                "tcp",
                "-j",
                "SNAT",
                "--to-source",
                "127.0.0.9",
            ],
        )],
        &["route.martian_source"],
    )
    .aims_at(Place::Router)
    .asked(&[BOTH, &[Place::Router]])
}

/// The server has no memory for fragments.
fn fragments() -> Fault {
    let mut fault = Fault::pair(
        "ip.frag_reassembly",
        text!("the server has no memory for reassembly", "服务器没有用于重组的内存"),
    )
    .breaks(
        vec![tool(
            Place::Server,
            &["sysctl", "-qw", "net.ipv4.ipfrag_low_thresh=0", "net.ipv4.ipfrag_high_thresh=1"],
            &["sysctl", "-qw", "net.ipv4.ipfrag_high_thresh=4194304", "net.ipv4.ipfrag_low_thresh=3145728"],
        )],
        &["ip.frag_reassembly"],
    )
    .asked(&[BOTH, &[Place::Server]]);
    fault.services.push(Service::datagrams());
    fault.traffic.push(Traffic::datagrams(Topology::Pair, 40, 4000));
    fault
}

const HTB: Need = Need::Commands(&[&["tc", "qdisc", "add", "dev", "lo", "root", "handle", "1:", "htb"]]);

/// A queue of two packets, far below its rate.
fn short_queue() -> Fault {
    let mut fault = Fault::pair(
        "qdisc.queue_limit",
        text!("the server's queue holds two packets", "服务器的队列只能容纳两个包"),
    )
    .breaks(
        vec![
            tool(
                Place::Server,
                &["tc", "qdisc", "add", "dev", "eth0", "root", "handle", "1:", "htb", "default", "1"],
                &["tc", "qdisc", "del", "dev", "eth0", "root"],
            ),
            tool(
                Place::Server,
                &[
                    "tc", "class", "add", "dev", "eth0", "parent", "1:", "classid", "1:1", "htb", "rate",
                    "100mbit",
                ],
                &["true"],
            ),
            tool(
                Place::Server,
                &["tc", "qdisc", "add", "dev", "eth0", "parent", "1:1", "pfifo", "limit", "2"],
                &["true"],
            ),
        ],
        &["qdisc.queue_limit"],
    )
    .needs(&[HTB])
    .asked(&[BOTH, &[Place::Server]]);
    fault.services = vec![Service::page(200_000)];
    fault
}

/// The same by the interface's txqueuelen, which the queue inside of the class takes.
fn short_class() -> Fault {
    let mut fault = Fault::pair(
        "qdisc.queue_limit/txqueuelen",
        text!("the server's interface lets two packets wait", "服务器接口的发送队列长度为 2"),
    )
    .breaks(
        vec![
            tool(
                Place::Server,
                &["ip", "link", "set", "eth0", "txqueuelen", "2"],
                &["ip", "link", "set", "eth0", "txqueuelen", "1000"],
            ),
            tool(
                Place::Server,
                &["tc", "qdisc", "add", "dev", "eth0", "root", "handle", "1:", "htb", "default", "1"],
                &["tc", "qdisc", "del", "dev", "eth0", "root"],
            ),
            tool(
                Place::Server,
                &[
                    "tc", "class", "add", "dev", "eth0", "parent", "1:", "classid", "1:1", "htb", "rate",
                    "100mbit",
                ],
                &["true"],
            ),
        ],
        &["qdisc.queue_limit"],
    )
    .needs(&[HTB])
    .asked(&[BOTH, &[Place::Server]]);
    fault.services = vec![Service::page(200_000)];
    fault
}

/// The client's address was in use when the server tried to take it.
fn duplicate() -> Fault {
    let v6 = |last: u16| IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last));
    let mut fault = Fault::pair(
        "ipv6.dad_failed",
        text!("the server's IPv6 address was in use when it came", "服务器配置 IPv6 地址时该地址已被占用"),
    )
    .prepares(vec![
        tool(Place::Server, &["sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1"], &[]),
        tool(Place::Client, &["ip", "addr", "add", "fd77::1/64", "dev", "eth0", "nodad"], &[]),
        tool(Place::Server, &["ip", "addr", "add", "fd77::2/64", "dev", "eth0", "nodad"], &[]),
    ])
    .breaks(
        vec![
            tool(
                Place::Server,
                &["ip", "addr", "del", "fd77::2/64", "dev", "eth0"],
                &["ip", "addr", "add", "fd77::2/64", "dev", "eth0", "nodad"],
            ),
            tool(Place::Client, &["ip", "addr", "add", "fd77::2/64", "dev", "eth0", "nodad"], &["true"]),
            tool(
                Place::Server,
                &["ip", "addr", "add", "fd77::2/64", "dev", "eth0"],
                &["ip", "addr", "del", "fd77::2/64", "dev", "eth0"],
            ),
            tool(Place::Server, &["sleep", "2.5"], &["true"]),
            tool(Place::Client, &["ip", "addr", "del", "fd77::2/64", "dev", "eth0"], &["true"]),
        ],
        &["ipv6.dad_failed"],
    )
    .asked(&[BOTH, &[Place::Server]]);
    fault.services = vec![Service::Page { ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED), port: 80, bytes: 8192 }];
    fault.traffic =
        vec![Traffic::Requests { to: SocketAddr::new(v6(2), 80), per_second: 10, manner: Manner::Reads }];
    fault.probes = vec!["tcp://[fd77::2]:80"];
    fault
}
