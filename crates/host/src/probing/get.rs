//! One GET over a connection of its own, with or without TLS.

use super::packets::set_ttl;
use super::tcp_info::{self, TcpInfo, set_mss};
use super::tls::{self, Tls};
use super::{Job, clock, errno_name, fail};
use crate::error::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ClientConnection;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use whydrop_model::probe::Http;
use whydrop_model::text;
use whydrop_probe::Nanos;
use whydrop_probe::http::Exchange;

/// What to get, and how.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The run.
    pub job: &'a Job<'a>,
    /// From where.
    pub remote: SocketAddr,
    /// The request's header.
    pub bytes: &'a [u8],
    /// For https://.
    pub tls: Option<&'a Tls>,
    /// Limit of the whole GET.
    pub timeout: Nanos,
    /// For those who want less than the whole answer.
    pub watch: Option<Watch<'a>>,
}

/// Looks at a GET while it goes on.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// TCP_MAXSEG: largest segment of both sides, in bytes.
    pub mss: u32,
    /// Called with what TCP says, whether the whole request was handed to the kernel, and the time; true ends the GET.
    pub look: &'a dyn Fn(&TcpInfo, bool, Nanos) -> bool,
}

/// What became of a GET.
pub enum Get {
    /// The connect() failed on this machine, with this errno.
    NotSent(&'static str),
    /// It ended, well or not.
    Done(Box<Done>),
}

/// A GET that ended.
pub struct Done {
    /// Source port; 0 if it is not known.
    pub sport: u16,
    /// When connect() was called.
    pub began: Nanos,
    /// How it went.
    pub exchange: Exchange,
    /// How it went, for people.
    pub http: Http,
    /// What TCP said at the end; none without a connection.
    pub info: Option<TcpInfo>,
    /// Longest time that this machine held the probe up, in nanoseconds.
    pub held: Nanos,
}

/// Longest wait without a look at the cancel flag, in nanoseconds.
const PATIENCE: Nanos = 100_000_000;
/// The same while somebody looks on.
const WATCHING: Nanos = 20_000_000;

/// One GET; none if the run was cancelled for more than a second while it was going on.
pub fn get(request: &Request<'_>) -> Result<Option<Get>> {
    let Request { job, remote, timeout, .. } = *request;
    let open =
        |e: io::Error| fail(text!("open a socket for {object}", "为 {object} 打开套接字"), job.spec, &e);
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP)).map_err(open)?;
    socket.set_nonblocking(true).map_err(open)?;
    if let Some(name) = &job.spec.interface {
        socket.bind_device(Some(name.as_bytes())).map_err(open)?;
    }
    if let Some(ttl) = job.spec.ttl {
        set_ttl(&socket, ttl, remote.is_ipv4()).map_err(open)?;
    }
    if let Some(watch) = request.watch {
        set_mss(&socket, watch.mss).map_err(open)?;
    }
    let tls = request.tls.map(Tls::connection).transpose();
    let tls = tls.map_err(|e| tls::refused(job, e))?;
    let began = clock::now();
    let mut exchange = Exchange::new(began, tls.is_some());
    match socket.connect(&SockAddr::from(remote)) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        // A closed port on this machine itself is refused before connect() returns.
        Err(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => {
            exchange.failed("ECONNREFUSED", clock::now());
            let http = exchange.phases();
            return Ok(Some(Get::Done(Box::new(Done {
                sport: 0,
                began,
                exchange,
                http,
                info: None,
                held: 0,
            }))));
        }
        Err(e) => return Ok(Some(Get::NotSent(errno_name(&e)))),
    }
    let sport = socket.local_addr().ok().and_then(|a| a.as_socket()).map_or(0, |a| a.port());
    let mut connection = Connection { socket, tls, exchange, connected: false, rest: request.bytes };
    let (mut give_up, mut held) = (Nanos::MAX, 0);
    while connection.exchange.ended().is_none() {
        let now = clock::now();
        if give_up == Nanos::MAX && job.cancelled() {
            give_up = now + 1_000_000_000;
        }
        if now >= give_up {
            return Ok(None);
        }
        let end = began.saturating_add(timeout);
        let patience = if request.watch.is_some() { WATCHING } else { PATIENCE };
        let until = now.saturating_add(patience).min(end);
        let ready = now < end && connection.wait(until - now).map_err(open)?;
        held = clock::now().saturating_sub(until.max(now)).max(held);
        if ready || now >= end {
            connection.tell_retransmissions();
        }
        if ready {
            connection.advance();
        } else if now >= end {
            connection.exchange.timed_out(now);
        }
        if let Some(watch) = request.watch.filter(|_| connection.connected)
            && let Some(info) = tcp_info::read(&connection.socket)
            && (watch.look)(&info, connection.requested(), clock::now())
        {
            break;
        }
    }
    let mut http = connection.exchange.phases();
    let info = tcp_info::read(&connection.socket).filter(|_| connection.connected);
    http.mss = info.map(|info| (info.snd_mss, info.rcv_mss));
    if let (Some(told), Some(tls)) = (&mut http.tls, request.tls) {
        told.distrust = tls.distrust();
    }
    Ok(Some(Get::Done(Box::new(Done { sport, began, exchange: connection.exchange, http, info, held }))))
}

