//! What to probe, and how hard.

use crate::url::{self, UrlError};
use std::time::Duration;

/// A kind of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// SYN to a TCP port, or connect() where raw sockets are not allowed.
    Tcp,
    /// A GET.
    Http,
    /// A GET over TLS.
    Https,
    /// Echo requests.
    Icmp,
    /// Datagrams to a port.
    Udp,
    /// The largest packet that passes.
    Pmtu,
    /// Hop by hop.
    Path,
}

impl Scheme {
    /// Every scheme, in the order of the help.
    pub const ALL: [Self; 7] =
        [Self::Tcp, Self::Http, Self::Https, Self::Icmp, Self::Udp, Self::Pmtu, Self::Path];

    /// As written before `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Https => "https",
            Self::Icmp => "icmp",
            Self::Udp => "udp",
            Self::Pmtu => "pmtu",
            Self::Path => "path",
        }
    }

    /// How a URL of this scheme looks.
    pub const fn form(self) -> &'static str {
        match self {
            Self::Tcp => "tcp://host:port",
            Self::Http => "http://host[:port]/path",
            Self::Https => "https://host[:port]/path",
            Self::Icmp => "icmp://host",
            Self::Udp => "udp://host:port",
            Self::Pmtu => "pmtu://host",
            Self::Path => "path://host[:port]",
        }
    }

    /// A GET, with or without TLS.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// Address family asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// One probe run. [`ProbeSpec::parse`] fills in gentle defaults; every field may be changed afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeSpec {
    /// The URL as given.
    pub url: String,
    /// Kind of probe.
    pub scheme: Scheme,
    /// Host name or address, without brackets and without zone.
    pub host: String,
    /// Interface that an IPv6 link-local address belongs to: `eth0` of `[fe80::1%eth0]`.
    pub zone: Option<String>,
    /// Port; none for schemes without ports.
    pub port: Option<u16>,
    /// Path and query of http:// and https://, starting with a slash.
    pub path: String,
    /// Probes to send (those that could not be sent included); none: until the run is cancelled.
    pub count: Option<u32>,
    /// Time from one send to the next.
    pub interval: Duration,
    /// An answer later than this is late, not received. For packets it stays below 1 s, where the other side's
    /// first retransmission would be taken for an answer in time.
    pub timeout: Duration,
    /// How long answers to the last probe are awaited; at least `timeout`. Late answers tell which direction loses.
    pub late: Duration,
    /// Only this address family.
    pub family: Option<Family>,
    /// Leave through this interface.
    pub interface: Option<String>,
    /// Time to live of the probes.
    pub ttl: Option<u8>,
    /// Number of fixed flows (source ports) used in turn; none: a flow of its own for every probe.
    pub flows: Option<u16>,
    /// Stop as soon as it is certain (95 %) whether the loss is above this share.
    pub target: Option<f64>,
    /// Stop sending after this time.
    pub deadline: Option<Duration>,
    /// http:// and https:// only: look for segments that are too large for the path, instead of GETs.
    pub sizes: bool,
    /// Tell of every packet, for a capture file.
    pub capture: bool,
    /// The user says that the address is his own: more than [`MAX_RATE`] is allowed.
    pub own_target: bool,
}

/// Limit for an answer in time: strictly below the first SYN-ACK retransmission at 1 s.
pub const ON_TIME: Duration = Duration::from_millis(900);
/// Largest limit for an answer in time that still keeps retransmissions out.
pub const MAX_ON_TIME: Duration = Duration::from_millis(950);
/// Probes a second to an address that may be somebody else's.
pub const MAX_RATE: f64 = 1000.0;
/// Limit for a GET.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// Probes of a run whose user named no count.
pub const DEFAULT_COUNT: u32 = 50;
/// Least time between two probes to one hop of a path. Linux routers answer one a second (net.ipv4.icmp_ratelimit),
/// which is the default; that a hop limits its answers is recognised.
pub const MIN_PATH_INTERVAL: Duration = Duration::from_millis(100);
/// Ten a second: what a SYN queue of a small server bears.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(100);

impl ProbeSpec {
    /// Reads a probe URL: `tcp://10.0.0.2:80`, `http://[fd00::2]:8080/health`.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let parts = url::parse(text)?;
        let timeout = if parts.scheme.is_http() { HTTP_TIMEOUT } else { ON_TIME };
        let (count, interval) = match parts.scheme {
            Scheme::Http | Scheme::Https => (1, DEFAULT_INTERVAL),
            Scheme::Tcp | Scheme::Icmp | Scheme::Udp | Scheme::Pmtu => (DEFAULT_COUNT, DEFAULT_INTERVAL),
            // Per hop; routers answer about one probe a second.
            Scheme::Path => (10, Duration::from_secs(1)),
        };
        Ok(Self {
            url: text.to_owned(),
            scheme: parts.scheme,
            host: parts.host,
            zone: parts.zone,
            port: parts.port,
            path: parts.path,
            count: Some(count),
            interval,
            timeout,
            late: timeout,
            family: None,
            interface: None,
            ttl: None,
            flows: None,
            target: None,
            deadline: None,
            sizes: false,
            capture: false,
            own_target: false,
        })
    }

    /// Bytes of one probe with its IP header; for http:// and https:// of the request alone, before encryption.
    pub fn bytes_per_probe(&self, v4: bool) -> u64 {
        let ip = if v4 { 20 } else { 40 };
        match self.scheme {
            Scheme::Tcp => ip + 40,
            Scheme::Path if self.port.is_some() => ip + 40,
            Scheme::Udp => ip + 32,
            Scheme::Icmp | Scheme::Path => ip + 64,
            // Sizes vary; this is the largest on an ordinary link.
            Scheme::Pmtu => 1500,
            Scheme::Http | Scheme::Https => {
                crate::http::Exchange::request(&self.host, &self.path).len() as u64
            }
        }
    }
}
