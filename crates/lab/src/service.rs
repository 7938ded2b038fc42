//! Services of a lab: real sockets in a namespace, served by threads of this process.

use crate::program::{Nginx, Script};
use crate::queue::Queue;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use whydrop_host::Netns;
use whydrop_host::error::{Error, Result};
use whydrop_model::text;

/// How long a service waits for one peer. Longer than a few retransmissions, so that a lossy path is slow, not dead.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a waiting thread looks whether it should end.
const TICK: Duration = Duration::from_millis(50);
/// Argument of listen(2) of what serves.
const BACKLOG: i32 = 128;
/// Connections served at once; more are closed at once.
const MAX_CONNECTIONS: usize = 64;

/// What a namespace serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// HTTP: one page, whatever is asked.
    Page {
        /// Address to listen on.
        ip: IpAddr,
        /// Port.
        port: u16,
        /// Bytes of the page.
        bytes: usize,
    },
    /// A TCP listener whose program hangs: nothing is ever accepted.
    Hung {
        /// Port.
        port: u16,
        /// Argument of listen(2); the kernel lets one more wait.
        backlog: i32,
    },
    /// TCP that answers each connection's first bytes with `bytes` and closes it without reading the rest.
    Abrupt {
        /// Port.
        port: u16,
    },
    /// HTTP by nginx, a program of its own.
    Nginx {
        /// Port.
        port: u16,
        /// True: it is stopped by a signal once it listens.
        stopped: bool,
    },
    /// A Python script; it prints a line once it serves.
    Script {
        /// Its text.
        text: &'static str,
    },
    /// TCP that reads what it is asked and does not answer: the news that is waited for does not come.
    Silent {
        /// Port.
        port: u16,
    },
    /// TCP that answers the first request of a connection and closes it, although its peer would ask again.
    OneAnswer {
        /// Port.
        port: u16,
    },
    /// UDP that sends every datagram back.
    Echo {
        /// Port.
        port: u16,
    },
    /// A UDP socket that joined a group on the interface with an address.
    Member {
        /// Group.
        group: Ipv4Addr,
        /// Address of the interface.
        on: Ipv4Addr,
        /// Port.
        port: u16,
    },
    /// A reader behind NFQUEUE rules that accepts every packet, slowly.
    Queue {
        /// Number of the queue.
        number: u16,
        /// How many packets may wait.
        waiting: u32,
        /// Time for each packet.
        pause: Duration,
    },
    /// A UDP socket.
    Datagrams {
        /// Port.
        port: u16,
        /// False: the program hangs, nothing is ever read.
        reads: bool,
        /// SO_RCVBUF in bytes, if not the default.
        buffer: Option<usize>,
    },
}

/// A service that runs until it is dropped.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// HTTP on port 80 of every address.
    pub const fn page(bytes: usize) -> Self {
        Self::Page { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 80, bytes }
    }

    /// Opens its socket in the namespace and serves on a thread; the socket listens when this returns.
    pub fn start(&self, netns: &Netns) -> Result<Running> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let opened = match self {
            Self::Nginx { port, stopped } => Nginx::start(netns, *port, *stopped).map(Open::Program),
            Self::Script { text } => Script::start(netns, text).map(Open::Script),
            _ => netns.run(|| self.open())?,
        };
        let mut socket =
            opened.map_err(|e| Error::io(text!("start {object}", "启动 {object}"), self.describe(), &e))?;
        let service = self.clone();
        let thread = std::thread::spawn(move || {
            match (&service, &mut socket) {
                (Self::Page { bytes, .. }, Open::Stream(listener)) => {
                    let bytes = *bytes;
                    serve(listener, &flag, move |stream| send_page(stream, bytes));
                }
                (Self::Abrupt { .. }, Open::Stream(listener)) => serve(listener, &flag, close_unread),
                (Self::Silent { .. }, Open::Stream(listener)) => serve(listener, &flag, wait_for_the_end),
                (Self::OneAnswer { .. }, Open::Stream(listener)) => serve(listener, &flag, answer_once),
                (Self::Echo { .. }, Open::Datagram(socket)) => echo(socket, &flag),
                (Self::Member { .. }, Open::Datagram(socket)) => read_all(socket, &flag),
                (Self::Queue { pause, .. }, Open::Queue(queue)) => {
                    while !flag.load(Ordering::Relaxed) {
                        queue.serve(*pause);
                    }
                }
                (Self::Datagrams { reads: true, .. }, Open::Datagram(socket)) => read_all(socket, &flag),
                _ => {
                    while !flag.load(Ordering::Relaxed) {
                        std::thread::sleep(TICK);
                    }
                }
            }
            socket.close();
        });
        Ok(Running { stop, thread: Some(thread) })
    }

    fn open(&self) -> io::Result<Open> {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let listen = |ip, port, backlog| {
            let address = SocketAddr::new(ip, port);
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // Of an earlier service there may be connections in TIME_WAIT, and copies of the socket (see `close`).
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(backlog)?;
            Ok(Open::Stream(socket.into()))
        };
        let datagrams = |port, buffer: Option<usize>| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            if let Some(bytes) = buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
            io::Result::Ok(socket)
        };
        match *self {
            Self::Page { ip, port, .. } => listen(ip, port, BACKLOG),
            Self::Abrupt { port } | Self::Silent { port } | Self::OneAnswer { port } => {
                listen(any, port, BACKLOG)
            }
            Self::Hung { port, backlog } => listen(any, port, backlog),
            Self::Datagrams { port, buffer, .. } => Ok(Open::Datagram(datagrams(port, buffer)?.into())),
            Self::Echo { port } => Ok(Open::Datagram(datagrams(port, None)?.into())),
            Self::Member { group, on, port } => {
                let socket = datagrams(port, None)?;
                socket.join_multicast_v4(&group, &on)?;
                Ok(Open::Datagram(socket.into()))
            }
            Self::Queue { number, waiting, .. } => Queue::open(number, waiting, TICK).map(Open::Queue),
            // They open their ports themselves.
            Self::Nginx { .. } | Self::Script { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Page { ip, port, .. } => format!("the web server on {ip}:{port}"),
            Self::Nginx { port, .. } => format!("nginx on port {port}"),
            Self::Script { .. } => "the script that serves".to_owned(),
            Self::Abrupt { port }
            | Self::Hung { port, .. }
            | Self::Silent { port }
            | Self::OneAnswer { port } => format!("the TCP service on port {port}"),
            Self::Datagrams { port, .. } | Self::Echo { port } | Self::Member { port, .. } => {
                format!("the UDP service on port {port}")
            }
            Self::Queue { number, .. } => format!("the reader of NFQUEUE {number}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the service was printed by its own thread.
            thread.join().ok();
        }
    }
}

