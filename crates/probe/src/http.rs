//! http:// and https://: one GET at a time, with its phases.

use crate::Nanos;
use whydrop_model::probe::{Http, Retransmissions, Tls};
use whydrop_model::shell::sanitize;

/// Bytes read of one answer; the rest is of no interest to a prober.
pub const MAX_ANSWER: u64 = 8 << 20;
/// Bytes of the answer's header that are kept to be understood.
const MAX_HEADER: usize = 16 << 10;

/// How a GET ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The whole answer came.
    Complete,
    /// `timeout`, `reset`, an errno name, or what was wrong with the answer.
    Failed(String),
    /// Nobody listens.
    Refused,
}

/// What is still to come of an answer's body.
#[derive(Debug)]
enum Body {
    /// So many bytes.
    Length(u64),
    Chunked(Chunk),
    /// Whatever comes until the server closes.
    UntilClose,
}

/// Where a chunked body stands (RFC 9112 section 7.1).
#[derive(Debug)]
enum Chunk {
    /// In the line with the size: its value so far, and whether digits may still follow.
    Size(Option<u64>, bool),
    /// In the data, so many bytes before its end.
    Data(u64),
    /// Between the data and the next size.
    After,
    /// Behind the last chunk, in a line that is empty so far.
    Trailer(bool),
}

impl Body {
    /// As the lines of the header say.
    fn announced<'a>(status: u16, lines: impl Iterator<Item = &'a str>) -> Self {
        let (mut length, mut chunked) = (None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = length.or(value.parse().ok());
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.to_ascii_lowercase().ends_with("chunked");
            }
        }
        match (status, chunked, length) {
            (204 | 304, ..) => Self::Length(0),
            (_, true, _) => Self::Chunked(Chunk::Size(None, true)),
            (_, false, Some(length)) => Self::Length(length),
            (_, false, None) => Self::UntilClose,
        }
    }

    /// Takes the next bytes; true if they are the last, or else what is wrong with them.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, &'static str> {
        match self {
            Self::UntilClose => Ok(false),
            Self::Length(left) => {
                *left = left.saturating_sub(bytes.len() as u64);
                Ok(*left == 0)
            }
            Self::Chunked(chunk) => chunk.take(bytes),
        }
    }
}

impl Chunk {
    fn take(&mut self, mut bytes: &[u8]) -> Result<bool, &'static str> {
        const WRONG: &str = "malformed chunks";
        while let [byte, rest @ ..] = bytes {
            bytes = rest;
            *self = match (&*self, byte) {
                (Self::Data(left), _) => {
                    let skipped = (left - 1).min(rest.len() as u64);
                    bytes = rest.get(skipped as usize..).unwrap_or_default();
                    match left - 1 - skipped {
                        0 => Self::After,
                        left => Self::Data(left),
                    }
                }
                (Self::Size(Some(0), _), b'\n') => Self::Trailer(true),
                (Self::Size(Some(size), _), b'\n') => Self::Data(*size),
                (Self::Size(None, _), b'\n') => return Err(WRONG),
                (Self::Size(size, true), digit) if digit.is_ascii_hexdigit() => {
                    let digit = char::from(*digit).to_digit(16).map(u64::from).unwrap_or_default();
                    let size = size.unwrap_or(0).checked_mul(16).ok_or(WRONG)? + digit;
                    Self::Size(Some(size), true)
                }
                // An extension, which nobody uses, or the end of the line.
                (Self::Size(size, _), _) => Self::Size(*size, false),
                (Self::After, b'\n') => Self::Size(None, true),
                (Self::After, b'\r') => Self::After,
                (Self::After, _) => return Err(WRONG),
                (Self::Trailer(true), b'\n') => return Ok(true),
                (Self::Trailer(empty), b'\r') => Self::Trailer(*empty),
                (Self::Trailer(_), end) => Self::Trailer(*end == b'\n'),
            };
        }
        Ok(false)
    }
}

