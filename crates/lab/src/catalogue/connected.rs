//! Connections that TCP itself does not let come about, or go on: keys, queues and ports.

use super::{PYTHON, script, served, tool};
use crate::fault::{BOTH, Fault};
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
use whydrop_model::text;

pub(super) fn faults() -> Vec<Fault> {
    vec![keys(), deferred(), ports(), flooded()]
}

/// What the client of such a pair sends.
fn sending(mut fault: Fault, text: &'static str) -> Fault {
    fault.traffic = vec![Traffic::Script { text }];
    fault.probes = vec![];
    fault
}

fn keys() -> Fault {
    let fault = served(
        "tcp.md5_mismatch",
        text!("two BGP speakers sign with different keys", "两个 BGP 程序使用不同的密钥签名"),
        [
            script!("keyed", "speak('10.77.0.1', b'correct')"),
            script!("keyed", "speak('10.77.0.1', b'mistyped')"),
        ],
        &["tcp.md5_mismatch"],
    );
    sending(fault, script!("keyed", "connect('10.77.0.2', b'correct')"))
}

fn deferred() -> Fault {
    let fault = served(
        "tcp.defer_accept",
        text!(
            "a mail server listens with TCP_DEFER_ACCEPT, and its clients wait for its greeting",
            "邮件服务器使用 TCP_DEFER_ACCEPT 监听，而客户端在等待它的问候"
        ),
        [script!("greeting", "greet(defer=False)"), script!("greeting", "greet(defer=True)")],
        &["tcp.defer_accept"],
    );
    sending(fault, script!("greeting", "visit('10.77.0.2')"))
}

fn ports() -> Fault {
    let mut fault = Fault::pair(
        "tcp.ephemeral_exhausted",
        text!(
            "the client may use 16 local ports, and its connections leave them in TIME_WAIT",
            "客户端只能使用 16 个本地端口，而其连接都停留在 TIME_WAIT"
        ),
    )
    .needs(PYTHON)
    .breaks(
        vec![tool(
            Place::Client,
            &["sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40015"],
            &["sysctl", "-qw", "net.ipv4.ip_local_port_range=32768 60999"],
        )],
        &["tcp.ephemeral_exhausted"],
    )
    .aims_at(Place::Client);
    fault.services = vec![Service::Script { text: script!("held", "echo()") }];
    sending(fault, script!("held", "shake_hands('10.77.0.2')"))
}

/// The flood comes by the uplink, which is a neighbour that nobody sees.
fn flooded() -> Fault {
    let server = |argv| tool(Place::Server, argv, &[]);
    let mut fault = Fault::pair(
        "tcp.syn_queue_overflow",
        text!("a flood of SYNs meets a server without SYN cookies", "SYN 洪泛遇上未启用 SYN cookie 的服务器"),
    )
    .needs(PYTHON)
    .prepares(vec![
        server(&["ip", "neigh", "add", "10.77.0.254", "lladdr", "02:00:00:00:77:fe", "dev", "eth0"]),
        server(&["ip", "route", "add", "default", "via", "10.77.0.254"]),
    ])
    .breaks(
        vec![tool(
            Place::Server,
            &["sysctl", "-qw", "net.ipv4.tcp_syncookies=0"],
            &["sysctl", "-qw", "net.ipv4.tcp_syncookies=1"],
        )],
        &["tcp.syn_queue_overflow"],
    )
    .asked(&[BOTH, &[Place::Server]]);
    fault.traffic = vec![
        Traffic::requests(Topology::Pair, 10),
        Traffic::Script { text: script!("flood", "run('10.77.0.2')") },
    ];
    fault
}
