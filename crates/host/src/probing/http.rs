//! http://: GETs over ordinary sockets, one after another.

use super::{Job, clock, errno_name, fail, tcp_info};
use crate::error::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use whydrop_model::probe::Http;
use whydrop_model::{ProbeResult, text};
use whydrop_probe::Nanos;
use whydrop_probe::account::{Account, Answer};
use whydrop_probe::http::{End, Exchange};
use whydrop_probe::progress::{Event, Reply};
use whydrop_probe::{codec, stats};

/// Sends `count` GETs; each ends before the next begins. A GET is received if its whole answer came (whatever its
/// status) or if the port is closed, else lost.
pub fn run(job: &Job<'_>, remote: SocketAddr) -> Result<ProbeResult> {
    let spec = job.spec;
    let timeout = u64::try_from(spec.timeout.as_nanos()).unwrap_or(Nanos::MAX / 4);
    let interval = u64::try_from(spec.interval.as_nanos()).unwrap_or(Nanos::MAX / 4);
    let request = Exchange::request(&authority(job, remote), &spec.path);
    let mut account = Account::new(timeout);
    let mut shown: Option<(Nanos, Http)> = None;
    job.tell(account.counts(), Event::Started { address: remote.ip(), method: "http" });
    let start = clock::now();
    let (mut cut, mut now) = (0, start);
    for seq in 0..spec.count.unwrap_or(u32::MAX) {
        pause(job, start + interval * u64::from(seq), now)?;
        if job.cancelled() || spec.deadline.is_some_and(|d| u128::from(clock::now() - start) >= d.as_nanos())
        {
            break;
        }
        let get = get(job, remote, &request, timeout)?;
        now = clock::now();
        let Some(get) = get else {
            cut = 1;
            break;
        };
        let (sport, began, exchange, http) = match get {
            Get::NotSent(errno) => {
                account.sent(0, now, Some(errno));
                job.tell(account.counts(), Event::NotSent(seq, errno));
                continue;
            }
            Get::Done(done) => (done.sport, done.began, done.exchange, done.http),
        };
        account.sent(sport, began, None);
        if let Some(total) = exchange.total() {
            let answer =
                if exchange.ended() == Some(&End::Refused) { Answer::Refused } else { Answer::Reply };
            if let Some(credit) = account.reply(seq, began + total, answer) {
                job.tell(account.counts(), Event::Reply(reply(seq, credit, answer, total, remote.ip())));
            }
        } else {
            account.expire(began.saturating_add(timeout).saturating_add(1).max(now));
            job.tell(account.counts(), Event::Lost(seq));
        }
        // The one that a person wants to see: one that failed, or else the slowest.
        let badness = exchange.total().unwrap_or(Nanos::MAX);
        if shown.as_ref().is_none_or(|(worst, _)| badness > *worst) {
            shown = Some((badness, http));
        }
    }
    // A GET that failed before its limit is lost all the same.
    account.expire(Nanos::MAX);
    let mut result = summarise(&account);
    result.extra.undecided = cut;
    result.http = shown.map(|(_, http)| http);
    Ok(result)
}

fn summarise(account: &Account) -> ProbeResult {
    let counts = account.counts();
    let rtts = stats::rtt::on_time_ms(account.entries());
    ProbeResult {
        method: "http".into(),
        transmitted: counts.transmitted,
        received: counts.received,
        lost: counts.lost,
        late: counts.late,
        not_sent: counts.not_sent,
        refused: counts.refused,
        loss: stats::interval::share(counts.lost + counts.late, counts.transmitted),
        loss_ci95: stats::interval::clopper_pearson(counts.lost + counts.late, counts.transmitted, 0.05),
        rtt_ms: stats::rtt::summary(&rtts),
        send_errors: account.send_errors(),
        packets: account.packets(clock::wall_offset()),
        ..ProbeResult::default()
    }
}

fn reply(
    seq: u32,
    credit: whydrop_probe::account::Credit,
    answer: Answer,
    total: Nanos,
    from: IpAddr,
) -> Box<Reply> {
    Box::new(Reply {
        seq,
        credit,
        answer,
        rtt_ms: total as f64 / 1e6,
        attempt: None,
        from,
        length: None,
        ttl: None,
        ip: None,
        detail: codec::Detail::default(),
    })
}

/// Host header: as written in the URL, with the port unless it is 80.
fn authority(job: &Job<'_>, remote: SocketAddr) -> String {
    let host = &job.spec.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    if remote.port() == 80 { host } else { format!("{host}:{}", remote.port()) }
}