/// One GET. The driver connects, encrypts, sends [`Exchange::request`], and tells what it sees.
#[derive(Debug)]
pub struct Exchange {
    started: Nanos,
    encrypted: bool,
    connected: Option<Nanos>,
    secured: Option<(Nanos, String)>,
    requested: Option<Nanos>,
    first_byte: Option<Nanos>,
    ended: Option<(Nanos, End)>,
    header: Vec<u8>,
    status: Option<u16>,
    /// What is still to come; none before the header's end.
    body: Option<Body>,
    bytes: u64,
    /// Segments sent again, as last told, and by phase.
    again: Option<(u32, Retransmissions)>,
}

impl Exchange {
    /// A GET whose connect() is called at `now`; `encrypted` if a TLS handshake follows.
    pub fn new(now: Nanos, encrypted: bool) -> Self {
        Self {
            started: now,
            encrypted,
            connected: None,
            secured: None,
            requested: None,
            first_byte: None,
            ended: None,
            header: vec![],
            status: None,
            body: None,
            bytes: 0,
            again: None,
        }
    }

    /// The request for `path` on `authority` (host, with port if it is not the usual one).
    pub fn request(authority: &str, path: &str) -> Vec<u8> {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: whydrop/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        )
        .into_bytes()
    }

    /// The request with padding in its header, `size` bytes or a little more.
    pub fn lengthen(mut request: Vec<u8>, size: usize) -> Vec<u8> {
        /// Bytes of a line; servers refuse lines above 8 KB.
        const LINE: usize = 1000;
        request.truncate(request.len() - 2);
        while request.len() < size {
            request.extend(format!("X-Whydrop-Padding: {:x<LINE$}\r\n", "").bytes());
        }
        request.extend(b"\r\n");
        request
    }

    /// The connection stands.
    pub fn connected(&mut self, now: Nanos) {
        self.connected.get_or_insert(now);
    }

    /// The keys are agreed, with this version of TLS.
    pub fn secured(&mut self, now: Nanos, version: String) {
        self.secured.get_or_insert((now, version));
    }

    /// This side has sent `total` segments again (TCP_INFO) since the connect(): what is new belongs to the phase
    /// that goes on. To be told before what ends the phase.
    pub fn sent_again(&mut self, total: u32) {
        let (last, phases) = self.again.get_or_insert_default();
        let new = total.saturating_sub(*last);
        *last = total.max(*last);
        let phase = match (self.connected, self.encrypted, &self.secured, self.first_byte) {
            (None, ..) => &mut phases.connect,
            (_, true, None, _) => &mut phases.tls,
            (.., None) => &mut phases.first_byte,
            (.., Some(_)) => &mut phases.rest,
        };
        *phase = phase.saturating_add(new);
    }

    /// The whole request was handed to the kernel.
    pub fn requested(&mut self, now: Nanos) {
        self.requested.get_or_insert(now);
    }

    /// Bytes of the answer came.
    pub fn received(&mut self, bytes: &[u8], now: Nanos) {
        if bytes.is_empty() || self.ended.is_some() {
            return;
        }
        self.first_byte.get_or_insert(now);
        self.bytes += bytes.len() as u64;
        let whole = match &mut self.body {
            Some(body) => body.take(bytes),
            None => self.read_header(bytes),
        };
        match whole {
            Ok(true) => self.end(now, End::Complete),
            Ok(false) if self.bytes >= MAX_ANSWER => self.end(now, End::Complete),
            Ok(false) => {}
            Err(wrong) => self.end(now, End::Failed(wrong.into())),
        }
    }

    /// Adds bytes to the header; true if the whole answer is there, or else what is wrong with it.
    fn read_header(&mut self, bytes: &[u8]) -> Result<bool, &'static str> {
        self.header.extend(bytes);
        while let Some(end) = self.header.windows(4).position(|w| w == b"\r\n\r\n") {
            let body = self.header.split_off(end + 4);
            let text = String::from_utf8_lossy(&std::mem::replace(&mut self.header, body)).into_owned();
            let mut lines = text.split("\r\n");
            let first = lines.next().unwrap_or_default();
            let status = first
                .strip_prefix("HTTP/1.")
                .and_then(|rest| rest.split(' ').nth(1))
                .and_then(|code| code.parse().ok())
                .filter(|code| (100..1000).contains(code));
            let Some(status) = status else { return Err("not HTTP") };
            // The answer is still to come: 100 Continue, 103 Early Hints.
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            self.status = Some(status);
            let body = self.body.insert(Body::announced(status, lines));
            return body.take(&std::mem::take(&mut self.header));
        }
        if self.header.len() < MAX_HEADER { Ok(false) } else { Err("header too long") }
    }

    /// The other side closed: the end of the answer if its length was not told.
    pub fn closed(&mut self, now: Nanos) {
        let end = match self.body {
            Some(Body::UntilClose) => End::Complete,
            _ => End::Failed("closed early".into()),
        };
        self.end(now, end);
    }

    /// The kernel reported an error.
    pub fn failed(&mut self, errno: &str, now: Nanos) {
        let end = match errno {
            "ECONNREFUSED" => End::Refused,
            "ECONNRESET" | "EPIPE" => End::Failed("reset".into()),
            other => End::Failed(other.to_owned()),
        };
        self.end(now, end);
    }

    /// The encryption failed: this is why.
    pub fn broken(&mut self, why: &str, now: Nanos) {
        self.end(now, End::Failed(format!("tls: {}", sanitize(why, 200))));
    }

    /// The limit has passed.
    pub fn timed_out(&mut self, now: Nanos) {
        self.end(now, End::Failed("timeout".into()));
    }

    fn end(&mut self, now: Nanos, end: End) {
        self.ended.get_or_insert((now, end));
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<&End> {
        self.ended.as_ref().map(|(_, end)| end)
    }

    /// Time of the whole GET; none unless it is complete.
    pub fn total(&self) -> Option<Nanos> {
        match &self.ended {
            Some((at, End::Complete | End::Refused)) => Some(at.saturating_sub(self.started)),
            _ => None,
        }
    }

    /// The phases, without what the driver alone knows: name, certificate, segment size.
    pub fn phases(&self) -> Http {
        let ms = |from: Option<Nanos>, to: Option<Nanos>| {
            from.zip(to).map(|(from, to)| to.saturating_sub(from) as f64 / 1e6)
        };
        Http {
            name_ms: None,
            connect_ms: ms(Some(self.started), self.connected),
            tls: self.connected.filter(|_| self.encrypted).map(|connected| Tls {
                handshake_ms: ms(Some(connected), self.secured.as_ref().map(|(at, _)| *at)),
                version: self.secured.as_ref().map(|(_, version)| version.clone()),
                distrust: None,
            }),
            first_byte_ms: ms(self.requested, self.first_byte),
            total_ms: match &self.ended {
                Some((at, End::Complete)) => ms(Some(self.started), Some(*at)),
                _ => None,
            },
            status: self.status,
            bytes: self.bytes,
            retransmissions: self.again.map(|(total, _)| total),
            retransmissions_in: self.again.map(|(_, phases)| phases),
            mss: None,
            error: match self.ended() {
                Some(End::Failed(error)) => Some(error.clone()),
                Some(End::Refused) => Some("refused".into()),
                Some(End::Complete) | None => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Nanos = 1_000_000;

    fn answered(parts: &[&[u8]]) -> Exchange {
        let mut get = Exchange::new(0, false);
        get.connected(MS);
        get.requested(2 * MS);
        for (i, part) in (3..).zip(parts) {
            get.received(part, i * MS);
        }
        get
    }

    #[test]
    fn ends_with_the_announced_length() {
        let get = answered(&[b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 3\r\n\r\na", b"bc"]);
        assert_eq!(get.ended(), Some(&End::Complete));
        let http = get.phases();
        assert_eq!(
            (http.status, http.bytes, http.connect_ms, http.first_byte_ms),
            (Some(200), 41, Some(1.0), Some(1.0))
        );
        assert_eq!(http.total_ms, Some(5.0));
    }

    #[test]
    fn ends_with_the_connection_if_no_length_was_announced() {
        let mut get = answered(&[b"HTTP/1.0 200 OK\r\n\r\nabc"]);
        assert_eq!(get.ended(), None);
        get.closed(9 * MS);
        assert_eq!(get.ended(), Some(&End::Complete));
    }

    #[test]
    fn ends_with_the_last_chunk() {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
        let body = b"5;x=1\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: x\r\n\r\n".as_slice();
        let whole = [head, body].concat();
        for cut in 1..whole.len() {
            let (a, b) = whole.split_at(cut);
            assert_eq!(answered(&[a, b]).ended(), Some(&End::Complete), "cut at {cut}");
            let mut half = answered(&[a]);
            half.closed(9 * MS);
            assert_eq!(half.ended(), Some(&End::Failed("closed early".into())), "closed at {cut}");
        }
        let wrong = answered(&[head, b"zz\r\n"]);
        assert_eq!(wrong.ended(), Some(&End::Failed("malformed chunks".into())));
    }

    #[test]
    fn an_early_hint_is_not_yet_the_answer() {
        let hint = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".as_slice();
        let get = answered(&[hint]);
        assert_eq!((get.ended(), get.phases().status), (None, None));
        let get = answered(&[hint, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"]);
        assert_eq!((get.ended(), get.phases().status), (Some(&End::Complete), Some(200)));
    }

    #[test]
    fn names_what_ended_it_early() {
        let error = |mut get: Exchange, f: &dyn Fn(&mut Exchange)| {
            f(&mut get);
            (get.phases().error, get.total().is_some())
        };
        let half: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na"];
        assert_eq!(error(answered(half), &|g| g.closed(9)), (Some("closed early".into()), false));
        assert_eq!(error(answered(half), &|g| g.timed_out(9)), (Some("timeout".into()), false));
        assert_eq!(error(answered(half), &|g| g.failed("ECONNRESET", 9)), (Some("reset".into()), false));
        assert_eq!(error(answered(&[]), &|g| g.failed("ECONNREFUSED", 9)), (Some("refused".into()), true));
        assert_eq!(error(answered(&[b"SSH-2.0-x\r\n\r\n\r\n"]), &|_| ()), (Some("not HTTP".into()), false));
    }

    #[test]
    fn a_longer_request_is_still_one() {
        let short = Exchange::request("h", "/x");
        let long = Exchange::lengthen(short.clone(), 2920);
        assert!((2920..4000).contains(&long.len()));
        assert!(long.starts_with(&short[..short.len() - 2]) && long.ends_with(b"x\r\n\r\n"));
        assert_eq!(long.windows(4).filter(|w| w == b"\r\n\r\n").count(), 1);
        assert_eq!(Exchange::lengthen(short.clone(), 10), short);
    }

    #[test]
    fn each_phase_keeps_what_was_sent_again_in_it() {
        let mut get = Exchange::new(0, true);
        get.sent_again(2);
        get.connected(3000 * MS);
        get.sent_again(3);
        get.secured(3300 * MS, "TLSv1.3".into());
        get.requested(3301 * MS);
        get.sent_again(3);
        get.received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 3400 * MS);
        get.sent_again(4);
        let http = get.phases();
        assert_eq!(http.retransmissions, Some(4));
        let phases = Retransmissions { connect: 2, tls: 1, first_byte: 0, rest: 1 };
        assert_eq!(http.retransmissions_in, Some(phases));
        let tls = http.tls.expect("encrypted");
        assert_eq!((tls.handshake_ms, tls.version.as_deref()), (Some(300.0), Some("TLSv1.3")));
    }

    proptest! {
        #[test]
        fn survives_anything(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4000), 0..12)) {
            let refs: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let get = answered(&refs);
            prop_assert!(get.header.len() <= MAX_HEADER + 4000);
        }
    }
}
