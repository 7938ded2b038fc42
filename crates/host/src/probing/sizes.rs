//! http(s):// with sizes: a connection for each size of segments, watched by TCP_INFO.

use super::get::{Done, Get, Request, Watch, get};
use super::http::authority;
use super::tcp_info::TcpInfo;
use super::tls::{self, Tls};
use super::{Job, clock};
use crate::error::Result;
use std::cell::Cell;
use std::net::SocketAddr;
use whydrop_model::ProbeResult;
use whydrop_probe::Nanos;
use whydrop_probe::Scheme;
use whydrop_probe::account::Counts;
use whydrop_probe::http::{End, Exchange};
use whydrop_probe::notes;
use whydrop_probe::progress::Event;
use whydrop_probe::sizes::{Effect, LARGEST, SMALL, Seen, Sweep, Trial, Way};
use whydrop_probe::stats::interval;

/// Bytes of a TCP header, and of its time stamps, which Linux leaves out of the size it tells.
const TCP_HEADER: u32 = 20;
const TIMESTAMPS: u32 = 12;
/// Segments that an answer must fill to prove that full ones pass (its header may be a short one of its own), and that
/// a request fills.
const FULL: u32 = 2;
/// Least retransmission time-out of Linux (TCP_RTO_MIN) in nanoseconds; it doubles with every transmission.
const RTO: Nanos = 200_000_000;
/// Transmissions for which one connection waits: the fifth comes after 3 s.
const TRIES: u32 = 5;
/// Limit of one connection, in nanoseconds.
const LIMIT: Nanos = 15_000_000_000;

/// Makes a connection for each size that the sweep wants. The counts of the result are those of small exchanges.
pub fn run(job: &Job<'_>, remote: SocketAddr) -> Result<ProbeResult> {
    let tls = (job.spec.scheme == Scheme::Https).then(|| Tls::new(&job.spec.host)).transpose();
    let tls = tls.map_err(|e| tls::refused(job, e))?;
    job.tell(Counts::default(), Event::Started { address: remote.ip(), method: "http", because: None });
    let mut sweep = Sweep::default();
    let mut slowest = 0;
    let mut result = ProbeResult { method: "http".into(), ..ProbeResult::default() };
    while let Some(trial) = sweep.next_trial() {
        if job.cancelled() {
            break;
        }
        let began = clock::now();
        match connection(job, remote, tls.as_ref(), trial, slowest)? {
            Made::Cancelled => break,
            Made::NotSent(errno) => {
                // The next one would fare no better.
                result.send_errors.insert(errno.to_owned(), 1);
                result.not_sent = 1;
                break;
            }
            Made::Seen(seen) => {
                if trial.size == Some(SMALL) && matches!(seen.effect, Effect::Passed | Effect::Short) {
                    slowest = slowest.max(clock::now() - began);
                }
                sweep.seen(trial, seen);
            }
        }
        let (transmitted, received, refused) = sweep.small();
        let lost = transmitted - received;
        let counts = Counts { transmitted, received, refused, lost, ..Counts::default() };
        job.tell(counts, Event::Sent(u32::try_from(transmitted).unwrap_or(u32::MAX)));
    }
    let (made, answered, refused) = sweep.small();
    (result.transmitted, result.received, result.refused) = (made, answered, refused);
    result.lost = made - answered;
    result.loss = interval::share(result.lost, made);
    result.loss_ci95 = interval::clopper_pearson(result.lost, made, 0.05);
    result.extra.sizes = sweep.result();
    result.extra.notes = notes::sizes(&result);
    Ok(result)
}

