//! Probes on the wire: sockets and clocks for the engines of `whydrop_probe`.

mod clock;
mod connect;
mod filter;
mod get;
mod http;
mod icmp;
mod next_hop;
mod packets;
mod path;
mod pmtu;
mod ports;
pub mod resolve;
mod sizes;
mod syn;
mod tcp_info;
mod tls;
mod udp;
mod wire;

use crate::error::{Error, Result};
use crate::sys::netns::Netns;
use socket2::SockFilter;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use whydrop_model::{ProbeResult, Text, text};
use whydrop_probe::progress::{Event, Progress};
use whydrop_probe::spec::MAX_RATE;
use whydrop_probe::{ProbeSpec, Scheme};
use wire::Tap;

/// Probes inside the namespace `ns`, whose target id is `from`, on a thread of its own. Names are resolved where the
/// caller is, since containers often have no resolver. `progress` hears of every event, on that thread. When
/// `cancel` becomes true nothing more is sent, answers to open probes are awaited for at most one second, and the
/// result holds what there is.
pub fn run(
    ns: &Netns,
    from: &str,
    spec: &ProbeSpec,
    cancel: &AtomicBool,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Result<ProbeResult> {
    run_between(ns, None, from, spec, cancel, progress)
}

/// [`run`], with a look at the devices of `peer`, the namespace that has the probed address: both directions are then
/// counted instead of estimated. Of use for tcp://, icmp:// and udp://.
pub fn run_between(
    ns: &Netns,
    peer: Option<&Netns>,
    from: &str,
    spec: &ProbeSpec,
    cancel: &AtomicBool,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Result<ProbeResult> {
    let asked = Instant::now();
    let address = resolve::address(spec)?;
    let resolving = spec.host.parse::<IpAddr>().is_err().then(|| asked.elapsed());
    let rate = 1.0 / spec.interval.as_secs_f64().max(1e-9);
    if rate > MAX_RATE && !address.is_loopback() && !spec.own_target {
        let hint =
            text!("pass --i-own-target if the address is yours", "若目标归您所有，请加 --i-own-target")
                .phrase();
        let reason = text!(
            "more than {rate} probes a second could harm somebody else's machine",
            "每秒超过 {rate} 个探测可能影响他人的机器"
        )
        .fill(&[("rate", &MAX_RATE)]);
        return Err(Error::new(text!("probe {object}", "探测 {object}"), &spec.url, reason).with_hint(hint));
    }
    let job = Job { spec, peer, cancel, progress };
    let mut result = ns.run(|| {
        let remote = resolve::scoped(spec, address)?;
        match spec.scheme {
            Scheme::Tcp => syn::run(&job, remote),
            Scheme::Http | Scheme::Https => http::run(&job, remote, resolving),
            Scheme::Icmp => icmp::run(&job, remote),
            Scheme::Udp => udp::run(&job, remote),
            Scheme::Pmtu => pmtu::run(&job, remote),
            Scheme::Path => path::run(&job, remote),
        }
    })??;
    result.url.clone_from(&spec.url);
    from.clone_into(&mut result.from);
    result.address = Some(address);
    Ok(result)
}

/// What every driver needs.
struct Job<'a> {
    spec: &'a ProbeSpec,
    peer: Option<&'a Netns>,
    cancel: &'a AtomicBool,
    progress: &'a (dyn Fn(&Progress) + Sync),
}

impl Job<'_> {
    /// Sees the devices of the other end, if it is named. Fails if that namespace does not have the probed address:
    /// its view would prove nothing.
    fn peer(&self, filter: &[SockFilter], remote: IpAddr) -> Result<Option<Tap>> {
        let Some(peer) = self.peer else { return Ok(None) };
        let opened = peer.run(|| {
            let owned = UdpSocket::bind((remote, 0)).is_ok();
            owned.then(|| Tap::devices(filter)).transpose()
        })?;
        match opened {
            Ok(Some(tap)) => Ok(Some(tap)),
            Ok(None) => Err(Error::new(
                text!("watch the other end of {object}", "观察 {object} 的另一端"),
                &self.spec.url,
                text!("{remote} is not there", "{remote} 不在那里").fill(&[("remote", &remote)]),
            )),
            Err(e) => {
                Err(fail(text!("watch the other end of {object}", "观察 {object} 的另一端"), self.spec, &e))
            }
        }
    }

    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    fn tell(&self, counts: whydrop_probe::account::Counts, event: Event) {
        (self.progress)(&Progress { counts, total: self.spec.count, event });
    }
}

/// The name of an errno that a send or connect can give; the probe was not sent then.
fn errno_name(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM",
        Some(libc::EACCES) => "EACCES",
        Some(libc::EINVAL) => "EINVAL",
        Some(libc::ENOBUFS) => "ENOBUFS",
        Some(libc::EAGAIN) => "EAGAIN",
        Some(libc::EMSGSIZE) => "EMSGSIZE",
        Some(libc::ENETUNREACH) => "ENETUNREACH",
        Some(libc::ENETDOWN) => "ENETDOWN",
        Some(libc::EHOSTUNREACH) => "EHOSTUNREACH",
        Some(libc::ENODEV) => "ENODEV",
        Some(libc::EADDRNOTAVAIL) => "EADDRNOTAVAIL",
        Some(libc::EADDRINUSE) => "EADDRINUSE",
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        Some(libc::ECONNRESET) => "ECONNRESET",
        Some(libc::ECONNABORTED) => "ECONNABORTED",
        Some(libc::EPIPE) => "EPIPE",
        Some(libc::ETIMEDOUT) => "ETIMEDOUT",
        Some(libc::EPROTO) => "EPROTO",
        Some(libc::EMFILE) => "EMFILE",
        Some(libc::ENOMEM) => "ENOMEM",
        _ => "EIO",
    }
}

fn fail(operation: Text, spec: &ProbeSpec, error: &std::io::Error) -> Error {
    Error::io(operation, &spec.url, error)
}
