//! Traffic of a lab: bounded in rate, ends when it is dropped.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream, UdpSocket};
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
        to: SocketAddrV4,
        /// How many per second, at most.
        per_second: u32,
    },
    /// UDP datagrams.
    Datagrams {
        /// Source address; unspecified lets the kernel choose.
        from: Ipv4Addr,
        /// Receiver.
        to: SocketAddrV4,
        /// How many per second, at most.
        per_second: u32,
        /// Bytes of payload.
        bytes: usize,
    },
    /// TCP connections to one port after the other, as a port scanner makes them.
    Scan {
        /// Address.
        to: Ipv4Addr,
        /// First port; 1000 ports are tried in turn.
        first_port: u16,
        /// How many per second, at most.
        per_second: u32,
    },
}

/// Traffic that flows until this is dropped. A connection that is being tried then may take its time-out to end;
/// nobody waits for it.
#[derive(Debug)]
pub struct Flowing {
    stop: Arc<AtomicBool>,
}

impl Traffic {
    /// Starts it in the namespace.
    pub fn start(&self, netns: &Netns) -> Result<Flowing> {
        let flowing = Flowing { stop: Arc::new(AtomicBool::new(false)) };
        let workers = match self {
            Self::Requests { .. } => WORKERS,
            Self::Datagrams { .. } | Self::Scan { .. } => 1,
        };
        for worker in 0..workers {
            let (traffic, netns, stop) = (self.clone(), netns.try_clone()?, Arc::clone(&flowing.stop));
            let thread = std::thread::Builder::new().name("traffic".into());
            let spawned = thread.spawn(move || {
                // The namespace was entered to build it; if that is denied now, nothing flows and the tests say so.
                if netns.enter().is_ok() {
                    traffic.flow(worker, workers, &stop);
                }
            });
            spawned.map_err(|e| {
                Error::io(text!("start {object}", "启动{object}"), text!("the traffic", "流量"), &e)
            })?;
        }
        Ok(flowing)
    }

    /// Sends in an even rhythm until told to stop. Errors are what a lab is for: the next packet is sent anyway.
    fn flow(&self, worker: u32, workers: u32, stop: &AtomicBool) {
        let per_second = match self {
            Self::Requests { per_second, .. }
            | Self::Datagrams { per_second, .. }
            | Self::Scan { per_second, .. } => (*per_second).max(1),
        };
        let gap = Duration::from_secs(1) * workers / per_second;
        let mut socket = None;
        let mut due = Instant::now() + gap * worker / workers;
        let mut turn = 0u16;
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now < due {
                std::thread::sleep((due - now).min(TICK));
                continue;
            }
            // What was missed is not made up for: no bursts.
            due = (due + gap).max(now);
            match self {
                Self::Requests { to, .. } => drop(request(*to)),
                Self::Datagrams { from, to, bytes, .. } => drop(datagram(&mut socket, *from, *to, *bytes)),
                Self::Scan { to, first_port, .. } => {
                    let port = first_port.saturating_add(turn % 1000);
                    drop(TcpStream::connect_timeout(&SocketAddrV4::new(*to, port).into(), TIMEOUT));
                }
            }
            turn = turn.wrapping_add(1);
        }
    }
}

impl Drop for Flowing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One GET; returns when the server has closed.
fn request(to: SocketAddrV4) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to.into(), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", to.ip())?;
    let (began, mut buffer) = (Instant::now(), [0; 4096]);
    while began.elapsed() < TIMEOUT && stream.read(&mut buffer)? > 0 {}
    stream.shutdown(Shutdown::Both)
}

fn datagram(
    socket: &mut Option<UdpSocket>,
    from: Ipv4Addr,
    to: SocketAddrV4,
    bytes: usize,
) -> io::Result<usize> {
    let socket = match socket {
        Some(socket) => socket,
        None => socket.insert(UdpSocket::bind(SocketAddrV4::new(from, 0))?),
    };
    socket.send_to(&vec![b'x'; bytes], to)
}
