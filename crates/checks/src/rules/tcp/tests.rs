//! Queues of listeners and buffers of UDP sockets.

use crate::testing::*;
use whydrop_model::snapshot::Protocol;
use whydrop_model::{Reading, Snapshot, Verdict};

fn sockets(snapshot: &mut Snapshot, change: impl Fn(&mut whydrop_model::snapshot::Socket)) {
    if let Reading::Present(sockets) = &mut snapshot.sockets {
        sockets.iter_mut().for_each(change);
    }
}

#[test]
fn a_full_accept_queue_is_charged_once() {
    let mut world = World::pair();
    world.rises(SERVER, "TcpExt.ListenOverflows", 20).rises(SERVER, "TcpExt.ListenDrops", 20);
    world.after(SERVER, |s| sockets(s, |s| (s.receive_queue, s.send_queue) = (6, 5)));
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["tcp.accept_queue_overflow @ netns:server: 0.0.0.0:80"]);
    assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (20, 0));
}

#[test]
fn a_syn_queue_without_cookies() {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        s.sysctls.insert("net.ipv4.tcp_syncookies".into(), Reading::Present("0".into()));
    });
    world.rises(SERVER, "TcpExt.ListenDrops", 400);
    assert_eq!(world.found(), ["tcp.syn_queue_overflow @ netns:server: SYN queue"]);

    // SYN cookies sent are no loss.
    let mut world = World::pair();
    world.rises(SERVER, "TcpExt.TCPReqQFullDoCookies", 400);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn a_queue_that_our_own_probes_filled_is_a_consequence() {
    let mut world = World::pair();
    let drop = rule("-p tcp -j DROP", whydrop_model::netfilter::RuleVerdict::Drop, Some(0), vec![]);
    let output = chain(
        "OUTPUT",
        whydrop_model::netfilter::Hook::Output,
        whydrop_model::netfilter::RuleVerdict::Accept,
        vec![drop],
    );
    world.chain(SERVER, output, &[20]).rises(SERVER, "TcpExt.TCPReqQFullDrop", 3);
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["netfilter.drop_rule @ netns:server: filter OUTPUT, rule 1"]);
}

#[test]
fn a_full_udp_buffer_names_its_socket() {
    let mut world = World::pair();
    world.listens(SERVER, Protocol::Udp, "0.0.0.0:9");
    world.rises(SERVER, "Udp.RcvbufErrors", 30).rises(SERVER, "Udp.InErrors", 30);
    world.after(SERVER, |s| sockets(s, |s| s.drops = (s.protocol == Protocol::Udp).then_some(30)));
    assert_eq!(world.found(), ["udp.rcvbuf_overflow @ netns:server: 0.0.0.0:9"]);
    assert_eq!(world.report().ledger.lost, 30);
}
