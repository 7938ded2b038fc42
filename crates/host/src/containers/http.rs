//! One GET over a Unix socket: HTTP/1.1 with a deadline and a limit for every answer.
//!
//! Who listens there need not be an engine: it may never answer, drip, never end, or claim any number of bytes.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use whydrop_model::{Phrase, text};

/// Bytes of one whole answer: 20,000 containers, 3 KB each.
pub(super) const LARGEST: usize = 64 << 20;
/// Bytes of its header; an engine's has some 300.
const HEADER: usize = 16 << 10;
/// Lines of its header.
const LINES: usize = 64;
/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;
/// How often a full queue of the listener is tried again.
const TICK: Duration = Duration::from_millis(20);

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// It was not whole in time.
    Late,
    /// The kernel's word.
    Io(io::Error),
    /// The other side's.
    Answer(Phrase),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        // A read or write that met its time limit.
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Late,
            _ => Self::Io(error),
        }
    }
}

fn malformed() -> Trouble {
    Trouble::Answer(text!("the answer is not HTTP", "应答不是 HTTP").phrase())
}

pub(super) fn too_large() -> Trouble {
    let said = text!("the answer is larger than {n} MiB", "应答大于 {n} MiB");
    Trouble::Answer(said.fill(&[("n", &(LARGEST >> 20))]))
}

/// The body of a successful answer to `GET path`; any status but 200 is trouble. `path` must be plain ASCII without
/// blanks. It takes no longer than `limit`.
pub(super) fn get(socket: &Path, path: &str, limit: Duration) -> Result<Vec<u8>, Trouble> {
    let mut wire = Wire { until: Instant::now() + limit, stream: None, bytes: vec![] };
    wire.connect(socket)?;
    wire.send(
        format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: whydrop/{}\r\nConnection: close\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        )
        .as_bytes(),
    )?;
    let head = wire.head()?;
    let body = wire.body(&head)?;
    if head.status == 200 {
        return Ok(body);
    }
    Err(Trouble::Answer(text!("it answers {status}", "它应答 {status}").fill(&[("status", &head.status)])))
}

/// What of a header matters.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
}

impl Head {
    /// The header at the beginning of `bytes` and its length; none if it is not whole.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Trouble> {
        let mut lines = [httparse::EMPTY_HEADER; LINES];
        let mut response = httparse::Response::new(&mut lines);
        let httparse::Status::Complete(size) = response.parse(bytes).map_err(|_| malformed())? else {
            return Ok(None);
        };
        let mut head = Self { status: response.code.ok_or_else(malformed)?, length: None, chunked: false };
        for line in response.headers.iter() {
            let value = std::str::from_utf8(line.value).map_err(|_| malformed())?.trim();
            if line.name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = value.eq_ignore_ascii_case("chunked");
                if !head.chunked {
                    return Err(malformed());
                }
            } else if line.name.eq_ignore_ascii_case("content-length") {
                let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                // More digits than a usize has are too many bytes, too.
                let length = value.parse().unwrap_or(usize::MAX);
                match digits {
                    true if length <= LARGEST => head.length = Some(length),
                    true => return Err(too_large()),
                    false => return Err(malformed()),
                }
            }
        }
        Ok(Some((head, size)))
    }
}

struct Wire {
    until: Instant,
    stream: Option<UnixStream>,
    /// Read and not yet used.
    bytes: Vec<u8>,
}

