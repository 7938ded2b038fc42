//! Drives an engine that sends one packet per probe, over raw sockets.
//!
//! What counts is what the raw socket gets: exactly once per packet, and after this machine's own filter, as any
//! program would. The packet socket beside it sees the devices, once or several times (bridge and port, loopback),
//! and only tells what the raw socket cannot: whether a probe left at all, and whether an answer came as far as here.

use super::wire::Tap;
use super::{Job, clock, errno_name, fail};
use crate::error::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockAddr, Socket};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use whydrop_model::{ProbeResult, text};
use whydrop_probe::codec::{Codec, Heard, What};
use whydrop_probe::flight::{Flight, Step};
use whydrop_probe::progress::{Event, Reply};
use whydrop_probe::wire::Incoming;
use whydrop_probe::{Nanos, both_ends, notes, split};

/// The sockets of a run.
#[derive(Debug)]
pub struct Sockets {
    /// Sends, and receives answers.
    pub raw: Tap,
    /// Receives ICMP errors, unless `raw` does.
    pub icmp: Option<Tap>,
    /// Sees the devices; absent if it could not be opened.
    pub devices: Option<Tap>,
    /// Sees the devices of the namespace that is probed, if that is on this machine and named.
    pub peer: Option<Tap>,
}

/// Where the probes go.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The probed address.
    pub remote: SocketAddr,
    /// The port that sendto() is told: raw sockets take none.
    port: u16,
    source: Option<IpAddr>,
}

impl Way {
    /// For raw sockets; the source address is found when the first probe leaves.
    pub fn raw(remote: SocketAddr) -> Self {
        Self { remote, port: 0, source: None }
    }

    /// For UDP sockets.
    pub fn datagrams(remote: SocketAddr) -> Self {
        Self { port: remote.port(), ..Self::raw(remote) }
    }

    /// The address that the kernel chooses to send from; asked again until there is a route.
    pub fn source(&mut self) -> std::io::Result<IpAddr> {
        if let Some(source) = self.source {
            return Ok(source);
        }
        let any: SocketAddr = if self.remote.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        // connect() on UDP sends nothing. Port 0 is refused by some kernels, any other will do.
        let mut to = self.remote;
        to.set_port(self.remote.port().max(1));
        socket.connect(to)?;
        Ok(*self.source.insert(socket.local_addr()?.ip()))
    }
}

/// Most time without a look at the cancel flag, in nanoseconds.
pub const PATIENCE: Nanos = 100_000_000;
/// Packets read from one socket before the schedule is looked at again.
const BATCH: usize = 64;
/// Batches read when the run is over; at most so much can wait on a socket with 1 MB of room.
const LAST_LOOKS: usize = 32;

/// Runs the probes of `codec`.
pub fn fly(job: &Job<'_>, codec: &dyn Codec, mut way: Way, mut sockets: Sockets) -> Result<ProbeResult> {
    let mut flight = Flight::new(job.spec);
    let (mut give_up, mut overslept) = (Nanos::MAX, 0);
    loop {
        let now = clock::now();
        if give_up == Nanos::MAX && job.cancelled() {
            flight.stop();
            give_up = now + 1_000_000_000;
        }
        let mut handed = None;
        match flight.poll(now) {
            Step::Done => break,
            Step::Lost(seq) => job.tell(flight.counts(), Event::Lost(seq)),
            Step::Send => handed = send(job, codec, &mut way, &sockets, &mut flight),
            Step::Wait(_) if now >= give_up => break,
            Step::Wait(until) => {
                let until = until.min(now + PATIENCE);
                wait(&sockets, until.saturating_sub(now)).map_err(|e| {
                    fail(text!("wait for answers of {object}", "等待 {object} 的应答"), job.spec, &e)
                })?;
                overslept = clock::now().saturating_sub(until).max(overslept);
            }
        }
        listen(job, codec, way, &mut sockets, &mut flight, handed);
    }
    // What the devices saw of the last probes.
    for _ in 0..LAST_LOOKS {
        listen(job, codec, way, &mut sockets, &mut flight, None);
    }
    let watched = sockets.devices.as_ref().is_some_and(|tap| tap.overflowed() == Some(0));
    let waited = sockets.raw.longest_wait.max(overslept);
    let now = clock::now();
    let mut result = flight.finish(now, clock::wall_offset(), watched);
    result.extra.host_delay_ms = Some(waited as f64 / 1e6);
    codec.interpret(flight.account().entries(), now, &mut result);
    if sockets.peer.as_ref().is_some_and(|tap| tap.overflowed() == Some(0)) {
        both_ends::apply(&mut result, flight.account().entries());
    }
    notes::finish(&mut result);
    Ok(result)
}

