//! Source ports of probes, held so that no socket of the machine gets the answers, and no answer meets a socket.

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, SockAddr, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// Most ports held by one run.
const MAX: usize = 4096;

/// The first port moves on by one in this time: faster than runs use ports, and around the usual range in 91 s.
const MS_PER_PORT: u64 = 4;

/// Reserved source ports: bound, neither connected nor listening, so the kernel answers a SYN-ACK with its RST.
#[derive(Debug)]
pub struct Ports {
    held: Vec<(u16, Socket)>,
    range: RangeInclusive<u16>,
}

impl Ports {
    /// Holds up to `wanted` ports outside `ip_local_port_range` of the namespace of the calling thread; fewer if
    /// they, or the file descriptors, run out. The first moves on with time: a server holds the half-open connections
    /// of earlier runs for up to 63 s when it does not hear the RSTs, and answers no SYN that meets one.
    pub fn reserve(wanted: usize, v4: bool) -> std::io::Result<Self> {
        let wanted = wanted.clamp(1, MAX);
        allow_descriptors(wanted);
        let range =
            free_range(std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().as_deref());
        let size = usize::from(range.end() - range.start()) + 1;
        let now = clock_gettime(ClockId::Monotonic);
        let ticks = (now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000) / MS_PER_PORT;
        let first = usize::try_from(ticks % size as u64).unwrap_or(0);
        let any = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let mut held = Vec::with_capacity(wanted);
        for port in range.clone().cycle_from(first).take(size) {
            if held.len() == wanted {
                break;
            }
            let socket =
                match Socket::new(Domain::for_address(SocketAddr::new(any, port)), Type::STREAM, None) {
                    Ok(socket) => socket,
                    Err(e) if held.is_empty() => return Err(e),
                    Err(_) => break,
                };
            if socket.bind(&SockAddr::from(SocketAddr::new(any, port))).is_ok() {
                held.push((port, socket));
            }
        }
        if held.is_empty() {
            return Err(std::io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        Ok(Self { held, range })
    }

    /// The ports.
    pub fn numbers(&self) -> Vec<u16> {
        self.held.iter().map(|(port, _)| *port).collect()
    }

    /// A range that holds all of them, for a packet filter.
    pub fn range(&self) -> RangeInclusive<u16> {
        self.range.clone()
    }
}

trait CycleFrom {
    fn cycle_from(self, first: usize) -> impl Iterator<Item = u16>;
}

impl CycleFrom for RangeInclusive<u16> {
    fn cycle_from(self, first: usize) -> impl Iterator<Item = u16> {
        self.clone().cycle().skip(first)
    }
}

/// The ports below the range from which the kernel chooses, or else above it, or else all: a bound port is not
/// chosen by the kernel in any case.
fn free_range(local: Option<&str>) -> RangeInclusive<u16> {
    const ENOUGH: u16 = 1024;
    let mut words = local.unwrap_or("").split_whitespace().map(str::parse::<u16>);
    // The kernel's default (Documentation/networking/ip-sysctl.rst).
    let (low, high) = match (words.next(), words.next()) {
        (Some(Ok(low)), Some(Ok(high))) => (low, high),
        _ => (32768, 60999),
    };
    if low > 10_000 + ENOUGH {
        10_000..=low - 1
    } else if high < u16::MAX - ENOUGH {
        high + 1..=u16::MAX
    } else {
        10_000..=u16::MAX
    }
}

/// Raises the soft limit of open files for `ports` and some more, as far as the hard limit allows.
fn allow_descriptors(ports: usize) {
    let needed = ports as u64 + 256;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|now| now < needed) {
        limit.current = Some(limit.maximum.map_or(needed, |most| most.min(needed)));
        // Without it fewer ports are held; the run goes on.
        setrlimit(Resource::Nofile, limit).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn avoids_the_kernels_own_range() {
        assert_eq!(free_range(Some("32768\t60999\n")), 10_000..=32_767);
        assert_eq!(free_range(Some("1024 60999")), 61000..=65535);
        assert_eq!(free_range(Some("20000 65535")), 10_000..=19_999);
        assert_eq!(free_range(Some("1024 65535")), 10_000..=65535);
        assert_eq!(free_range(None), 10_000..=32_767);
    }

    #[test]
    fn two_runs_hold_different_ports() {
        let (a, b) = (Ports::reserve(50, true).expect("ports"), Ports::reserve(50, true).expect("ports"));
        assert_eq!(a.numbers().len(), 50);
        assert!(a.numbers().iter().all(|p| !b.numbers().contains(p) && a.range().contains(p)));
    }
}