impl Wire {
    fn left(&self) -> Result<Duration, Trouble> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Trouble::Late) } else { Ok(left) }
    }

    fn connect(&mut self, path: &Path) -> Result<(), Trouble> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(io::Error::from)?;
        let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
        // A blocking connect() would wait for ever while the listener's queue is full.
        while let Err(e) = rustix::net::connect(&socket, &address) {
            if e != rustix::io::Errno::AGAIN {
                return Err(Trouble::Io(e.into()));
            }
            std::thread::sleep(TICK.min(self.left()?));
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        self.stream = Some(stream);
        Ok(())
    }

    fn stream(&mut self) -> Result<&mut UnixStream, Trouble> {
        let left = self.left()?;
        let stream = self.stream.as_mut().ok_or_else(malformed)?;
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        Ok(stream)
    }

    /// The request is shorter than any socket buffer: it goes at once or, with a full one, not in time.
    fn send(&mut self, request: &[u8]) -> Result<(), Trouble> {
        Ok(self.stream()?.write_all(request)?)
    }

    /// Reads on; false at the end.
    fn more(&mut self) -> Result<bool, Trouble> {
        let mut piece = [0; PIECE];
        let count = loop {
            match self.stream()?.read(&mut piece) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                other => break other?,
            }
        };
        self.bytes.extend(piece.iter().take(count));
        if self.bytes.len() > LARGEST + HEADER { Err(too_large()) } else { Ok(count > 0) }
    }

    fn head(&mut self) -> Result<Head, Trouble> {
        loop {
            if let Some((head, size)) = Head::parse(&self.bytes)? {
                self.bytes.drain(..size);
                // 100 Continue: the answer is still to come.
                if !(100..200).contains(&head.status) {
                    return Ok(head);
                }
            } else if self.bytes.len() > HEADER || !self.more()? {
                return Err(malformed());
            }
        }
    }

    fn body(&mut self, head: &Head) -> Result<Vec<u8>, Trouble> {
        if head.chunked {
            return self.chunks();
        }
        // Without a length it ends with the connection, and at the limit it is not whole.
        let wanted = head.length.unwrap_or(usize::MAX);
        while self.bytes.len() < wanted {
            if !self.more()? {
                break;
            }
        }
        if head.length.is_some_and(|length| self.bytes.len() < length) {
            return Err(Trouble::Answer(text!("the answer ends early", "应答提前结束").phrase()));
        }
        self.bytes.truncate(wanted);
        Ok(std::mem::take(&mut self.bytes))
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Trouble> {
        let (mut body, mut at) = (vec![], 0);
        loop {
            let rest = self.bytes.get(at..).ok_or_else(malformed)?;
            match httparse::parse_chunk_size(rest).map_err(|_| malformed())? {
                httparse::Status::Complete((_, 0)) => return Ok(body),
                httparse::Status::Complete((start, size)) => {
                    let size = usize::try_from(size).ok().filter(|size| body.len() + size <= LARGEST);
                    let (start, end) = (at + start, at + start + size.ok_or_else(too_large)?);
                    // Each chunk ends in CR LF.
                    while self.bytes.len() < end + 2 {
                        if !self.more()? {
                            return Err(malformed());
                        }
                    }
                    body.extend(self.bytes.get(start..end).ok_or_else(malformed)?);
                    at = end + 2;
                }
                httparse::Status::Partial if self.more()? => (),
                httparse::Status::Partial => return Err(malformed()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const DEADLINE: Duration = Duration::from_secs(2);

    /// What `get` makes of an engine that does `answer` with its first client.
    fn asked(answer: impl FnOnce(UnixStream) + Send + 'static) -> Result<Vec<u8>, String> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("whydrop-engine-{}-{number}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || answer(listener.accept().unwrap().0));
        let began = Instant::now();
        let got = get(&path, "/containers/json", DEADLINE);
        assert!(began.elapsed() < DEADLINE + Duration::from_secs(1), "it took {:?}", began.elapsed());
        std::fs::remove_file(path).unwrap();
        got.map_err(|trouble| match trouble {
            Trouble::Late => "late".to_owned(),
            Trouble::Io(e) => e.to_string(),
            Trouble::Answer(phrase) => phrase.en,
        })
    }

    /// The same for an answer that is written at once, after which the engine closes.
    fn said(answer: &'static str) -> Result<Vec<u8>, String> {
        asked(move |mut stream| {
            let mut request = [0; 512];
            let n = stream.read(&mut request).unwrap();
            assert!(request[..n].starts_with(b"GET /containers/json HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        })
    }

    #[test]
    fn answers_of_each_shape() {
        let ok = |answer| said(answer).map(|body| String::from_utf8(body).unwrap());
        assert_eq!(ok("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]more").unwrap(), "[]");
        assert_eq!(ok("HTTP/1.0 200 OK\r\n\r\n[1]").unwrap(), "[1]");
        let chunked = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                       2\r\n[2\r\n1;x=y\r\n]\r\n0\r\n\r\n";
        assert_eq!(ok(chunked).unwrap(), "[2]");
        assert!(ok("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap_err().contains("404"));
    }

    #[test]
    fn nonsense_and_large_claims_are_refused() {
        for (answer, word) in [
            ("", "not HTTP"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000\r\n\r\n", "larger"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", "larger"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not HTTP"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[]", "early"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ndeadbeefdead\r\n", "larger"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "not HTTP"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "not HTTP"),
        ] {
            let error = said(answer).unwrap_err();
            assert!(error.contains(word), "{answer:?}: {error}");
        }
    }

    #[test]
    fn an_engine_that_is_silent_drips_or_never_ends_costs_its_deadline_at_most() {
        let silent = asked(|stream| {
            std::thread::sleep(DEADLINE * 2);
            drop(stream);
        });
        assert!(silent.unwrap_err().contains("late"));
        let drips = asked(|mut stream| {
            let mut answer = "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n".bytes().chain([b' '; 900]);
            while let Some(byte) = answer.next()
                && stream.write_all(&[byte]).is_ok()
            {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert!(drips.unwrap_err().contains("late"));
        let endless = asked(|mut stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
            while stream.write_all(&[b' '; 1 << 20]).is_ok() {}
        });
        let error = endless.map(|body| body.len()).unwrap_err();
        assert!(error.contains("larger") || error.contains("late"), "{error}");
    }
}
