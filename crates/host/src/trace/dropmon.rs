//! The last step: the drop monitor (net/core/drop_monitor.c) over generic netlink, which also tells of drops in
//! hardware. Each drop is one message with its packet; the namespace is not told.

use super::symbols::without_suffix;
use super::tally::Tally;
use super::{Source, Totals, packet};
use crate::error::{Error, Result};
use crate::sys::netlink::Netlink;
use netlink_bindings::utils::{IterableChunks, parse_u16, parse_u32, parse_u64};
use rustix::io::Errno;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use std::os::fd::OwnedFd;
use whydrop_model::shell::sanitize;
use whydrop_model::text;
use whydrop_model::{DropCount, DropEvent, Text};

const NAME: &str = "NET_DM";
/// include/uapi/linux/genetlink.h.
const GENERIC_HEADER: usize = 4;
const NETLINK_HEADER: usize = 16;
/// The group of this family is number 1 on every kernel (net/netlink/genetlink.c), unlike that of any other.
const ALERT_GROUP: u32 = 1;
/// include/uapi/linux/net_dropmon.h.
const VERSION: u8 = 2;
const CONFIG: u8 = 2;
const START: u8 = 3;
const STOP: u8 = 4;
const PACKET_ALERT: u8 = 5;
const STATS_GET: u8 = 8;
const ALERT_MODE: u16 = 1;
const SYMBOL: u16 = 3;
const IN_PORT: u16 = 4;
const TIMESTAMP: u16 = 5;
const PROTO: u16 = 6;
const PAYLOAD: u16 = 7;
const TRUNC_LEN: u16 = 9;
const ORIG_LEN: u16 = 10;
const QUEUE_LEN: u16 = 11;
const STATS: u16 = 12;
const HW_STATS: u16 = 13;
const HW_TRAP_NAME: u16 = 16;
const SW_DROPS: u16 = 20;
const HW_DROPS: u16 = 21;
const REASON: u16 = 23;
const MODE_PACKET: u8 = 1;
/// Bytes kept of a packet: Ethernet header and 128 more.
const KEPT: u32 = 142;
/// Drops that may wait in the kernel per CPU, and bytes in our socket, between two polls.
const QUEUE: u32 = 8192;
const SOCKET_BYTES: usize = 8 << 20;
const PER_POLL: usize = 65_536;
const ETHERNET: usize = 14;

/// A running drop monitor.
pub struct DropMonitor {
    netlink: Netlink,
    family: u16,
    alerts: OwnedFd,
    buffer: Vec<u8>,
    tally: Tally,
    /// What the kernel had lost before we began.
    lost_before: u64,
    lost_here: u64,
    stopped: bool,
}

impl DropMonitor {
    /// Configures and starts it. There is one for the whole machine: fails if another program uses it.
    pub fn start() -> Result<Self> {
        let mut netlink = Netlink::generic()?;
        let family = netlink
            .family(NAME, text!("the drop monitor (module drop_monitor)", "drop_monitor（内核模块）"))?;
        let alerts = subscribe()?;
        let mut monitor = Self {
            netlink,
            family,
            alerts,
            buffer: vec![0; 64 * 1024],
            tally: Tally::default(),
            lost_before: 0,
            lost_here: 0,
            stopped: true,
        };
        monitor.lost_before = monitor.kernel_lost()?;
        let config = [
            attribute(ALERT_MODE, &[MODE_PACKET]),
            attribute(TRUNC_LEN, &KEPT.to_ne_bytes()),
            attribute(QUEUE_LEN, &QUEUE.to_ne_bytes()),
        ];
        monitor.command(text!("configure {object}", "配置 {object}"), CONFIG, &config.concat())?;
        monitor.start_again()?;
        Ok(monitor)
    }

    fn start_again(&mut self) -> Result<()> {
        if !self.stopped {
            return Ok(());
        }
        // Hardware drops need devlink; without it software drops are still worth having.
        let both = [attribute(SW_DROPS, &[]), attribute(HW_DROPS, &[])].concat();
        if self.command(text!("start {object}", "启动 {object}"), START, &both).is_err() {
            self.command(text!("start {object}", "启动 {object}"), START, &attribute(SW_DROPS, &[]))?;
        }
        self.stopped = false;
        Ok(())
    }

