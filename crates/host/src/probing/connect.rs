//! tcp:// by non-blocking connect(), read with TCP_INFO: without raw sockets, and where these would go another way.

use super::packets::set_ttl;
use super::ports::Ports;
use super::{Job, clock, errno_name, fail, tcp_info};
use crate::error::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use whydrop_model::{Phrase, ProbeResult, text};
use whydrop_probe::account::Answer;
use whydrop_probe::codec::{Detail, Heard, IcmpError, What};
use whydrop_probe::connect::{HORIZON, Handshake, estimate};
use whydrop_probe::flight::{Flight, Step};
use whydrop_probe::progress::{Event, Reply};
use whydrop_probe::wire::icmp::ErrorKind;
use whydrop_probe::{Nanos, ProbeSpec, notes};

/// Connections open at once; the oldest is given up for the next.
const MOST: usize = 512;

/// Least time between two connections from one port. Until then the kernel has repeated the SYN of an unanswered one
/// twice, which completes a handshake that the server holds half open; else that would swallow the next SYN.
const PORT_REST: Duration = Duration::from_millis(2200);

/// Why connections are used instead of raw SYNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// CAP_NET_RAW is missing.
    NoRawSockets,
    /// The kernel chooses the route of every connection by its ports, and that of raw packets without them.
    RouteByPort,
}

impl Why {
    fn told(self) -> Phrase {
        match self {
            Self::NoRawSockets => text!(
                "no raw sockets here (CAP_NET_RAW is missing): probing by connect() and TCP_INFO",
                "此处不能用原始套接字（缺少 CAP_NET_RAW）：改用 connect() 与 TCP_INFO 探测"
            ),
            Self::RouteByPort => text!(
                "this machine routes every connection to that address by its ports (several next hops, or a routing rule), and raw packets without them: probing by connect() and TCP_INFO",
                "本机按端口为每个连接选择到该地址的路由（多个下一跳或路由规则），而原始包不带端口：改用 connect() 与 TCP_INFO 探测"
            ),
        }
        .phrase()
    }
}

struct Attempt {
    seq: u32,
    /// The port of its flow, if flows are fixed.
    port: Option<u16>,
    sent: Nanos,
    socket: Socket,
}

/// Probes a TCP port with connections of the kernel's own. The kernel repeats SYNs that get no answer; an answer to
/// a repeated one is late.
pub fn run(job: &Job<'_>, remote: SocketAddr, why: Why) -> Result<ProbeResult> {
    let because = Some(why.told());
    job.tell(Default::default(), Event::Started { address: remote.ip(), method: "connect", because });
    let ports = match job.spec.flows {
        // Held no longer: each connection binds its port again.
        Some(flows) => Ports::reserve(flows.into(), remote.is_ipv4()).map(|p| p.numbers()).map_err(|e| {
            fail(text!("reserve source ports for {object}", "为 {object} 预留源端口"), job.spec, &e)
        })?,
        None => vec![],
    };
    let rest = PORT_REST.checked_div(ports.len() as u32).unwrap_or_default();
    let spec = ProbeSpec { interval: job.spec.interval.max(rest), ..job.spec.clone() };
    let mut flight = Flight::new(&spec);
    let late = u64::try_from(job.spec.late.as_nanos()).unwrap_or(Nanos::MAX / 4);
    let mut open: Vec<Attempt> = vec![];
    let mut handshakes: Vec<Option<Handshake>> = vec![];
    let (mut give_up, mut overslept) = (Nanos::MAX, 0);
    loop {
        let now = clock::now();
        if give_up == Nanos::MAX && job.cancelled() {
            flight.stop();
            give_up = now + 1_000_000_000;
        }
        match flight.poll(now) {
            Step::Done => break,
            Step::Lost(seq) => job.tell(flight.counts(), Event::Lost(seq)),
            Step::Send => {
                let port = ports.get(flight.next_seq() as usize % ports.len().max(1)).copied();
                // The last connection from this port is given up, else its port is in use.
                open.retain(|a| a.port != port || port.is_none());
                open.extend(begin(job, remote, port, &mut flight)?);
                handshakes.push(None);
            }
            Step::Wait(_) if now >= give_up => break,
            Step::Wait(until) => {
                let until = until.min(now + 100_000_000);
                let ready = wait(&open, until.saturating_sub(now)).map_err(|e| {
                    fail(text!("wait for answers of {object}", "等待 {object} 的应答"), job.spec, &e)
                })?;
                overslept = clock::now().saturating_sub(until).max(overslept);
                for index in ready.into_iter().rev() {
                    let attempt = open.swap_remove(index);
                    let handshake = finish(job, remote, &attempt, &mut flight);
                    if let Some(slot) = handshakes.get_mut(attempt.seq as usize) {
                        *slot = handshake;
                    }
                }
            }
        }
        let now = clock::now();
        open.retain(|a| now.saturating_sub(a.sent) <= late.max(HORIZON));
        if open.len() > MOST {
            open.remove(0);
        }
    }
    let now = clock::now();
    let watched: Vec<_> = flight
        .account()
        .entries()
        .iter()
        .zip(handshakes)
        .filter(|(entry, _)| entry.was_sent())
        .map(|(entry, handshake)| (now.saturating_sub(entry.sent), handshake))
        .collect();
    let mut result = flight.finish(now, clock::wall_offset(), false);
    result.method = "connect".into();
    result.extra.host_delay_ms = Some(overslept as f64 / 1e6);
    let split = estimate(&watched).filter(|_| result.refused == 0);
    result.forward = split.map(|s| s.forward);
    result.reverse = split.map(|s| s.reverse);
    result.extra.notes.extend(notes::closed(&result));
    if why == Why::RouteByPort {
        result.extra.notes.push(why.told());
    }
    if spec.interval > job.spec.interval {
        let ms = spec.interval.as_millis();
        let text = text!(
            "one probe every {ms} ms: a port of a fixed flow rests before it is used again",
            "每 {ms} 毫秒一个探测：固定流的端口需间歇后才能再用"
        );
        result.extra.notes.push(text.fill(&[("ms", &ms)]));
    }
    notes::finish(&mut result);
    Ok(result)
}

