//! Traffic of a lab: bounded in rate, ends when it is dropped.

use crate::program::Script;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use whydrop_host::Netns;
use whydrop_host::error::{Error, Result};
use whydrop_model::text;

/// How long one connection may take. Shorter than a service's patience: a client gives up first.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Threads that send requests, so that requests that hang do not stop the others.
const WORKERS: u32 = 4;
/// Longest sleep, so that the end is noticed.
const TICK: Duration = Duration::from_millis(50);

/// What a namespace sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// HTTP requests, each on a connection of its own, read to their end.
    Requests {
        /// Server.
        to: SocketAddr,
        /// How many per second, at most.
        per_second: u32,
        /// How the client goes about it.
        manner: Manner,
    },
    /// A client that tries one address and then the other (happy eyeballs).
    Eyeballs {
        /// First address.
        first: SocketAddr,
        /// The one that serves.
        then: SocketAddr,
        /// How many per second, at most.
        per_second: u32,
    },
    /// A monitor that asks port 80 of one host after the other; most of them are not there.
    Monitor {
        /// Hosts.
        hosts: Vec<IpAddr>,
        /// How many per second, at most.
        per_second: u32,
    },
    /// Requests by UDP; each waits for its answer.
    Asks {
        /// Server.
        to: SocketAddr,
        /// How many per second, at most.
        per_second: u32,
    },
    /// Echo requests through one raw socket, in bursts whose answers are read only afterwards.
    Pings {
        /// Address.
        to: Ipv4Addr,
        /// Requests of a burst; there is one a second.
        burst: u16,
    },
    /// UDP datagrams.
    Datagrams {
        /// Source address; unspecified lets the kernel choose.
        from: IpAddr,
        /// Receiver.
        to: SocketAddr,
        /// How many per second, at most.
        per_second: u32,
        /// Bytes of payload.
        bytes: usize,
    },
    /// TCP connections to one port after the other, as a port scanner makes them.
    Scan {
        /// Address.
        to: IpAddr,
        /// First port; 1000 ports are tried in turn.
        first_port: u16,
        /// How many per second, at most.
        per_second: u32,
    },
    /// A Python script; it prints a line once it sends.
    Script {
        /// Its text.
        text: &'static str,
    },
}

/// How a client goes about its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Reads the answer and closes.
    Reads,
    /// The same with this TTL.
    Ttl(u32),
    /// Goes away with a reset once the answer begins.
    Resets,
    /// Asks again on the connection that the server has closed.
    AsksAgain,
    /// Waits so long for an answer.
    Polls(Duration),
}

/// Traffic that flows until this is dropped. A connection that is being tried then may take its time-out to end;
/// nobody waits for it.
#[derive(Debug)]
pub struct Flowing {
    stop: Arc<AtomicBool>,
    /// Held until it is to end.
    _script: Option<Script>,
}

impl Traffic {
    /// Starts it in the namespace.
    pub fn start(&self, netns: &Netns) -> Result<Flowing> {
        let stop = Arc::new(AtomicBool::new(false));
        let workers = match self {
            Self::Script { text } => {
                let script = Script::start(netns, text).map_err(|e| not_started(&e))?;
                return Ok(Flowing { stop, _script: Some(script) });
            }
            Self::Requests { .. } | Self::Eyeballs { .. } | Self::Monitor { .. } => WORKERS,
            Self::Datagrams { .. } | Self::Asks { .. } | Self::Pings { .. } | Self::Scan { .. } => 1,
        };
        for worker in 0..workers {
            let (traffic, netns, stop) = (self.clone(), netns.try_clone()?, Arc::clone(&stop));
            let thread = std::thread::Builder::new().name("traffic".into());
            let spawned = thread.spawn(move || {
                // The namespace was entered to build it; if that is denied now, nothing flows and the tests say so.
                if netns.enter().is_ok() {
                    traffic.flow(worker, workers, &stop);
                }
            });
            spawned.map_err(|e| not_started(&e))?;
        }
        Ok(Flowing { stop, _script: None })
    }

