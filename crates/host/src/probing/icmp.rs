//! icmp://: echo requests over a raw socket, or over the kernel's ping socket.

use super::packets::{Sockets, Way, fly, prepare};
use super::wire::Tap;
use super::{Job, fail, filter};
use crate::error::{Error, Result};
use std::io::ErrorKind;
use std::net::SocketAddr;
use whydrop_model::{ProbeResult, text};
use whydrop_probe::icmp::Icmp;
use whydrop_probe::progress::Event;
use whydrop_probe::wire::protocol;

/// Probes an address with echo requests.
pub fn run(job: &Job<'_>, remote: SocketAddr) -> Result<ProbeResult> {
    let v4 = remote.is_ipv4();
    let (raw, ping) = socket(job, v4)?;
    prepare(&raw, job.spec, v4)?;
    let number = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
    let devices = Tap::devices(&filter::network(number, &(0..=0))).ok();
    let peer = job.peer(&filter::network(number, &(0..=0)), remote.ip())?;
    let identifier = std::process::id() as u16;
    let codec = Icmp::new(remote.ip(), identifier);
    job.tell(Default::default(), Event::Started { address: remote.ip(), method: "icmp", because: None });
    let mut result = fly(job, &codec, Way::raw(remote), Sockets { raw, icmp: None, devices, peer })?;
    result.method = "icmp".into();
    if ping {
        let note = text!(
            "without CAP_NET_RAW no ICMP error of a router is seen",
            "缺少 CAP_NET_RAW，看不到路由器的 ICMP 错误"
        );
        result.extra.notes.push(note.phrase());
    }
    Ok(result)
}

/// A socket for echo requests; true if it is the kernel's ping socket, which shows no ICMP error.
fn socket(job: &Job<'_>, v4: bool) -> Result<(Tap, bool)> {
    let number = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
    match Tap::raw(v4, number) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => match Tap::ping(v4, number) {
            Ok(ping) => Ok((ping, true)),
            Err(e) => {
                let hint = text!(
                    "CAP_NET_RAW, or a group inside net.ipv4.ping_group_range",
                    "需要 CAP_NET_RAW，或属于 net.ipv4.ping_group_range 中的组"
                );
                let open = text!("open a ping socket for {object}", "为 {object} 打开 ping 套接字");
                Err(fail(open, job.spec, &e).with_hint(hint.phrase()))
            }
        },
        other => Ok((other.map_err(|e| no_raw_socket(job, &e))?, false)),
    }
}

/// A raw socket for those who live on ICMP errors: without these a router that speaks would be called silent.
pub fn raw(job: &Job<'_>, v4: bool) -> Result<Tap> {
    let number = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
    let raw = Tap::raw(v4, number).map_err(|e| no_raw_socket(job, &e))?;
    prepare(&raw, job.spec, v4)?;
    Ok(raw)
}

/// The error of a run that cannot have a raw socket.
pub fn no_raw_socket(job: &Job<'_>, error: &std::io::Error) -> Error {
    let failed = fail(text!("open a raw socket for {object}", "为 {object} 打开原始套接字"), job.spec, error);
    match error.kind() {
        ErrorKind::PermissionDenied => {
            failed.with_hint(text!("run as root, or with CAP_NET_RAW", "需要 root 或 CAP_NET_RAW").phrase())
        }
        _ => failed,
    }
}
