//! Programs that their control group, their storage or their tunnel's other half keeps from serving.

use super::{script, served};
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::Place;
use crate::traffic::Traffic;
use std::net::Ipv4Addr;
use whydrop_model::text;

const CGROUPS: &[Need] = &[Need::Commands(&[
    &["python3", "-c", ""],
    // A file system that is read-only, as in many containers, has no new cgroups.
    &[
        "sh",
        "-c",
        "for mount in unified freezer .; do [ -w /sys/fs/cgroup/$mount/cgroup.procs ] && exit; done; exit 1",
    ],
])];
const LOOP: &[Need] =
    &[Need::Commands(&[&["python3", "-c", ""], &["mkfs.ext4", "-V"], &["test", "-e", "/dev/loop-control"]])];
const TUN: &[Need] =
    &[Need::Commands(&[&["python3", "-c", ""], &["ip", "tuntap", "add", "dev", "tun9", "mode", "tun"]])];

pub(super) fn faults() -> Vec<Fault> {
    let groups = [
        served(
            "cgroup.frozen",
            text!(
                "the web server's cgroup is frozen, as docker pause does",
                "Web 服务器的 cgroup 被冻结，如 docker pause"
            ),
            [script!("cgroup", "run(FREEZE, False)"), script!("cgroup", "run(FREEZE, True)")],
            &["cgroup.frozen"],
        ),
        served(
            "cgroup.cpu_throttled",
            text!(
                "the web server's cgroup may use 1 % of a processor, and a request costs 20 ms",
                "Web 服务器的 cgroup 只能使用 1% 的处理器，而每个请求需要 20 毫秒"
            ),
            [script!("cgroup", "run(QUOTA, False, compute)"), script!("cgroup", "run(QUOTA, True, compute)")],
            &["cgroup.cpu_throttled"],
        ),
        served(
            "cgroup.bpf_drop",
            text!(
                "a BPF program on the web server's cgroup takes what comes, as IPAddressDeny of systemd does",
                "Web 服务器 cgroup 上的 BPF 程序丢弃收到的包，如 systemd 的 IPAddressDeny"
            ),
            [script!("cgroup", "run(FILTER, False)"), script!("cgroup", "run(FILTER, drop(INGRESS))")],
            &["cgroup.bpf_drop"],
        ),
        served(
            "cgroup.bpf_drop/egress",
            text!(
                "a BPF program on the web server's cgroup takes its answers",
                "Web 服务器 cgroup 上的 BPF 程序丢弃其应答"
            ),
            [script!("cgroup", "run(FILTER, False)"), script!("cgroup", "run(FILTER, drop(EGRESS))")],
            &["cgroup.bpf_drop"],
        ),
    ];
    let mut faults: Vec<Fault> = groups.into_iter().map(|fault| fault.needs(CGROUPS)).collect();
    faults.push(
        served(
            "app.io_stall",
            text!(
                "the file system of the web server's log was frozen for a snapshot, and not thawed",
                "Web 服务器日志所在的文件系统为做快照而冻结，之后没有解冻"
            ),
            [script!("storage", "run(frozen=False)"), script!("storage", "run(frozen=True)")],
            &["app.io_stall"],
        )
        .needs(LOOP),
    );
    faults.push(tunnel());
    faults
}

fn tunnel() -> Fault {
    let far = Ipv4Addr::new(10, 99, 0, 2);
    let sends = |text| vec![Traffic::Script { text }, Traffic::web(far, 10)];
    let mut fault = Fault::pair(
        "tun.reader_stalled",
        text!(
            "the client's VPN program hangs and does not read its tun device",
            "客户端的 VPN 程序卡住，不读取其 tun 设备"
        ),
    )
    .needs(TUN)
    .breaks(
        vec![Change::Traffic(sends(script!("tunnel", "run('10.99.0.1', '10.77.0.2', reads=False)")))],
        &["tun.reader_stalled"],
    );
    fault.services.push(Service::Script { text: script!("tunnel", "run('10.99.0.2', '10.77.0.1')") });
    fault.traffic = sends(script!("tunnel", "run('10.99.0.1', '10.77.0.2')"));
    fault.target = Place::Client;
    fault.probes = vec![];
    fault
}