enum Made {
    Cancelled,
    NotSent(&'static str),
    Seen(Seen),
}

/// Makes one connection. `usual` is how long small exchanges take at most.
fn connection(
    job: &Job<'_>,
    remote: SocketAddr,
    tls: Option<&Tls>,
    trial: Trial,
    usual: Nanos,
) -> Result<Made> {
    let headers = TCP_HEADER + if remote.is_ipv4() { 20 } else { 40 };
    let mss = trial.size.unwrap_or(LARGEST) - headers;
    let plain = Exchange::request(&authority(job, remote), &job.spec.path);
    let bytes = match trial.way {
        Way::Back => plain,
        Way::There => Exchange::lengthen(plain, (FULL * mss) as usize),
    };
    let view = View { way: trial.way, tries: trial.tries.min(TRIES), usual, ..View::new(clock::now()) };
    let watch = Watch { mss, look: &|info, requested, now| view.look(info, requested, now) };
    let request = Request { job, remote, bytes: &bytes, tls, timeout: LIMIT, watch: Some(watch) };
    let Done { exchange, http, info, .. } = match get(&request)? {
        None => return Ok(Made::Cancelled),
        Some(Get::NotSent(errno)) => return Ok(Made::NotSent(errno)),
        Some(Get::Done(done)) => *done,
    };
    let asked = trial.size.unwrap_or(LARGEST);
    let options = |info: &TcpInfo| if info.timestamps { TIMESTAMPS } else { 0 };
    let size = info.map_or(asked, |info| match trial.way {
        Way::There => (info.snd_mss + options(&info) + headers).max(view.largest.get() + headers),
        // The server's own links may be smaller than what this side allows it.
        Way::Back if view.effect.get() == Some(Effect::Passed) => {
            info.rcv_mss.min(info.advertised) + options(&info) + headers
        }
        Way::Back => info.advertised + options(&info) + headers,
    });
    let effect = match (view.effect.get(), exchange.ended()) {
        // The route's own MTU is what this side told the other; a smaller one came by ICMP.
        (Some(Effect::Passed), _)
            if trial.way == Way::There
                && info.is_some_and(|i| i.path_mtu < i.advertised + options(&i) + headers) =>
        {
            Effect::Told
        }
        // The kernel has given the large ones up on its own (net.ipv4.tcp_mtu_probing).
        (Some(Effect::Passed), _) if trial.way == Way::There && view.shrunk.get() => {
            Effect::Stuck(view.tries)
        }
        (Some(effect), _) => effect,
        (None, Some(End::Refused)) => Effect::Refused,
        (None, Some(End::Complete)) if trial.way == Way::Back => Effect::Short,
        (None, _) => Effect::Unclear,
    };
    let lost_small = http
        .retransmissions_in
        .map_or(0, |again| again.connect + if trial.size == Some(SMALL) { again.first_byte } else { 0 });
    Ok(Made::Seen(Seen { size, lost_small, effect }))
}

/// What is seen of a connection while it goes on.
#[derive(Debug)]
struct View {
    way: Way,
    tries: u32,
    usual: Nanos,
    /// Segments sent again when the request was handed over.
    again: Cell<Option<u32>>,
    /// Bytes received, and since when no more came.
    progress: Cell<(u64, Nanos)>,
    /// Largest segment of this side with its options, in bytes.
    largest: Cell<u32>,
    shrunk: Cell<bool>,
    effect: Cell<Option<Effect>>,
}

impl View {
    fn new(now: Nanos) -> Self {
        Self {
            way: Way::There,
            tries: TRIES,
            usual: 0,
            again: Cell::new(None),
            progress: Cell::new((0, now)),
            largest: Cell::new(0),
            shrunk: Cell::new(false),
            effect: Cell::new(None),
        }
    }

    /// True if no more is to be learnt.
    fn look(&self, info: &TcpInfo, requested: bool, now: Nanos) -> bool {
        let segment = info.snd_mss + if info.timestamps { TIMESTAMPS } else { 0 };
        self.shrunk.set(self.shrunk.get() || segment < self.largest.get());
        self.largest.set(self.largest.get().max(segment));
        // Before Linux 4.1 the kernel does not count them.
        let Some(received) = info.bytes_received else { return true };
        let (last, since) = self.progress.get();
        if received > last || info.unacked > 0 {
            // What is not acknowledged says nothing of the answer.
            self.progress.set((received, now));
        }
        let rto = RTO.max(u64::from(info.rto_us) * 1000);
        // Until the last of the transmissions, and until it could have been answered.
        let silence = (rto * ((1 << (self.tries - 1)) - 1) + 2 * rto).max(4 * self.usual);
        let silent = info.unacked == 0 && received == last && now - since >= silence;
        let effect = match self.way {
            Way::There if !requested && silent => Some(Effect::Unclear),
            Way::There if !requested => None,
            Way::There => {
                let before = self.again.get().unwrap_or(info.total_retrans);
                self.again.set(Some(before));
                // One of them may be of the last segment, which is shorter (a tail loss probe).
                let stuck = info.total_retrans - before >= self.tries;
                match (info.unacked == 0, stuck) {
                    (true, _) => Some(Effect::Passed),
                    (false, true) => Some(Effect::Stuck(self.tries)),
                    (false, false) => None,
                }
            }
            Way::Back if received >= u64::from(FULL * info.advertised) => Some(Effect::Passed),
            Way::Back if silent => Some(Effect::Stuck(self.tries)),
            Way::Back => None,
        };
        self.effect.set(effect);
        effect.is_some()
    }
}