    fn command(&mut self, operation: Text, command: u8, attributes: &[u8]) -> Result<()> {
        let payload = [&[command, VERSION, 0, 0], attributes].concat();
        let sent = self.netlink.get_raw(self.family, &payload, |_| None::<()>);
        sent.map(drop).map_err(|e| {
            Error::io(
                operation,
                text!("the drop monitor (CAP_NET_ADMIN)", "drop_monitor（CAP_NET_ADMIN）"),
                &e,
            )
        })
    }

    /// Drops that found no room in the monitor's own queues since the machine started.
    fn kernel_lost(&mut self) -> Result<u64> {
        let payload = [STATS_GET, VERSION, 0, 0];
        let reply =
            self.netlink.get_raw(self.family, &payload, |reply| Some(lost_of(reply.get(GENERIC_HEADER..)?)));
        let lost = reply.map_err(|e| {
            Error::io(
                text!("read the statistics of {object}", "读取 {object} 的统计"),
                text!("the drop monitor", "内核的 drop_monitor"),
                &e,
            )
        })?;
        lost.ok_or_else(|| {
            Error::new(
                text!("read the statistics of {object}", "读取 {object} 的统计"),
                text!("the drop monitor", "内核的 drop_monitor"),
                text!("no answer", "没有应答").phrase(),
            )
        })
    }

    fn stop(&mut self) -> Result<()> {
        if self.stopped {
            return Ok(());
        }
        self.stopped = true;
        self.command(
            text!("stop {object}", "停止 {object}"),
            STOP,
            &[attribute(SW_DROPS, &[]), attribute(HW_DROPS, &[])].concat(),
        )
    }
}

impl Source for DropMonitor {
    fn poll(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<()> {
        for _ in 0..PER_POLL {
            let flags = RecvFlags::DONTWAIT;
            let length = match rustix::net::recv(&self.alerts, self.buffer.as_mut_slice(), flags) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                // Our socket was full: how many messages that cost is not told.
                Err(Errno::NOBUFS) => {
                    self.lost_here += 1;
                    continue;
                }
                Err(e) => {
                    return Err(Error::io(
                        text!("read {object}", "读取 {object}"),
                        text!("the drop monitor", "内核的 drop_monitor"),
                        &e.into(),
                    ));
                }
            };
            let datagram = self.buffer.get(..length).unwrap_or(&[]);
            if let Some(event) = parse(datagram, self.family) {
                self.tally.add(&event);
                sink(event);
            }
        }
        Ok(())
    }

    fn counts(&mut self) -> Result<Vec<DropCount>> {
        Ok(self.tally.rows())
    }

    fn restart(&mut self) -> Result<()> {
        self.start_again()?;
        self.poll(&mut drop)?;
        self.tally = Tally::default();
        self.lost_before = self.kernel_lost()?;
        self.lost_here = 0;
        Ok(())
    }

    fn hold(&mut self) -> Result<()> {
        self.stop()
    }

    fn totals(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<Totals> {
        self.poll(sink)?;
        let lost = self.kernel_lost()?.saturating_sub(self.lost_before);
        Ok(Totals {
            counts: self.tally.rows(),
            counts_lost: lost + self.lost_here + self.tally.nameless(),
            samples_lost: 0,
            missing: vec![],
            signals: vec![],
            flows: None,
        })
    }
}

impl Drop for DropMonitor {
    fn drop(&mut self) {
        // Left running it would cost every drop of the machine a message that nobody reads; nobody is to be told.
        let _ = self.stop();
    }
}

fn subscribe() -> Result<OwnedFd> {
    let fail = |e: Errno| {
        Error::io(
            text!("subscribe to {object}", "订阅 {object}"),
            text!("the drop monitor", "内核的 drop_monitor"),
            &e.into(),
        )
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(GENERIC))
        .map_err(fail)?;
    // Beyond net.core.rmem_max only with CAP_NET_ADMIN, which the monitor needs anyhow.
    sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES).map_err(fail)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1 << (ALERT_GROUP - 1))).map_err(fail)?;
    Ok(socket)
}