    /// Sends in an even rhythm until told to stop. Errors are what a lab is for: the next packet is sent anyway.
    fn flow(&self, worker: u32, workers: u32, stop: &AtomicBool) {
        let per_second = match self {
            Self::Requests { per_second, .. }
            | Self::Eyeballs { per_second, .. }
            | Self::Monitor { per_second, .. }
            | Self::Asks { per_second, .. }
            | Self::Datagrams { per_second, .. }
            | Self::Scan { per_second, .. } => (*per_second).max(1),
            Self::Pings { .. } | Self::Script { .. } => 1,
        };
        let gap = Duration::from_secs(1) * workers / per_second;
        let (mut socket, mut raw) = (None, None);
        let mut due = Instant::now() + gap * worker / workers;
        let mut turn = u16::try_from(worker).unwrap_or(0);
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now < due {
                std::thread::sleep((due - now).min(TICK));
                continue;
            }
            // What was missed is not made up for: no bursts.
            due = (due + gap).max(now);
            match self {
                Self::Requests { to, manner, .. } => drop(request(*to, *manner, stop)),
                Self::Eyeballs { first, then, .. } => {
                    let tried = request(*first, Manner::Reads, stop);
                    drop(tried.or_else(|_| request(*then, Manner::Reads, stop)));
                }
                Self::Monitor { hosts, .. } => {
                    let host = hosts.get(usize::from(turn) % hosts.len().max(1));
                    drop(host.map(|host| request(SocketAddr::new(*host, 80), Manner::Reads, stop)));
                }
                Self::Asks { to, .. } => drop(ask(*to)),
                Self::Pings { to, burst } => drop(pings(&mut raw, *to, *burst)),
                // Sends by itself.
                Self::Script { .. } => {}
                Self::Datagrams { from, to, bytes, .. } => drop(datagram(&mut socket, *from, *to, *bytes)),
                Self::Scan { to, first_port, .. } => {
                    let port = first_port.saturating_add(turn % 1000);
                    drop(TcpStream::connect_timeout(&SocketAddr::new(*to, port), TIMEOUT));
                }
            }
            turn = turn.wrapping_add(u16::try_from(workers).unwrap_or(1));
        }
    }
}

fn not_started(error: &io::Error) -> Error {
    Error::io(text!("start {object}", "启动{object}"), text!("the traffic", "流量"), error)
}

impl Drop for Flowing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One GET; returns when the server has closed.
fn request(to: SocketAddr, manner: Manner, stop: &AtomicBool) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Manner::Ttl(ttl) = manner {
        socket.set_ttl_v4(ttl)?;
    }
    socket.connect_timeout(&to.into(), TIMEOUT)?;
    let mut stream = TcpStream::from(socket);
    let patience = if matches!(manner, Manner::Polls(_)) { TICK } else { TIMEOUT };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", to.ip());
    stream.write_all(get.as_bytes())?;
    let (began, mut buffer) = (Instant::now(), [0; 4096]);
    match manner {
        Manner::Resets => {
            let _ = stream.read(&mut buffer)?;
            return SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        Manner::AsksAgain => {
            let _ = stream.read(&mut buffer)?;
            std::thread::sleep(TICK);
            return stream.write_all(get.as_bytes());
        }
        Manner::Polls(time) => {
            let polls = || began.elapsed() < time && !stop.load(Ordering::Relaxed);
            while polls() && !ended(stream.read(&mut buffer)) {}
            return Ok(());
        }
        Manner::Reads | Manner::Ttl(_) => {}
    }
    while began.elapsed() < TIMEOUT && stream.read(&mut buffer)? > 0 {}
    stream.shutdown(Shutdown::Both)
}

/// True if nothing more comes; a time-out only means one more turn.
fn ended(read: io::Result<usize>) -> bool {
    match read {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    }
}

/// One datagram and its answer, on a socket of its own, as a resolver asks.
fn ask(to: SocketAddr) -> io::Result<usize> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(TIMEOUT / 2))?;
    socket.send(b"who is there")?;
    socket.recv(&mut [0; 512])
}

/// A burst of echo requests of 1 KiB, then all answers that found room.
fn pings(socket: &mut Option<Socket>, to: Ipv4Addr, burst: u16) -> io::Result<()> {
    let socket = match socket {
        Some(socket) => socket,
        None => socket.insert(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?),
    };
    for number in 0..burst {
        socket.send_to(&echo_request(number), &SocketAddr::new(to.into(), 0).into())?;
    }
    std::thread::sleep(TICK);
    socket.set_read_timeout(Some(TICK))?;
    while socket.read(&mut [0; 2048]).is_ok() {}
    Ok(())
}

/// An ICMP echo request (RFC 792) with its checksum (RFC 1071).
fn echo_request(number: u16) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 77];
    message.extend(number.to_be_bytes());
    message.resize(1032, b'x');
    let words =
        message.chunks_exact(2).map(|pair| pair.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) & 0xffff;
    let checksum = u16::try_from(sum).unwrap_or(0).to_be_bytes();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&checksum);
    }
    message
}

fn datagram(socket: &mut Option<UdpSocket>, from: IpAddr, to: SocketAddr, bytes: usize) -> io::Result<usize> {
    let socket = match socket {
        Some(socket) => socket,
        None => socket.insert(UdpSocket::bind(SocketAddr::new(from, 0))?),
    };
    socket.send_to(&vec![b'x'; bytes], to)
}
