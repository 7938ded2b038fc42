//! WireGuard between client (10.9.0.1) and server (10.9.0.2).

use crate::testing::*;
use std::net::IpAddr;
use whydrop_model::snapshot::{Address, WireguardPeer};
use whydrop_model::{Reading, Snapshot};

fn peer(own: &str, key: &str, endpoint: &str, allowed: &str) -> WireguardPeer {
    WireguardPeer {
        link: 7,
        listen_port: 51820,
        fwmark: 0,
        own_key: Some(own.into()),
        public_key: key.into(),
        endpoint: endpoint.parse().ok(),
        allowed: vec![(allowed.parse().unwrap(), 32)],
        last_handshake_s: None,
        rx_bytes: 0,
        tx_bytes: 148,
        keepalive_s: 0,
    }
}

/// Both ends with these peers; the client's requests to the server are lost.
fn world(client: WireguardPeer, server: WireguardPeer) -> World {
    let mut world = World::pair();
    for (index, ip, peer) in [(CLIENT, "10.9.0.1", client), (SERVER, "10.9.0.2", server)] {
        world.both(index, |s: &mut Snapshot| {
            let (Reading::Present(links), Reading::Present(addresses), Reading::Present(routes)) =
                (&mut s.links, &mut s.addresses, &mut s.routes)
            else {
                panic!("links")
            };
            let mut device = veth(7, "wg0", 0);
            (device.kind, device.link, device.link_netnsid) = (Some("wireguard".into()), None, None);
            (device.link_netns_inode, device.mac) = (None, None);
            links.push(device);
            let ip: IpAddr = ip.parse().unwrap();
            addresses.push(Address { link: 7, ip, prefix: 24, flags: vec![] });
            routes.push(route("10.9.0.0/24", "unicast", None, Some(7)));
            s.wireguard = Reading::Present(vec![peer.clone()]);
        });
    }
    world.probe("tcp://10.9.0.2:80", 20, 20);
    world
}

#[test]
fn keys_that_differ() {
    let client = peer("C=", "OLD=", "10.0.0.2:51820", "10.9.0.2");
    let server = peer("S=", "C=", "10.0.0.1:51820", "10.9.0.1");
    let world = world(client, server);
    assert_eq!(world.found(), ["wg.peer_key @ netns:client: wg0"], "it has an old key of the server");
}

#[test]
fn keys_that_fit_are_not_blamed() {
    let client = peer("C=", "S=", "10.0.0.2:51820", "10.9.0.2");
    let server = peer("S=", "C=", "10.0.0.1:51820", "10.9.0.1");
    let found = world(client, server).found();
    assert!(!found.iter().any(|found| found.starts_with("wg.")), "{found:?}");
}

#[test]
fn an_address_that_no_peer_may_have() {
    let mut client = peer("C=", "S=", "10.0.0.2:51820", "10.9.0.3");
    let mut server = peer("S=", "C=", "10.0.0.1:51820", "10.9.0.1");
    (client.last_handshake_s, server.last_handshake_s) = (Some(1), Some(1));
    let world = world(client, server);
    assert_eq!(world.found(), ["wg.allowed_ips @ netns:client: 10.9.0.2 dev wg0"]);
}
