//! udp://: datagrams over an ordinary socket, ICMP errors over a raw one.

use super::packets::{Sockets, Way, fly, prepare};
use super::wire::Tap;
use super::{Job, fail, filter};
use crate::error::Result;
use std::net::SocketAddr;
use whydrop_model::{ProbeResult, text};
use whydrop_probe::progress::Event;
use whydrop_probe::udp::Udp;
use whydrop_probe::wire::protocol;

/// Probes a UDP port.
pub fn run(job: &Job<'_>, remote: SocketAddr) -> Result<ProbeResult> {
    let v4 = remote.is_ipv4();
    let (raw, sport) = Tap::udp(v4)
        .map_err(|e| fail(text!("open a socket for {object}", "为 {object} 打开套接字"), job.spec, &e))?;
    prepare(&raw, job.spec, v4)?;
    let icmp = Tap::raw(v4, if v4 { protocol::ICMP } else { protocol::ICMPV6 }).ok();
    let network = filter::network(protocol::UDP, &(sport..=sport));
    let devices = Tap::devices(&network).ok();
    let peer = job.peer(&network, remote.ip())?;
    let rate = 1.0 / job.spec.interval.as_secs_f64().max(1e-9);
    let codec = Udp::new(remote.ip(), remote.port(), sport, rate, icmp.is_some());
    job.tell(Default::default(), Event::Started { address: remote.ip(), method: "udp", because: None });
    let mut result = fly(job, &codec, Way::datagrams(remote), Sockets { raw, icmp, devices, peer })?;
    result.method = "udp".into();
    Ok(result)
}
