//! path://: probes that die hop by hop.

use super::packets::{PATIENCE, Sockets, Way, hear, set_ttl, wait};
use super::ports::Ports;
use super::wire::Tap;
use super::{Job, clock, errno_name, fail, filter, icmp, next_hop};
use crate::error::{Error, Result};
use socket2::SockAddr;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use whydrop_model::probe::Flow;
use whydrop_model::{ProbeResult, text};
use whydrop_probe::Nanos;
use whydrop_probe::account::Counts;
use whydrop_probe::codec::{Codec, What};
use whydrop_probe::icmp::Icmp;
use whydrop_probe::notes;
use whydrop_probe::path::{Path, Step};
use whydrop_probe::progress::Event;
use whydrop_probe::stats::{interval, rtt};
use whydrop_probe::syn::Syn;
use whydrop_probe::wire::icmp::ErrorKind;
use whydrop_probe::wire::protocol;

/// Different ICMP errors that are told apart.
const MAX_ERRORS: usize = 32;

/// Sends that fail before any succeeds: the next one would fare no better.
const HOPELESS: u64 = 5;

/// Probes every hop on the way to an address: with echo requests, or with SYNs if a port is named. The counts of the
/// result are those of the destination.
pub fn run(job: &Job<'_>, remote: SocketAddr) -> Result<ProbeResult> {
    let v4 = remote.is_ipv4();
    job.tell(Counts::default(), Event::Started { address: remote.ip(), method: "path", because: None });
    if remote.port() == 0 {
        let raw = icmp::raw(job, v4)?;
        let codec = Icmp::new(remote.ip(), std::process::id() as u16);
        let sockets = Sockets { raw, icmp: None, devices: None, peer: None };
        return walk(job, &codec, remote, sockets).map(|(result, _)| result);
    }
    let open = |e: std::io::Error| icmp::no_raw_socket(job, &e);
    let raw = Tap::raw(v4, protocol::TCP).map_err(open)?;
    let ports = Ports::reserve(job.spec.flows.unwrap_or(1).into(), v4).map_err(|e| {
        fail(text!("reserve source ports for {object}", "为 {object} 预留源端口"), job.spec, &e)
    })?;
    let own = if v4 { filter::network } else { |_, ports: &_| filter::transport(ports) };
    raw.socket().attach_filter(&own(protocol::TCP, &ports.range())).map_err(open)?;
    super::packets::prepare(&raw, job.spec, v4)?;
    let icmp = Tap::raw(v4, if v4 { protocol::ICMP } else { protocol::ICMPV6 }).map_err(open)?;
    let codec = Syn::new(remote.ip(), remote.port(), ports.numbers()).ok_or_else(|| {
        Error::new(
            text!("probe {object}", "探测 {object}"),
            &job.spec.url,
            text!("no source port is free", "没有空闲的源端口").phrase(),
        )
    })?;
    let by_port = next_hop::by_port(job.spec, remote);
    if by_port {
        next_hop::keep_source(&raw, remote).map_err(open)?;
    }
    let sockets = Sockets { raw, icmp: Some(icmp), devices: None, peer: None };
    let (mut result, path) = walk(job, &codec, remote, sockets)?;
    if job.spec.flows.is_some() {
        let flows = ports.numbers().into_iter().zip(path.flows(clock::now()));
        let flow = |(sport, (sent, answered))| Flow { sport, transmitted: sent, lost: sent - answered };
        result.extra.flows = flows.map(flow).collect();
    }
    notes::finish(&mut result);
    if by_port {
        result.extra.notes.push(next_hop::one_of_several());
    }
    Ok(result)
}

/// Runs the probes; the result is without what only the path knows of its flows.
fn walk(
    job: &Job<'_>,
    codec: &dyn Codec,
    remote: SocketAddr,
    mut sockets: Sockets,
) -> Result<(ProbeResult, Path)> {
    let v4 = remote.is_ipv4();
    let mut way = Way::raw(remote);
    let start = clock::now();
    let deadline =
        job.spec.deadline.map(|d| start.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(Nanos::MAX)));
    let mut path = Path::new(job.spec, start);
    let (mut send_errors, mut icmp_errors) = (BTreeMap::new(), BTreeMap::new());
    loop {
        let now = clock::now();
        if job.cancelled() || deadline.is_some_and(|end| now >= end) {
            path.stop();
        }
        match path.poll(now) {
            Step::Done => break,
            Step::Wait(until) => {
                wait(&sockets, until.min(now + PATIENCE).saturating_sub(now)).map_err(|e| {
                    fail(text!("wait for answers of {object}", "等待 {object} 的应答"), job.spec, &e)
                })?;
            }
            Step::Send(ttl) => {
                set_ttl(sockets.raw.socket(), ttl, v4).map_err(|e| {
                    fail(text!("set the time to live of {object}", "设置 {object} 的 TTL"), job.spec, &e)
                })?;
                let mut to = remote;
                to.set_port(0);
                let to = SockAddr::from(to);
                let sent = way.source().and_then(|source| {
                    sockets.raw.socket().send_to(&codec.build(path.next_seq(), source).payload, &to)
                });
                if let Err(e) = sent {
                    let failed = send_errors.entry(errno_name(&e).to_owned()).or_insert(0u64);
                    *failed += 1;
                    path.pass(ttl, now);
                    if path.next_seq() == 0 && *failed >= HOPELESS {
                        path.stop();
                    }
                } else {
                    let seq = path.next_seq();
                    path.sent(ttl, now);
                    let (transmitted, received, _) = path.destination();
                    let counts =
                        Counts { transmitted, received, open: transmitted - received, ..Counts::default() };
                    job.tell(counts, Event::Sent(seq));
                }
            }
        }
        let Ok(local) = way.source() else { continue };
        hear(&mut sockets, codec, local, &mut |heard, packet| {
            let end = match heard.what {
                // From wherever: the path ends there.
                What::Answer(..) | What::Elsewhere(_) => true,
                What::IcmpError(error) if error.kind == ErrorKind::TimeExceeded => false,
                What::IcmpError(error) => {
                    if icmp_errors.len() < MAX_ERRORS {
                        *icmp_errors.entry(error.to_string()).or_insert(0u64) += 1;
                    }
                    packet.from == remote.ip()
                }
            };
            path.answered(heard.seq, packet.from, packet.at, end);
        });
    }
    let (sent, received, rtts) = path.destination();
    let mut result = ProbeResult {
        method: "path".into(),
        transmitted: sent,
        received,
        lost: sent - received,
        not_sent: send_errors.values().sum(),
        loss: interval::share(sent - received, sent),
        loss_ci95: interval::clopper_pearson(sent - received, sent, 0.05),
        rtt_ms: rtt::summary(rtts),
        send_errors,
        icmp_errors,
        ..ProbeResult::default()
    };
    result.extra.hops = path.hops();
    Ok((result, path))
}