enum Open {
    Stream(TcpListener),
    Datagram(UdpSocket),
    Queue(Queue),
    Program(Nginx),
    Script(Script),
}

impl Open {
    /// Stops listening at once. To drop the descriptor does not suffice: a child that another thread has just forked
    /// and that has not called exec yet holds a copy of it, and keeps the port listening.
    fn close(self) {
        match self {
            // A failure leaves it to the descriptor's end.
            Self::Stream(listener) => drop(rustix::net::shutdown(&listener, rustix::net::Shutdown::Both)),
            Self::Program(nginx) => drop(nginx),
            Self::Script(script) => drop(script),
            Self::Datagram(_) | Self::Queue(_) => {}
        }
    }
}

/// Accepts until told to stop; each connection is handled on a thread of its own.
fn serve(
    listener: &TcpListener,
    stop: &AtomicBool,
    handle: impl Fn(TcpStream) -> io::Result<()> + Copy + Send + 'static,
) {
    let open = Arc::new(AtomicUsize::new(0));
    if listener.set_nonblocking(true).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            wait_readable(listener);
            continue;
        };
        if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let open = Arc::clone(&open);
        std::thread::spawn(move || {
            // A peer that went away is no news to a server.
            handle(stream).ok();
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn wait_readable(listener: &TcpListener) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
    // An interrupted or failed wait only means one more turn of the loop.
    poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&tick)).ok();
}

fn send_page(mut stream: TcpStream, bytes: usize) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    read_request(&mut stream)?;
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + bytes, b'x');
    stream.write_all(&answer)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the peer has closed, so that nothing unread turns the end into a reset.
    while stream.read(&mut [0; 512])? > 0 {}
    Ok(())
}

/// Reads until the empty line that ends a request without a body.
fn read_request(stream: &mut TcpStream) -> io::Result<()> {
    let (mut request, mut chunk) = (Vec::<u8>::new(), [0; 1024]);
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let read = stream.read(&mut chunk)?;
        if read == 0 || request.len() > 16 * 1024 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        request.extend(chunk.iter().take(read));
    }
    Ok(())
}

/// Closes with bytes in the receive queue: the kernel purges them and answers with a reset.
fn close_unread(stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.peek(&mut [0; 1])?;
    Ok(())
}

/// Reads on until the peer goes away.
fn wait_for_the_end(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    while stream.read(&mut [0; 512])? > 0 {}
    Ok(())
}

/// One answer that promises more, and the end.
fn answer_once(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    read_request(&mut stream)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok")
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    if socket.set_read_timeout(Some(TICK)).is_err() {
        return;
    }
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // Time-outs and ICMP errors are no reason to end.
        if let Ok((read, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(buffer.get(..read).unwrap_or(&[]), from).ok();
        }
    }
}

fn read_all(socket: &UdpSocket, stop: &AtomicBool) {
    if socket.set_read_timeout(Some(TICK)).is_err() {
        return;
    }
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // Time-outs and ICMP errors are no reason to end.
        socket.recv(&mut buffer).ok();
    }
}
