//! icmp://: echo requests over a raw socket, or over the kernel's ping socket.

use super::packets::{Sockets, Way, fly, prepare};
use super::wire::Tap;
use super::{Job, fail, filter};
use crate::error::Result;
use std::io::ErrorKind;
use std::net::SocketAddr;
use whydrop_model::{ProbeResult, text};
use whydrop_probe::icmp::Icmp;
use whydrop_probe::progress::Event;
use whydrop_probe::wire::protocol;

/// Probes an address with echo requests.
pub fn run(job: &Job<'_>, remote: SocketAddr) -> Result<ProbeResult> {
    let v4 = remote.is_ipv4();
    let (raw, devices) = sockets(job, v4)?;
    let number = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
    let peer = job.peer(&filter::network(number, &(0..=0)), remote.ip())?;
    let identifier = std::process::id() as u16;
    let codec = Icmp::new(remote.ip(), identifier);
    job.tell(Default::default(), Event::Started { address: remote.ip(), method: "icmp", because: None });
    let mut result = fly(job, &codec, Way::raw(remote), Sockets { raw, icmp: None, devices, peer })?;
    result.method = "icmp".into();
    Ok(result)
}

/// A socket for echo requests, and what sees the devices.
pub fn sockets(job: &Job<'_>, v4: bool) -> Result<(Tap, Option<Tap>)> {
    let number = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
    let raw = match Tap::raw(v4, number) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Tap::ping(v4, number).map_err(|e| {
            let hint = text!(
                "CAP_NET_RAW, or a group inside net.ipv4.ping_group_range",
                "需要 CAP_NET_RAW，或属于 net.ipv4.ping_group_range 中的组"
            );
            fail(text!("open a ping socket for {object}", "为 {object} 打开 ping 套接字"), job.spec, &e)
                .with_hint(hint.phrase())
        })?,
        other => other.map_err(|e| {
            fail(text!("open a raw socket for {object}", "为 {object} 打开原始套接字"), job.spec, &e)
        })?,
    };
    prepare(&raw, job.spec, v4)?;
    Ok((raw, Tap::devices(&filter::network(number, &(0..=0))).ok()))
}