enum Get {
    NotSent(&'static str),
    Done(Box<Done>),
}

struct Done {
    sport: u16,
    began: Nanos,
    exchange: Exchange,
    http: Http,
}

/// One GET; none if the run was cancelled for more than a second while it was going on.
fn get(job: &Job<'_>, remote: SocketAddr, request: &[u8], timeout: Nanos) -> Result<Option<Get>> {
    let open =
        |e: std::io::Error| fail(text!("open a socket for {object}", "为 {object} 打开套接字"), job.spec, &e);
    let mut socket =
        Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP)).map_err(open)?;
    socket.set_nonblocking(true).map_err(open)?;
    if let Some(name) = &job.spec.interface {
        socket.bind_device(Some(name.as_bytes())).map_err(open)?;
    }
    let began = clock::now();
    match socket.connect(&SockAddr::from(remote)) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        // A closed port on this machine itself is refused before connect() returns.
        Err(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => {
            let mut exchange = Exchange::new(began);
            exchange.failed("ECONNREFUSED", clock::now());
            let http = exchange.phases();
            return Ok(Some(Get::Done(Box::new(Done { sport: 0, began, exchange, http }))));
        }
        Err(e) => return Ok(Some(Get::NotSent(errno_name(&e)))),
    }
    let sport = socket.local_addr().ok().and_then(|a| a.as_socket()).map_or(0, |a| a.port());
    let mut exchange = Exchange::new(began);
    let mut phase = Phase { connected: false, rest: request };
    let mut give_up = Nanos::MAX;
    while exchange.ended().is_none() {
        let now = clock::now();
        if give_up == Nanos::MAX && job.cancelled() {
            give_up = now + 1_000_000_000;
        }
        if now >= give_up {
            return Ok(None);
        }
        let end = began.saturating_add(timeout);
        if now >= end {
            exchange.timed_out(now);
            break;
        }
        let events = if phase.rest.is_empty() { PollFlags::IN } else { PollFlags::OUT };
        if wait(&socket, events, (end - now).min(100_000_000)).map_err(open)? {
            advance(&mut socket, &mut exchange, &mut phase);
        }
    }
    let mut http = exchange.phases();
    if let Some(info) = tcp_info::read(&socket) {
        http.retransmissions = Some(info.total_retrans);
        http.mss = phase.connected.then_some((info.snd_mss, info.rcv_mss));
    }
    Ok(Some(Get::Done(Box::new(Done { sport, began, exchange, http }))))
}

struct Phase<'a> {
    connected: bool,
    rest: &'a [u8],
}

/// Does what the socket is ready for.
fn advance(socket: &mut Socket, exchange: &mut Exchange, phase: &mut Phase<'_>) {
    let now = clock::now();
    if !phase.connected {
        match socket.take_error() {
            Ok(None) => {}
            Ok(Some(e)) | Err(e) => return exchange.failed(errno_name(&e), now),
        }
        phase.connected = true;
        exchange.connected(now);
    }
    if !phase.rest.is_empty() {
        match socket.write(phase.rest) {
            Ok(n) => phase.rest = phase.rest.get(n..).unwrap_or_default(),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => return exchange.failed(errno_name(&e), now),
        }
        if phase.rest.is_empty() {
            exchange.requested(now);
        }
        return;
    }
    let mut buffer = [0; 16 << 10];
    match socket.read(&mut buffer) {
        Ok(0) => exchange.closed(now),
        Ok(n) => exchange.received(buffer.get(..n).unwrap_or_default(), now),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
        Err(e) => exchange.failed(errno_name(&e), now),
    }
}

/// Waits until the socket is ready; false if it is not within `nanos`.
fn wait(socket: &Socket, events: PollFlags, nanos: Nanos) -> std::io::Result<bool> {
    let mut fds = [PollFd::new(socket, events)];
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(nanos).unwrap_or(100_000_000) };
    match poll(&mut fds, Some(&timeout)) {
        Ok(n) => Ok(n > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Sleeps until `due`, in steps short enough to notice a cancelled run.
fn pause(job: &Job<'_>, due: Nanos, mut now: Nanos) -> Result<()> {
    while now < due && !job.cancelled() {
        std::thread::sleep(std::time::Duration::from_nanos((due - now).min(100_000_000)));
        now = clock::now();
    }
    Ok(())
}