/// One netlink attribute: length, type, value, padding to 4.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + value.len().next_multiple_of(4));
    out.extend((4 + value.len() as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Software and hardware drops that the monitor could not queue.
fn lost_of(attributes: &[u8]) -> u64 {
    let nested =
        IterableChunks::new(attributes).filter(|(header, _)| matches!(header.r#type, STATS | HW_STATS));
    // NET_DM_ATTR_STATS_DROPPED is attribute 0.
    nested.filter_map(|(_, stats)| IterableChunks::new(stats).next().and_then(|(_, n)| parse_u64(n))).sum()
}

/// Reads one alert; none for any other message.
fn parse(datagram: &[u8], family: u16) -> Option<DropEvent> {
    let length = parse_u32(datagram)? as usize;
    let payload = datagram.get(NETLINK_HEADER..length)?;
    if parse_u16(datagram.get(4..)?)? != family || *payload.first()? != PACKET_ALERT {
        return None;
    }
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        sanitize(text.trim_end_matches('\0'), 128)
    };
    let mut event = DropEvent::default();
    let mut frame: &[u8] = &[];
    for (header, value) in IterableChunks::new(payload.get(GENERIC_HEADER..)?) {
        match header.r#type {
            SYMBOL => {
                let symbol = text(value);
                let (function, offset) = symbol.split_once('+').unwrap_or((&symbol, ""));
                event.function = without_suffix(function).to_owned();
                let offset = offset.split('/').next().and_then(|o| o.strip_prefix("0x"));
                event.offset = offset.and_then(|o| u32::from_str_radix(o, 16).ok());
            }
            // A packet that hardware dropped has the name of a trap instead of a function.
            HW_TRAP_NAME => event.function = format!("hardware:{}", text(value)),
            IN_PORT => {
                for (port, value) in IterableChunks::new(value) {
                    match port.r#type {
                        0 => event.link = parse_u32(value),
                        1 => event.interface = Some(text(value)),
                        _ => {}
                    }
                }
            }
            TIMESTAMP => event.realtime_ns = parse_u64(value)?,
            PROTO => event.ethertype = parse_u16(value).filter(|&e| e != 0),
            ORIG_LEN => event.length = parse_u32(value)?,
            PAYLOAD => frame = value,
            REASON => event.reason = text(value),
            _ => {}
        }
    }
    // The frame begins with its link header, if its device has one.
    let ethernet = frame.get(12..ETHERNET).and_then(|t| t.first_chunk()).map(|t| u16::from_be_bytes(*t));
    let skip = if ethernet.is_some() && ethernet == event.ethertype { ETHERNET } else { 0 };
    event.packet = frame.get(skip..)?.iter().copied().take(super::layout::PACKET_BYTES).collect();
    packet::describe(&mut event);
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = attributes.concat();
        let mut out = vec![];
        out.extend(((NETLINK_HEADER + GENERIC_HEADER + body.len()) as u32).to_ne_bytes());
        out.extend(77u16.to_ne_bytes());
        out.extend([0; 10]);
        out.extend([PACKET_ALERT, VERSION, 0, 0]);
        out.extend(body);
        out
    }

    #[test]
    fn reads_an_alert() {
        let mut frame = vec![0; 12];
        frame.extend(0x0800u16.to_be_bytes());
        let builder = etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(5, 9);
        builder.write(&mut frame, b"x").expect("valid");
        let port = [attribute(0, &3u32.to_ne_bytes()), attribute(1, b"eth0\0")].concat();
        let bytes = alert(&[
            attribute(SYMBOL, b"nf_hook_slow+0x9a/0x110\0"),
            attribute(IN_PORT, &port),
            attribute(TIMESTAMP, &5u64.to_ne_bytes()),
            attribute(PROTO, &0x0800u16.to_ne_bytes()),
            attribute(ORIG_LEN, &43u32.to_ne_bytes()),
            attribute(PAYLOAD, &frame),
            attribute(REASON, b"NETFILTER_DROP\0"),
        ]);
        let event = parse(&bytes, 77).expect("an alert");
        assert_eq!((event.reason.as_str(), event.function.as_str()), ("NETFILTER_DROP", "nf_hook_slow"));
        assert_eq!(
            (event.link, event.interface.as_deref(), event.offset),
            (Some(3), Some("eth0"), Some(0x9a))
        );
        assert_eq!(event.destination.map(|d| d.to_string()).as_deref(), Some("10.0.0.2:9"));
        assert_eq!(parse(&bytes, 78), None);
        for length in 0..bytes.len() {
            parse(&bytes[..length], 77);
        }
    }

    #[test]
    fn adds_software_and_hardware_losses() {
        let stats = attribute(0, &7u64.to_ne_bytes());
        assert_eq!(lost_of(&[attribute(STATS, &stats), attribute(HW_STATS, &stats)].concat()), 14);
    }
}
