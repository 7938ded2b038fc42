//! Programs in BPF that drop: at the driver, in front of the stack, and in a tc filter.

use super::tool;
use crate::fault::{BOTH, Fault};
use crate::need::Need;
use crate::site::Place;
use whydrop_model::text;

/// `tests/bpf/drop_all.bpf.o`, which has a program `drop_xdp` in its section `xdp`: it drops all.
const OBJECT: &str = "f0VMRgIBAQAAAAAAAAAAAAEA9wABAAAAAAAAAAAAAAAAAAAAAAAAABgBAAAAAAAAAAAAAEAAAAAAAEAACAABALcAAAABAAAAlQAAAAAAAAC3AAAAAgAAAJUAAAAAAAAARHVhbCBNSVQvR1BMAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAcAAAASAAMAAAAAAAAAAAAQAAAAAAAAACcAAAASAAQAAAAAAAAAAAAQAAAAAAAAAB4AAAARAAUAAAAAAAAAAAANAAAAAAAAAAIDBAAudGV4dABkcm9wX3hkcAAubGx2bV9hZGRyc2lnAF9saWNlbnNlAGRyb3BfdGMALnN0cnRhYgAuc3ltdGFiAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAvAAAAAwAAAAAAAAAAAAAAAAAAAAAAAADTAAAAAAAAAD8AAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAQAAAAEAAAAGAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAwAAAABAAAABgAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAsAAAAAQAAAAYAAAAAAAAAAAAAAAAAAABQAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAIAAAAAAAAAAAAAAAAAAAAHwAAAAEAAAADAAAAAAAAAAAAAAAAAAAAYAAAAAAAAAANAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAAAAAAAAAABAAAAADTP9vAAAAgAAAAAAAAAAAAAAAANAAAAAAAAAAAwAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAA3AAAAAgAAAAAAAAAAAAAAAAAAAAAAAABwAAAAAAAAAGAAAAAAAAAAAQAAAAEAAAAIAAAAAAAAABgAAAAAAAAA";

/// Attaches it in this mode; the object is written for `ip` and taken away.
const fn attach(mode: &'static str) -> [&'static str; 6] {
    [
        "sh",
        "-c",
        "echo $2 | base64 -d >/tmp/{server}.o && ip link set dev eth0 $1 obj /tmp/{server}.o sec xdp; done=$?; rm -f /tmp/{server}.o; exit $done",
        "sh",
        mode,
        OBJECT,
    ]
}

const GENERIC: [&str; 6] = attach("xdpgeneric");
const NATIVE: [&str; 6] = attach("xdpdrv");
const NEEDED: Need = Need::Commands(&[&[
    "sh",
    "-c",
    "echo $1 | base64 -d >/tmp/whydrop-need.$$ && ip link set dev lo xdpgeneric obj /tmp/whydrop-need.$$ sec xdp; done=$?; rm -f /tmp/whydrop-need.$$; exit $done",
    "sh",
    OBJECT,
]]);

const CLSACT: [&[&str]; 2] =
    [&["tc", "qdisc", "add", "dev", "eth0", "clsact"], &["tc", "qdisc", "del", "dev", "eth0", "clsact"]];
/// One instruction: return TC_ACT_SHOT.
const SHOT: &[&str] =
    &["tc", "filter", "add", "dev", "eth0", "ingress", "bpf", "da", "bytecode", "1,6 0 0 2,"];
const FILTER: Need = Need::Commands(&[
    &["tc", "qdisc", "add", "dev", "lo", "clsact"],
    &["tc", "filter", "add", "dev", "lo", "ingress", "bpf", "da", "bytecode", "1,6 0 0 2,"],
]);

pub(super) fn faults() -> Vec<Fault> {
    let generic = Fault::pair(
        "xdp.drop/generic",
        text!(
            "a generic XDP program of the server drops all that it receives",
            "服务器的通用 XDP 程序丢弃所有收到的包"
        ),
    )
    .needs(&[NEEDED])
    .breaks(
        vec![tool(Place::Server, &GENERIC, &["ip", "link", "set", "dev", "eth0", "xdpgeneric", "off"])],
        &["xdp.drop"],
    );
    let native = Fault::pair(
        "xdp.drop",
        text!(
            "an XDP program in the driver of the server's interface drops all that it receives",
            "服务器网卡驱动中的 XDP 程序丢弃所有收到的包"
        ),
    )
    .needs(&[NEEDED])
    .breaks(
        vec![tool(Place::Server, &NATIVE, &["ip", "link", "set", "dev", "eth0", "xdpdrv", "off"])],
        &["xdp.drop"],
    );
    let [add, delete] = CLSACT;
    let filter = Fault::pair(
        "tc.bpf_drop",
        text!(
            "a BPF program in a tc filter of the server drops requests",
            "服务器 tc 过滤器中的 BPF 程序丢弃请求"
        ),
    )
    .needs(&[FILTER])
    .breaks(vec![tool(Place::Server, add, delete), tool(Place::Server, SHOT, &["true"])], &["tc.bpf_drop"])
    .asked(&[BOTH, &[Place::Client], &[Place::Server]]);
    vec![native, generic, filter]
}
