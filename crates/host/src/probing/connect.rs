//! tcp:// without raw sockets: non-blocking connect(), read with TCP_INFO.

use super::{Job, clock, errno_name, fail, tcp_info};
use crate::error::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::SocketAddr;
use whydrop_model::{ProbeResult, text};
use whydrop_probe::account::Answer;
use whydrop_probe::codec::{Detail, Heard, IcmpError, What};
use whydrop_probe::connect::{HORIZON, Handshake, estimate};
use whydrop_probe::flight::{Flight, Step};
use whydrop_probe::progress::{Event, Reply};
use whydrop_probe::wire::icmp::ErrorKind;
use whydrop_probe::{Nanos, split};

/// Connections open at once; the oldest is given up for the next.
const MOST: usize = 512;

struct Attempt {
    seq: u32,
    sent: Nanos,
    socket: Socket,
}

/// Probes a TCP port with connections of the kernel's own. The kernel repeats SYNs that get no answer; an answer to
/// a repeated one is late.
pub fn run(job: &Job<'_>, remote: SocketAddr) -> Result<ProbeResult> {
    job.tell(Default::default(), Event::Started { address: remote.ip(), method: "connect" });
    let mut flight = Flight::new(job.spec);
    let late = u64::try_from(job.spec.late.as_nanos()).unwrap_or(Nanos::MAX / 4);
    let mut open: Vec<Attempt> = vec![];
    let mut handshakes: Vec<Option<Handshake>> = vec![];
    let mut give_up = Nanos::MAX;
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
                open.extend(begin(job, remote, &mut flight)?);
                handshakes.push(None);
            }
            Step::Wait(_) if now >= give_up => break,
            Step::Wait(until) => {
                let ready = wait(&open, until.min(now + 100_000_000).saturating_sub(now)).map_err(|e| {
                    fail(text!("wait for answers of {object}", "等待 {object} 的应答"), job.spec, &e)
                })?;
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
    let split = estimate(&watched).filter(|_| result.refused == 0);
    result.forward = split.map(|s| s.forward);
    result.reverse = split.map(|s| s.reverse);
    Ok(result)
}

/// Calls connect(); books a send that fails at once.
fn begin(job: &Job<'_>, remote: SocketAddr, flight: &mut Flight) -> Result<Option<Attempt>> {
    let seq = flight.next_seq();
    let sent = clock::now();
    let started =
        Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            if let Some(name) = &job.spec.interface {
                socket.bind_device(Some(name.as_bytes()))?;
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
            Ok(Some(Attempt { seq, sent, socket }))
        }
        // A closed port on this machine itself is refused before connect() returns.
        Err(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => {
            flight.sent(0, sent, None);
            reply(job, remote, flight, seq, sent, Answer::Refused);
            Ok(None)
        }
        Err(e) => {
            let errno = errno_name(&e);
            flight.sent(0, sent, Some(errno));
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
            reply(job, remote, flight, attempt.seq, attempt.sent, Answer::Reply);
            let info = tcp_info::read(&attempt.socket)?;
            Some(Handshake {
                elapsed: now - attempt.sent,
                rtt_us: info.rtt_us,
                retransmissions: info.total_retrans,
                timestamps: info.timestamps,
            })
        }
        Ok(Some(e)) | Err(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => {
            reply(job, remote, flight, attempt.seq, attempt.sent, Answer::Refused);
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

fn reply(job: &Job<'_>, remote: SocketAddr, flight: &mut Flight, seq: u32, sent: Nanos, answer: Answer) {
    let now = clock::now();
    let detail = Detail::default();
    let heard = Heard { seq, what: What::Answer(answer, detail.clone()) };
    let Some(credit) = flight.heard(&heard, remote.ip(), now) else { return };
    let rtt = now - sent;
    let reply = Reply {
        seq,
        credit,
        answer,
        rtt_ms: rtt as f64 / 1e6,
        attempt: split::attempt(rtt, 0),
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
