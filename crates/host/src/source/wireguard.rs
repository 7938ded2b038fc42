//! Peers of wireguard devices: generic netlink, family `wireguard`.
//!
//! The answer holds the private key and those shared with peers. They never leave this file.

use crate::error::Result;
use crate::sys::attributes::{Attributes, ip};
use crate::sys::netlink::Netlink;
use data_encoding::BASE64;
use netlink_bindings::utils::{parse_u16, parse_u64};
use std::net::{IpAddr, SocketAddr};
use whydrop_model::snapshot::{Link, WireguardPeer};
use whydrop_model::text;

/// struct genlmsghdr: WG_CMD_GET_DEVICE, version 1.
const GET_DEVICE: [u8; 4] = [0, 1, 0, 0];

// WGDEVICE_A_*, WGPEER_A_* and WGALLOWEDIP_A_* (include/uapi/linux/wireguard.h).
const IFINDEX: u16 = 1;
const OWN_KEY: u16 = 4;
const LISTEN_PORT: u16 = 6;
const FWMARK: u16 = 7;
const PEERS: u16 = 8;
const PEER_KEY: u16 = 1;
const ENDPOINT: u16 = 4;
const KEEPALIVE: u16 = 5;
const LAST_HANDSHAKE: u16 = 6;
const RX_BYTES: u16 = 7;
const TX_BYTES: u16 = 8;
const ALLOWED: u16 = 9;

/// Peers of all wireguard devices of the calling thread's namespace; not asked for without one. Needs CAP_NET_ADMIN.
pub fn read(links: &[Link]) -> Result<Vec<WireguardPeer>> {
    let mut devices = links.iter().filter(|link| link.kind.as_deref() == Some("wireguard")).peekable();
    let mut peers = Vec::new();
    if devices.peek().is_none() {
        return Ok(peers);
    }
    let mut netlink = Netlink::generic()?;
    let family = netlink.family("wireguard", text!("wireguard", "wireguard"))?;
    for device in devices {
        let mut payload = GET_DEVICE.to_vec();
        payload.extend(8u16.to_ne_bytes());
        payload.extend(IFINDEX.to_ne_bytes());
        payload.extend(device.index.to_ne_bytes());
        let object = text!("the wireguard peers", "wireguard 对端");
        let mut collector = Device::new(device.index);
        netlink.dump_raw(object, family, &payload, |message| collector.add(message))?;
        peers.extend(collector.peers);
    }
    Ok(peers)
}

/// One device: a long list of peers comes in several messages, of which only the first has the device's own
/// attributes, and a peer with many networks goes on in the next.
struct Device {
    link: u32,
    listen_port: u16,
    fwmark: u32,
    own_key: Option<String>,
    peers: Vec<WireguardPeer>,
}

impl Device {
    const fn new(link: u32) -> Self {
        Self { link, listen_port: 0, fwmark: 0, own_key: None, peers: Vec::new() }
    }

    fn add(&mut self, message: &[u8]) -> Option<()> {
        let attributes = Attributes::after(message, GET_DEVICE.len())?;
        if let Some(port) = attributes.u16(LISTEN_PORT) {
            self.listen_port = port;
            self.fwmark = attributes.u32(FWMARK)?;
            self.own_key = attributes.bytes(OWN_KEY).map(|key| BASE64.encode(key));
            // A dump that is begun anew, too.
            self.peers.clear();
        }
        for (_, peer) in attributes.nested(PEERS)?.iter() {
            self.peer(Attributes(peer))?;
        }
        Some(())
    }

    fn peer(&mut self, peer: Attributes<'_>) -> Option<()> {
        // As `wg` prints keys.
        let public_key = BASE64.encode(peer.bytes(PEER_KEY)?);
        let networks = peer.nested(ALLOWED).into_iter().flat_map(Attributes::iter);
        let allowed: Vec<(IpAddr, u8)> =
            networks.filter_map(|(_, network)| allowed(Attributes(network))).collect();
        if let Some(last) = self.peers.last_mut().filter(|last| last.public_key == public_key) {
            last.allowed.extend(allowed);
            return Some(());
        }
        let seconds = peer.bytes(LAST_HANDSHAKE).and_then(parse_u64);
        self.peers.push(WireguardPeer {
            link: self.link,
            listen_port: self.listen_port,
            fwmark: self.fwmark,
            own_key: self.own_key.clone(),
            public_key,
            endpoint: peer.bytes(ENDPOINT).and_then(endpoint),
            allowed,
            last_handshake_s: seconds.filter(|seconds| *seconds != 0),
            rx_bytes: peer.u64(RX_BYTES)?,
            tx_bytes: peer.u64(TX_BYTES)?,
            keepalive_s: peer.u16(KEEPALIVE)?,
        });
        Some(())
    }
}

fn allowed(network: Attributes<'_>) -> Option<(IpAddr, u8)> {
    Some((network.ip(2)?, network.u8(3)?))
}

/// struct sockaddr_in or sockaddr_in6.
fn endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be(parse_u16(bytes.get(2..)?)?);
    let ip = match i32::from(parse_u16(bytes)?) {
        libc::AF_INET => ip(bytes.get(4..8)?)?,
        libc::AF_INET6 => ip(bytes.get(8..24)?)?,
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn peer(key: u8, network: [u8; 4], whole: bool) -> Vec<u8> {
        let mut out = attribute(PEER_KEY, &[key; 32]);
        if whole {
            out.extend(attribute(2, &[0x5e; 32]));
            out.extend(attribute(ENDPOINT, &[2, 0, 0xca, 0x6c, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
            out.extend(attribute(KEEPALIVE, &25u16.to_ne_bytes()));
            out.extend(attribute(LAST_HANDSHAKE, &[0; 16]));
            out.extend(attribute(RX_BYTES, &0u64.to_ne_bytes()));
            out.extend(attribute(TX_BYTES, &148u64.to_ne_bytes()));
        }
        let network = [attribute(1, &2u16.to_ne_bytes()), attribute(2, &network), attribute(3, &[24])];
        out.extend(attribute(ALLOWED, &attribute(0, &network.concat())));
        attribute(0, &out)
    }

    #[test]
    fn a_peer_in_two_messages_that_never_shook_hands() {
        let mut first = GET_DEVICE.to_vec();
        first.extend(attribute(3, &[0x77; 32]));
        first.extend(attribute(LISTEN_PORT, &51_820u16.to_ne_bytes()));
        first.extend(attribute(FWMARK, &0u32.to_ne_bytes()));
        first.extend(attribute(PEERS, &peer(1, [10, 1, 0, 0], true)));
        let mut second = GET_DEVICE.to_vec();
        second.extend(attribute(PEERS, &peer(1, [10, 2, 0, 0], false)));
        let mut device = Device::new(4);
        assert!(device.add(&first).is_some() && device.add(&second).is_some());
        let [peer] = device.peers.as_slice() else { panic!("{:?}", device.peers) };
        assert_eq!(peer.allowed.len(), 2);
        assert_eq!((peer.listen_port, peer.last_handshake_s, peer.tx_bytes), (51_820, None, 148));
        assert_eq!(peer.endpoint.unwrap().to_string(), "192.0.2.1:51820");
        torture(&first, |b| Device::new(4).add(b));
    }
}
