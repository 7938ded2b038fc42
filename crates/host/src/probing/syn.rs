//! tcp://: raw SYNs, or connect() where raw sockets are not allowed.

use super::connect::{self, Why};
use super::packets::{Sockets, Way, fly};
use super::ports::Ports;
use super::wire::Tap;
use super::{Job, fail, filter, icmp, next_hop};
use crate::error::Result;
use std::net::SocketAddr;
use whydrop_model::ProbeResult;
use whydrop_model::text;
use whydrop_probe::progress::Event;
use whydrop_probe::syn::Syn;
use whydrop_probe::wire::protocol;

/// How long a source port rests before it is used again: a server forgets a half-open connection after 63 s.
const REST_SECONDS: f64 = 64.0;

/// Probes a TCP port.
pub fn run(job: &Job<'_>, remote: SocketAddr) -> Result<ProbeResult> {
    let v4 = remote.is_ipv4();
    let raw = match Tap::raw(v4, protocol::TCP) {
        Ok(raw) => raw,
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return connect::run(job, remote, Why::NoRawSockets);
        }
        Err(e) => return Err(icmp::no_raw_socket(job, &e)),
    };
    let by_port = next_hop::by_port(job.spec, remote);
    // At the other end only raw probes are recognised.
    if by_port && job.peer.is_none() {
        return connect::run(job, remote, Why::RouteByPort);
    }
    let spec = job.spec;
    let wanted = match spec.flows {
        Some(flows) => usize::from(flows),
        None => {
            let at_once = (REST_SECONDS / spec.interval.as_secs_f64()).ceil() as usize;
            spec.count.map_or(at_once, |count| at_once.min(count as usize))
        }
    };
    let ports = Ports::reserve(wanted, v4)
        .map_err(|e| fail(text!("reserve source ports for {object}", "为 {object} 预留源端口"), spec, &e))?;
    let open = |e: std::io::Error| icmp::no_raw_socket(job, &e);
    let network = filter::network(protocol::TCP, &ports.range());
    let own = if v4 { filter::network } else { |_, ports: &_| filter::transport(ports) };
    raw.socket().attach_filter(&own(protocol::TCP, &ports.range())).map_err(open)?;
    super::packets::prepare(&raw, spec, v4)?;
    if by_port {
        next_hop::keep_source(&raw, remote).map_err(open)?;
    }
    let icmp = Tap::raw(v4, if v4 { protocol::ICMP } else { protocol::ICMPV6 }).map_err(open)?;
    let devices = Tap::devices(&network).ok();
    let peer = job.peer(&network, remote.ip())?;
    let codec = Syn::new(remote.ip(), remote.port(), ports.numbers()).ok_or_else(|| {
        crate::Error::new(
            text!("probe {object}", "探测 {object}"),
            &spec.url,
            text!("no source port is free", "没有空闲的源端口").phrase(),
        )
    })?;
    job.tell(Default::default(), Event::Started { address: remote.ip(), method: "syn", because: None });
    let mut result = fly(job, &codec, Way::raw(remote), Sockets { raw, icmp: Some(icmp), devices, peer })?;
    result.method = "syn".into();
    if by_port {
        result.extra.notes.push(next_hop::one_of_several());
    }
    Ok(result)
}