/// A probe, and when its send returned.
type Handed = (u32, Nanos);

fn send(
    job: &Job<'_>,
    codec: &dyn Codec,
    way: &mut Way,
    sockets: &Sockets,
    flight: &mut Flight,
) -> Option<Handed> {
    let seq = flight.next_seq();
    let mut sport = 0;
    let mut now = clock::now();
    let sent = way.source().and_then(|source| {
        let packet = codec.build(seq, source);
        sport = packet.sport;
        let mut to = way.remote;
        to.set_port(way.port);
        let to = SockAddr::from(to);
        if let Some(before) = codec.clear(seq, source) {
            // If it fails, so does the probe, and that is told.
            sockets.raw.socket().send_to(&before, &to).ok();
        }
        now = clock::now();
        sockets.raw.socket().send_to(&packet.payload, &to)
    });
    match sent {
        Ok(_) => {
            let returned = clock::now();
            flight.sent(sport, now, None);
            job.tell(flight.counts(), Event::Sent(seq));
            Some((seq, returned))
        }
        Err(error) => {
            let errno = errno_name(&error);
            flight.sent(sport, now, Some(errno));
            job.tell(flight.counts(), Event::NotSent(seq, errno));
            None
        }
    }
}

/// Waits for a packet, at most that long.
pub fn wait(sockets: &Sockets, nanos: Nanos) -> std::io::Result<()> {
    let taps = [Some(&sockets.raw), sockets.icmp.as_ref(), sockets.devices.as_ref(), sockets.peer.as_ref()];
    let mut fds: Vec<PollFd<'_>> =
        taps.into_iter().flatten().map(|t| PollFd::new(t, PollFlags::IN)).collect();
    let timeout = Timespec {
        tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(1),
        tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
    };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Reads what waits on the sockets, the devices first: they tell when the last probe left.
fn listen(
    job: &Job<'_>,
    codec: &dyn Codec,
    way: Way,
    sockets: &mut Sockets,
    flight: &mut Flight,
    handed: Option<Handed>,
) {
    // Nothing can have come before there was an address to come to.
    let Some(local) = way.source else { return };
    watch(job, codec, local, sockets, flight, handed);
    hear(sockets, codec, local, &mut |heard, packet| book(job, &heard, way.remote.ip(), packet, flight));
    let Some(tap) = &mut sockets.peer else { return };
    for _ in 0..BATCH {
        let Some(seen) = tap.next(local) else { break };
        if !seen.outgoing
            && let Some(own) = codec.read_own(&seen.packet)
        {
            flight.account_mut().reached_peer(own.seq);
        } else if seen.outgoing
            && let Some(Heard { seq, what: What::Answer(..) | What::Elsewhere(_) }) = codec.read(&seen.packet)
        {
            flight.account_mut().peer_answered(seq);
        }
    }
}

/// Notes what the devices of this namespace saw.
fn watch(
    job: &Job<'_>,
    codec: &dyn Codec,
    local: IpAddr,
    sockets: &mut Sockets,
    flight: &mut Flight,
    handed: Option<Handed>,
) {
    let Some(tap) = &mut sockets.devices else { return };
    for _ in 0..BATCH {
        let Some(seen) = tap.next(local) else { break };
        let at = seen.packet.at;
        let ours = match seen.outgoing {
            true => codec.read_own(&seen.packet).map(|own| {
                if handed.is_some_and(|(seq, returned)| seq == own.seq && at <= returned) {
                    flight.account_mut().taken(own.seq, at);
                }
                flight.account_mut().left(own);
            }),
            false => codec.read(&seen.packet).map(|Heard { seq, what }| match what {
                What::Answer(..) => flight.account_mut().arrived(seq, at),
                What::Elsewhere(source) => {
                    if flight.account_mut().elsewhere_on_device(seq, source) {
                        job.tell(flight.counts(), Event::Elsewhere(seq, source));
                    }
                }
                What::IcmpError(_) => {}
            }),
        };
        if ours.is_some() && job.spec.capture {
            let wall = i128::from(at) + clock::wall_offset();
            let packet =
                Event::Packet { wall_ns: u64::try_from(wall).unwrap_or(0), bytes: seen.bytes.to_vec() };
            job.tell(flight.counts(), packet);
        }
    }
}

/// Gives the packets of this run that wait on its sockets.
pub fn hear(
    sockets: &mut Sockets,
    codec: &dyn Codec,
    local: IpAddr,
    take: &mut dyn FnMut(Heard, &Incoming<'_>),
) {
    for tap in [Some(&mut sockets.raw), sockets.icmp.as_mut()].into_iter().flatten() {
        for _ in 0..BATCH {
            let Some(seen) = tap.next(local) else { break };
            if let Some(heard) = codec.read(&seen.packet) {
                take(heard, &seen.packet);
            }
        }
    }
}

fn book(job: &Job<'_>, heard: &Heard, remote: IpAddr, packet: &Incoming<'_>, flight: &mut Flight) {
    if let What::Elsewhere(source) = heard.what {
        if flight.account_mut().elsewhere(heard.seq, source) {
            job.tell(flight.counts(), Event::Elsewhere(heard.seq, source));
        }
        return;
    }
    let credit = flight.heard(heard, remote, packet.at);
    let event = match (&heard.what, credit) {
        (What::Answer(answer, detail), Some(credit)) => {
            let sent = flight.account().entries().get(heard.seq as usize).map_or(packet.at, |e| e.sent);
            let rtt = packet.at.saturating_sub(sent);
            Event::Reply(Box::new(Reply {
                seq: heard.seq,
                credit,
                answer: *answer,
                rtt_ms: rtt as f64 / 1e6,
                // Where answers take long, a late one proves no repetition.
                attempt: flight.quick_rtt().and_then(|base| split::attempt(rtt, base)),
                from: packet.from,
                length: Some(packet.length),
                ttl: packet.ttl,
                ip: packet.from.is_ipv4().then_some((packet.df, packet.id)),
                detail: detail.clone(),
            }))
        }
        (What::IcmpError(error), _) => Event::IcmpError(heard.seq, *error),
        (What::Answer(..) | What::Elsewhere(_), _) => return,
    };
    job.tell(flight.counts(), event);
}

/// Sets what the spec wants of every packet: interface, time to live.
pub fn prepare(raw: &Tap, spec: &whydrop_probe::ProbeSpec, v4: bool) -> Result<()> {
    let socket = raw.socket();
    if let Some(name) = &spec.interface {
        socket.bind_device(Some(name.as_bytes())).map_err(|e| {
            let hint = text!(
                "the name of an interface where the probes start (ip -br link)",
                "探测起点处的接口名称（ip -br link）"
            );
            fail(text!("choose the interface for {object}", "为 {object} 选定接口"), spec, &e)
                .with_hint(hint.phrase())
        })?;
    }
    if let Some(ttl) = spec.ttl {
        set_ttl(socket, ttl, v4)
            .map_err(|e| fail(text!("set the time to live of {object}", "设置 {object} 的 TTL"), spec, &e))?;
    }
    Ok(())
}

/// Sets the time to live of the packets sent from now on.
pub fn set_ttl(socket: &Socket, ttl: u8, v4: bool) -> std::io::Result<()> {
    if v4 { socket.set_ttl_v4(ttl.into()) } else { socket.set_unicast_hops_v6(ttl.into()) }
}