struct Connection<'a> {
    socket: Socket,
    tls: Option<ClientConnection>,
    exchange: Exchange,
    connected: bool,
    /// What is still to be sent of the request.
    rest: &'a [u8],
}

/// Not now, but later.
fn later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl Connection<'_> {
    /// Waits until the socket is ready; false if it is not within `nanos`.
    fn wait(&self, nanos: Nanos) -> io::Result<bool> {
        let events = match &self.tls {
            _ if !self.connected => PollFlags::OUT,
            None if !self.rest.is_empty() => PollFlags::OUT,
            Some(tls) if tls.wants_write() => PollFlags::IN | PollFlags::OUT,
            _ => PollFlags::IN,
        };
        let mut fds = [PollFd::new(&self.socket, events)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(n) => Ok(n > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether the whole request was handed to the kernel.
    fn requested(&self) -> bool {
        self.rest.is_empty() && self.tls.as_ref().is_none_or(|tls| !tls.wants_write())
    }

    fn tell_retransmissions(&mut self) {
        if let Some(info) = tcp_info::read(&self.socket) {
            self.exchange.sent_again(info.total_retrans);
        }
    }

    /// Does what the socket is ready for.
    fn advance(&mut self) {
        let now = clock::now();
        if !self.connected {
            match self.socket.take_error() {
                Ok(None) => {}
                Ok(Some(e)) | Err(e) => return self.exchange.failed(errno_name(&e), now),
            }
            self.connected = true;
            self.exchange.connected(now);
        }
        let done = if self.tls.is_some() { self.encrypted(now) } else { self.plain(now) };
        match done {
            Err(e) if !later(&e) => self.exchange.failed(errno_name(&e), now),
            _ => {}
        }
    }

    fn plain(&mut self, now: Nanos) -> io::Result<()> {
        if !self.rest.is_empty() {
            let n = self.socket.write(self.rest)?;
            self.rest = self.rest.get(n..).unwrap_or_default();
            if self.rest.is_empty() {
                self.exchange.requested(now);
            }
            return Ok(());
        }
        let mut buffer = [0; 16 << 10];
        match self.socket.read(&mut buffer)? {
            0 => self.exchange.closed(now),
            n => self.exchange.received(buffer.get(..n).unwrap_or_default(), now),
        }
        Ok(())
    }

    fn encrypted(&mut self, now: Nanos) -> io::Result<()> {
        let Self { socket, tls: Some(tls), exchange, rest, .. } = self else { return Ok(()) };
        let ended = match tls.read_tls(socket) {
            Ok(n) => n == 0,
            Err(e) if later(&e) => false,
            Err(e) => return Err(e),
        };
        if let Err(e) = tls.process_new_packets() {
            exchange.broken(&e.to_string(), now);
            // The alert tells the server why; if it does not get there, nothing is lost.
            tls.write_tls(socket).ok();
            return Ok(());
        }
        if !tls.is_handshaking() && !rest.is_empty() {
            exchange.secured(now, tls::version(tls));
            tls.writer().write_all(rest)?;
            *rest = &[];
        }
        while tls.wants_write() {
            tls.write_tls(socket)?;
        }
        if rest.is_empty() {
            exchange.requested(now);
        }
        let mut buffer = [0; 16 << 10];
        loop {
            match tls.reader().read(&mut buffer) {
                Ok(0) => break exchange.closed(now),
                Ok(n) => exchange.received(buffer.get(..n).unwrap_or_default(), now),
                // Without the close_notify of TLS; HTTP's own length tells whether anything is missing.
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => break exchange.closed(now),
                Err(_) => break,
            }
        }
        if ended {
            exchange.closed(now);
        }
        Ok(())
    }
}