/// Calls connect(), from `port` if that is fixed; books a send that fails at once.
fn begin(
    job: &Job<'_>,
    remote: SocketAddr,
    port: Option<u16>,
    flight: &mut Flight,
) -> Result<Option<Attempt>> {
    let seq = flight.next_seq();
    let sent = clock::now();
    let started =
        Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            if let Some(name) = &job.spec.interface {
                socket.bind_device(Some(name.as_bytes()))?;
            }
            if let Some(ttl) = job.spec.ttl {
                set_ttl(&socket, ttl, remote.is_ipv4())?;
            }
            if let Some(port) = port {
                let any: IpAddr = if remote.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
                socket.set_reuse_address(true)?;
                // Closed by RST: an orderly end would keep the port from reaching the same address for a minute.
                socket.set_linger(Some(Duration::ZERO))?;
                socket.bind(&SocketAddr::new(any, port).into())?;
            }
            match socket.connect(&SockAddr::from(remote)) {
                Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
                _ => Ok(socket),
            }
        });
    match started {
        Ok(socket) => {
            let sport = socket.local_addr().ok().and_then(|a| a.as_socket()).map_or(0, |a| a.port());
            flight.sent(sport, sent, None);
            job.tell(flight.counts(), Event::Sent(seq));
            Ok(Some(Attempt { seq, port, sent, socket }))
        }
        // A closed port on this machine itself is refused before connect() returns.
        Err(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => {
            flight.sent(port.unwrap_or(0), sent, None);
            reply(job, remote, flight, seq, sent, clock::now(), Answer::Refused);
            Ok(None)
        }
        Err(e) => {
            let errno = errno_name(&e);
            flight.sent(port.unwrap_or(0), sent, Some(errno));
            job.tell(flight.counts(), Event::NotSent(seq, errno));
            Ok(None)
        }
    }
}

/// Reads how a connection ended.
fn finish(job: &Job<'_>, remote: SocketAddr, attempt: &Attempt, flight: &mut Flight) -> Option<Handshake> {
    let now = clock::now();
    match attempt.socket.take_error() {
        Ok(None) => {
            let info = tcp_info::read(&attempt.socket);
            // The kernel has measured it, however late this is read; of repeated SYNs it does not know which.
            let measured = info.filter(|i| i.total_retrans == 0 && i.rtt_us > 0);
            let at = measured.map_or(now, |i| now.min(attempt.sent + u64::from(i.rtt_us) * 1000));
            reply(job, remote, flight, attempt.seq, attempt.sent, at, Answer::Reply);
            let info = info?;
            Some(Handshake {
                elapsed: now - attempt.sent,
                rtt_us: info.rtt_us,
                retransmissions: info.total_retrans,
                timestamps: info.timestamps,
            })
        }
        Ok(Some(e)) | Err(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => {
            reply(job, remote, flight, attempt.seq, attempt.sent, now, Answer::Refused);
            None
        }
        Ok(Some(e)) | Err(e) => {
            // Who sent the ICMP error is not told.
            let kind = match e.raw_os_error() {
                Some(libc::EHOSTUNREACH) => ErrorKind::HostUnreachable,
                Some(libc::ENETUNREACH) => ErrorKind::NetUnreachable,
                Some(libc::EACCES | libc::EPERM) => ErrorKind::Prohibited,
                // ETIMEDOUT: the kernel gave up; no ICMP error, and no answer either.
                _ => return None,
            };
            let error = IcmpError { kind, from: None };
            flight.heard(&Heard { seq: attempt.seq, what: What::IcmpError(error) }, remote.ip(), now);
            job.tell(flight.counts(), Event::IcmpError(attempt.seq, error));
            None
        }
    }
}

fn reply(
    job: &Job<'_>,
    remote: SocketAddr,
    flight: &mut Flight,
    seq: u32,
    sent: Nanos,
    at: Nanos,
    answer: Answer,
) {
    let detail = Detail::default();
    let heard = Heard { seq, what: What::Answer(answer, detail.clone()) };
    let Some(credit) = flight.heard(&heard, remote.ip(), at) else { return };
    let rtt = at - sent;
    let reply = Reply {
        seq,
        credit,
        answer,
        rtt_ms: rtt as f64 / 1e6,
        // A late one may be the answer to a repeated SYN as well.
        attempt: None,
        from: remote.ip(),
        length: None,
        ttl: None,
        ip: None,
        detail,
    };
    job.tell(flight.counts(), Event::Reply(Box::new(reply)));
}

/// Indices of the connections that are through, in ascending order.
fn wait(open: &[Attempt], nanos: Nanos) -> std::io::Result<Vec<usize>> {
    let mut fds: Vec<PollFd<'_>> = open.iter().map(|a| PollFd::new(&a.socket, PollFlags::OUT)).collect();
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(nanos).unwrap_or(100_000_000) };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => Ok((0..).zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|(i, _)| i).collect()),
        Err(rustix::io::Errno::INTR) => Ok(vec![]),
        Err(e) => Err(e.into()),
    }
}
