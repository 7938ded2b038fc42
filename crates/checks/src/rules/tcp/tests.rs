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

#[test]
fn no_free_local_port_is_seen_by_what_is_in_use_and_free_ones_are_innocent() {
    let busy = |ports: u16| {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            let range = Reading::Present("40000\t40009".to_owned());
            s.sysctls.insert("net.ipv4.ip_local_port_range".into(), range);
            let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
            sockets.extend((0..ports).map(|n| {
                let mut socket = socket(Protocol::Tcp, &format!("10.0.0.2:{}", 40_000 + n));
                (socket.state, socket.remote) = ("time_wait".into(), "10.0.0.1:80".parse().unwrap());
                socket
            }));
        });
        let talk = world.talk(SERVER, "10.0.0.1:80");
        (talk.attempts, talk.established, talk.failed, talk.unsent) = (30, 10, 20, 20);
        world.found()
    };
    assert_eq!(busy(10), ["tcp.ephemeral_exhausted @ netns:server: local ports to 10.0.0.1:80"]);
    assert_eq!(busy(3), Vec::<String>::new());
}

#[test]
fn drops_that_were_reported_after_the_counter_was_read_are_no_further_loss() {
    let reported = |drops: u64| {
        let mut world = World::pair();
        world.listens(SERVER, Protocol::Udp, "0.0.0.0:9");
        world.rises(SERVER, "Udp.RcvbufErrors", 100).drops(SERVER, "SOCKET_RCVBUFF", "udp_queue_rcv", drops);
        let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
        log.counts.last_mut().unwrap().protocol = Some(17);
        let ledger = world.report().ledger;
        (ledger.explained, ledger.unexplained)
    };
    assert_eq!(reported(103), (100, 0));
    assert_eq!(reported(150), (100, 38));
}

#[test]
fn connections_that_stay_half_open_for_want_of_data_are_held_back() {
    let half = |drops: u64, tries_again: bool| {
        let mut world = World::pair();
        let gone = |s: &mut Snapshot| {
            let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
            sockets.retain(|socket| socket.state == "listen");
        };
        world.both(SERVER, |s| {
            let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
            let mut held = socket(Protocol::Tcp, "10.0.0.2:80");
            (held.state, held.remote) = ("syn_recv".into(), "10.0.0.1:40000".parse().unwrap());
            (held.cookie, held.inode, held.owners) = (7, 0, vec![]);
            sockets.push(held);
        });
        world.both(CLIENT, |s| {
            let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
            let mut made = socket(Protocol::Tcp, "10.0.0.1:40000");
            (made.state, made.remote) = ("established".into(), "10.0.0.2:80".parse().unwrap());
            sockets.push(made);
        });
        if tries_again {
            world.after(SERVER, gone).after(CLIENT, gone);
        }
        world.rises(SERVER, "TcpExt.TCPDeferAcceptDrop", drops);
        world.found()
    };
    assert_eq!(half(3, false), ["tcp.defer_accept @ netns:server: tcp port 80"]);
    assert_eq!(half(0, false), Vec::<String>::new());
    // A client that gave up, and will try again.
    assert_eq!(half(3, true), ["tcp.defer_accept @ netns:server: tcp port 80"]);
}

#[test]
fn memory_and_orphans_cut_connections_and_are_told_apart() {
    let cut = |pages: u64, orphans: u64| {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            s.sysctls.insert("net.ipv4.tcp_mem".into(), Reading::Present("100\t150\t200".into()));
            s.sysctls.insert("net.ipv4.tcp_max_orphans".into(), Reading::Present("64".into()));
            let totals = [("TCP.mem", pages), ("TCP.orphan", orphans)];
            s.sockstat = Reading::Present(totals.map(|(name, n)| (name.to_owned(), n)).into());
        });
        world.rises(SERVER, "TcpExt.TCPAbortOnMemory", 5);
        world.found()
    };
    assert_eq!(cut(5, 60), ["tcp.orphan_limit @ netns:server: tcp_max_orphans"]);
    assert_eq!(cut(210, 1), ["tcp.memory @ netns:server: tcp_mem"]);
}

#[test]
fn a_few_old_segments_are_an_accident() {
    let found = |n: u64| {
        let mut world = World::pair();
        world.rises(SERVER, "TcpExt.PAWSEstab", n).drops(
            SERVER,
            "TCP_RFC7323_PAWS",
            "tcp_validate_incoming",
            n,
        );
        assert_eq!(world.report().ledger.unexplained, 0);
        world.found()
    };
    assert_eq!(found(2), Vec::<String>::new());
    assert_eq!(found(20), ["tcp.paws @ netns:server: eth0"]);
}
