//! Who suffers, told by others than the tracer; each with an innocent twin.

use crate::testing::*;
use whydrop_model::drops::SocketOwner;
use whydrop_model::flow::{Conversation, FailedCall, FlowDirection, IcmpSent, Repeat, RepeatKind};
use whydrop_model::netfilter::{Hook, RuleVerdict};
use whydrop_model::snapshot::{Protocol, Socket, TcpInfo, Timer};
use whydrop_model::{DropEvent, Reading, Role, Verdict};

const UDP: u8 = 17;

/// So many of the client's datagrams to a port of the server die at a place.
fn datagrams(world: &mut World, n: u64, port: u16, reason: &str, function: &str) {
    world.drops(SERVER, reason, function, n);
    let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
    log.counts.last_mut().unwrap().protocol = Some(UDP);
    let event = |from: u16| DropEvent {
        reason: reason.into(),
        function: function.into(),
        protocol: Some(UDP),
        source: Some(([10, 0, 0, 1], 40_000 + from).into()),
        destination: Some(([10, 0, 0, 2], port).into()),
        link: Some(2),
        netns_inode: Some(4002),
        ..DropEvent::default()
    };
    log.sampled.extend((0..n).map(|n| event(n as u16)));
}

/// A connection between client and server, at one of them.
fn connection(local: &str, remote: &str, tcp: TcpInfo) -> Socket {
    Socket {
        state: "established".into(),
        remote: remote.parse().unwrap(),
        cookie: 4242,
        send_queue: 0,
        tcp: Some(tcp),
        ..socket(Protocol::Tcp, local)
    }
}

fn holds(world: &mut World, index: usize, socket: &Socket) {
    world.both(index, |s| {
        if let Reading::Present(sockets) = &mut s.sockets {
            sockets.push(socket.clone());
        }
    });
}

#[test]
fn requests_to_a_closed_port_are_refused_and_a_scan_is_none() {
    let refused = |n| {
        let mut world = World::pair();
        datagrams(&mut world, n, 53, "NO_SOCKET", "__udp4_lib_rcv");
        world
    };
    let world = refused(5);
    assert_eq!(world.found(), ["app.not_listening @ netns:server: udp port 53"]);
    let report = world.report();
    let flow = report.flows.first().unwrap();
    assert_eq!((flow.target.as_str(), flow.remote.as_str()), ("netns:client", "10.0.0.2:53"));
    assert_eq!((flow.attempts, flow.trouble.refused, report.ledger.lost), (5, 5, 0));
    assert_eq!(refused(2).report().verdict, Verdict::Clear);

    let mut scan = World::pair();
    (100..200).for_each(|port| datagrams(&mut scan, 1, port, "NO_SOCKET", "__udp4_lib_rcv"));
    assert_eq!(scan.report().verdict, Verdict::Clear);
}

#[test]
fn what_this_machine_answered_by_icmp_counts_although_it_was_not_sampled() {
    let mut world = World::pair();
    let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
    log.icmp_sent.push(IcmpSent {
        netns_inode: 4002,
        kind: 3,
        code: 3,
        protocol: UDP,
        source: [10, 0, 0, 1].into(),
        destination: ([10, 0, 0, 2], 53).into(),
        count: 4,
        last_ns: 0,
    });
    assert_eq!(world.found(), ["app.not_listening @ netns:server: udp port 53"]);
    let icmp = world.report().flows.remove(0).trouble.icmp;
    assert_eq!(
        icmp.iter().map(|i| (i.kind.as_str(), i.count)).collect::<Vec<_>>(),
        [("port-unreachable", 4)]
    );
}

#[test]
fn data_that_nobody_acknowledges_is_trouble_and_a_long_poll_is_none() {
    let waiting = TcpInfo {
        timer: Timer::Retransmit,
        unacked: 1,
        retransmits: 3,
        backoff: 3,
        rto_us: 1_600_000,
        last_ack_recv_ms: 4000,
        last_data_sent_ms: 4000,
        bytes_acked: Some(100),
        ..TcpInfo::default()
    };
    let resting = TcpInfo { last_ack_recv_ms: 60_000, bytes_acked: Some(100), ..TcpInfo::default() };
    let verdict = |tcp: &TcpInfo| {
        let mut world = World::pair();
        holds(&mut world, CLIENT, &connection("10.0.0.1:40000", "10.0.0.2:80", tcp.clone()));
        let report = world.report();
        (report.verdict, report.flows.first().and_then(|flow| flow.trouble.stalled_seconds))
    };
    assert_eq!(verdict(&waiting), (Verdict::Loss, Some(4.0)));
    assert_eq!(verdict(&resting), (Verdict::Clear, None));
}

#[test]
fn a_request_that_nobody_reads_is_the_programs_fault_and_a_read_one_is_not() {
    let served = |unread: u32, state: &str| {
        let mut world = World::pair();
        let tcp = TcpInfo { last_data_recv_ms: 2500, bytes_received: Some(100), ..TcpInfo::default() };
        let socket = Socket {
            receive_queue: unread,
            state: state.into(),
            ..connection("10.0.0.2:80", "10.0.0.1:40000", tcp)
        };
        holds(&mut world, SERVER, &socket);
        let running = |cpu_ticks| whydrop_model::snapshot::Process {
            cpu_ticks,
            ..process(whydrop_model::snapshot::ProcessState::Sleeping)
        };
        for (ticks, after) in [(50, false), (60, true)] {
            let change = |s: &mut whydrop_model::Snapshot| {
                if let Reading::Present(processes) = &mut s.processes {
                    processes.list = vec![running(ticks)];
                }
            };
            if after {
                world.after(SERVER, change)
            } else {
                world.both(SERVER, change)
            };
        }
        world.found()
    };
    assert_eq!(served(100, "established"), ["app.hung @ netns:server: nginx (pid 7)"]);
    // The client gave up, and was never read; another one was answered, and only its farewell is unread.
    assert_eq!(served(101, "close_wait"), ["app.hung @ netns:server: nginx (pid 7)"]);
    assert_eq!(served(1, "close_wait"), Vec::<String>::new());
    assert_eq!(served(0, "established"), Vec::<String>::new());
}

#[test]
fn scattered_loss_beyond_is_a_note_and_a_lossy_next_hop_is_trouble() {
    let world = |hosts: u8, repeats: u64, sent: u64| {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            if let Reading::Present(routes) = &mut s.routes {
                routes.push(route("0.0.0.0/0", "unicast", Some("10.0.0.254"), Some(2)));
            }
        });
        for host in 1..=hosts {
            let talk = world.talk(SERVER, &format!("192.0.2.{host}:443"));
            (talk.attempts, talk.established, talk.data_repeats) = (1, 1, repeats);
            talk.closed.data_segments = sent;
        }
        world
    };
    let report = world(3, 2, 1000).report();
    assert_eq!((report.verdict, report.flows.len()), (Verdict::Clear, 0));
    let note = report.notes.iter().find(|note| note.subject == "eth0 via 10.0.0.254").unwrap();
    assert!(note.text.en.starts_with("6 of 3000 segments"), "{}", note.text.en);
    // Two of a hundred may be an accident for one; for all together they are none.
    assert_eq!(world(1, 2, 100).report().verdict, Verdict::Clear);
    assert_eq!(world(20, 2, 100).report().findings.first().unwrap().cause, "path.remote_loss");
}

/// The client's calls that failed inside, so many of them, where a route refuses the server's network.
fn refused_inside(n: u64, call: &str, protocol: u8, error: &str) -> World {
    let mut world = World::pair();
    world.both(CLIENT, |s| {
        if let Reading::Present(routes) = &mut s.routes {
            routes.push(route("10.0.0.2/32", "blackhole", None, None));
        }
    });
    let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
    log.calls = Reading::Present(vec![FailedCall {
        netns_inode: 4001,
        owner: SocketOwner { pid: Some(7), comm: Some("curl".into()), cgroup: None },
        call: call.into(),
        error: error.into(),
        protocol: Some(protocol),
        remote: "10.0.0.2:80".parse().ok(),
        count: n,
        last_ns: 1,
    }]);
    world
}

#[test]
fn a_call_that_fails_inside_is_an_attempt_and_costs_no_packet() {
    for (call, protocol) in [("connect", 6), ("sendto", UDP)] {
        let world = refused_inside(5, call, protocol, "EINVAL");
        assert_eq!(world.found(), ["route.blackhole @ netns:client: blackhole 10.0.0.2/32"], "{call}");
        let report = world.report();
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (0, 0));
        assert_eq!(report.flows.first().map(|flow| (flow.attempts, flow.succeeded)), Some((5, 0)));
    }
}

#[test]
fn two_failed_calls_and_those_that_only_sort_addresses_are_nobodys_trouble() {
    assert_eq!(refused_inside(2, "connect", 6, "EINVAL").report().verdict, Verdict::Clear);
    // Who sorts addresses goes on to one of the other family.
    let mut sorts = refused_inside(9, "connect", UDP, "ENETUNREACH");
    let talk = sorts.talk(CLIENT, "[fd00::2]:80");
    (talk.attempts, talk.established) = (9, 9);
    assert_eq!(sorts.report().verdict, Verdict::Clear);
    assert_eq!(refused_inside(9, "connect", UDP, "ENETUNREACH").report().verdict, Verdict::Loss);
}

#[test]
fn what_the_tracer_saw_fail_is_not_counted_twice() {
    let mut world = refused_inside(5, "connect", 6, "EHOSTUNREACH");
    let talk = world.talk(CLIENT, "10.0.0.2:80");
    (talk.attempts, talk.failed) = (5, 5);
    talk.errors.insert("EHOSTUNREACH".into(), 5);
    let report = world.report();
    assert_eq!(report.flows.iter().map(|flow| flow.attempts).collect::<Vec<_>>(), [5]);
}

/// Two clients of one name that go on side by side: what one reaches is no success of the other.
#[test]
fn another_program_of_the_same_name_reaches_nothing_for_this_one() {
    let world = |own: Option<u32>, other: Option<u32>| {
        let mut world = World::pair();
        world.refuses(CLIENT, SERVER, "10.0.0.2:8081", 20).program(CLIENT, "10.0.0.2:8081", own);
        let talk = world.talk(CLIENT, "10.0.0.9:8081");
        (talk.attempts, talk.established, talk.program) = (20, 20, other);
        world.report().flows.len()
    };
    assert_eq!(world(Some(77), Some(78)), 1);
    assert_eq!(world(Some(77), Some(77)), 0, "it tries one address after the other");
    assert_eq!(world(None, Some(78)), 0, "curl, started again and again");
}

/// One program, two servers: that one answers is no excuse for the other, which offers its service in vain.
#[test]
fn two_servers_of_one_program_are_two() {
    let world = |offered: bool| {
        let mut world = World::bridged();
        world.refuses(CLIENT, SERVER, "10.0.0.2:8081", 13).program(CLIENT, "10.0.0.2:8081", Some(77));
        let talk = world.talk(CLIENT, "10.0.0.3:8081");
        (talk.attempts, talk.established, talk.program) = (31, 31, Some(77));
        if offered {
            world.listens(SERVER, Protocol::Tcp, "0.0.0.0:8081");
        }
        world.report().flows.len()
    };
    assert_eq!(world(true), 1);
    assert_eq!(world(false), 0, "two addresses of one name, tried one after the other");
}

/// Four that were under way when the window began, and whose way was mended meanwhile.
#[test]
fn what_failed_before_the_window_is_no_trouble_now() {
    let world = |attempts: u64| {
        let mut world = World::pair();
        world.listens(SERVER, Protocol::Tcp, "0.0.0.0:80");
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.established, talk.failed, talk.abandoned) = (attempts, 24, 4, 4);
        world.report().verdict
    };
    assert_eq!(world(24), Verdict::Clear);
    assert_eq!(world(28), Verdict::Loss);
}

/// Datagrams of the client's that may not be cut, by an interface that takes 1300 bytes; so many fail, so many leave.
fn too_big_for_the_interface(failed: u64, sent: u64) -> World {
    let mut world = World::pair();
    world.both(CLIENT, |s| {
        let Reading::Present(links) = &mut s.links else { return };
        links.iter_mut().filter(|link| link.index == 2).for_each(|link| link.mtu = 1300);
    });
    world.rises(CLIENT, "Udp.OutDatagrams", sent);
    let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
    log.calls = Reading::Present(vec![FailedCall {
        netns_inode: 4001,
        owner: SocketOwner { pid: Some(7), comm: Some("statsd".into()), cgroup: None },
        call: "sendto".into(),
        error: "EMSGSIZE".into(),
        protocol: Some(UDP),
        remote: "10.0.0.2:8125".parse().ok(),
        count: failed,
        last_ns: 1,
    }]);
    world
}

#[test]
fn datagrams_that_stay_too_big_never_leave_and_who_looks_for_a_size_is_well() {
    let world = too_big_for_the_interface(30, 0);
    let report = world.report();
    let found = report.findings.first().unwrap();
    assert_eq!((found.cause.as_str(), found.target.as_str()), ("mtu.too_small", "netns:client"));
    assert_eq!((report.findings.len(), report.ledger.lost, report.ledger.unexplained), (1, 0, 0));
    assert_eq!(too_big_for_the_interface(2, 0).report().verdict, Verdict::Clear);
    assert_eq!(too_big_for_the_interface(6, 60).report().verdict, Verdict::Clear);
}

/// Of the hundred segments that the server sends to a client who was asked about, its own queue drops so many.
fn dropped_by_its_own_queue(n: usize) -> World {
    let mut world = World::pair();
    world.observation.namespaces[CLIENT].target.role = Role::Target;
    world.observation.namespaces[SERVER].target.role = Role::Surrounding;
    let asks = world.talk(CLIENT, "10.0.0.2:80");
    (asks.attempts, asks.established) = (1, 1);
    let mut told = Conversation::between(
        4002,
        6,
        FlowDirection::In,
        ([10, 0, 0, 2], 80).into(),
        ([10, 0, 0, 1], 0).into(),
    );
    told.established = 1;
    told.closed.data_segments = 100;
    let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
    log.conversations.push(told);
    world.drops(SERVER, "QDISC_DROP", "__dev_queue_xmit", n as u64);
    let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
    let dropped = DropEvent {
        reason: "QDISC_DROP".into(),
        function: "__dev_queue_xmit".into(),
        protocol: Some(6),
        tcp_flags: Some(0x10),
        source: Some(([10, 0, 0, 2], 80).into()),
        destination: Some(([10, 0, 0, 1], 40_000).into()),
        link: Some(2),
        netns_inode: Some(4002),
        ..DropEvent::default()
    };
    log.sampled.extend(std::iter::repeat_n(dropped, n));
    world
}

#[test]
fn segments_that_the_senders_own_queue_dropped_are_repeats_that_nobody_counts() {
    let report = dropped_by_its_own_queue(20).report();
    let flow = report.flows.first().unwrap();
    assert_eq!((flow.target.as_str(), flow.trouble.retransmitted), ("netns:client", 20));
    assert_eq!((report.verdict, report.ledger.lost), (Verdict::Loss, 20));
    // As much as TCP loses where it looks for its rate.
    assert!(dropped_by_its_own_queue(2).report().flows.is_empty());
}

#[test]
fn one_segment_again_and_again_is_trouble_with_somebody_in_view() {
    let world = |to: &str, same: u32| {
        let mut world = World::pair();
        world.talk(CLIENT, to).data_repeats = 4;
        let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
        log.repeats.extend((0..4).map(|n| Repeat {
            realtime_ns: 1,
            netns_inode: 4001,
            direction: FlowDirection::Out,
            kind: RepeatKind::Data,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: to.parse().unwrap(),
            seq: 100 * (n % same),
            end_seq: 100 * (n % same) + 100,
        }));
        world.report().flows.len()
    };
    assert_eq!(world("10.0.0.2:80", 1), 1);
    // Four segments, each once; and a host beyond that went away.
    assert_eq!(world("10.0.0.2:80", 4), 0);
    assert_eq!(world("192.0.2.1:80", 1), 0);
}

#[test]
fn a_burst_that_is_sent_again_is_as_many_segments_as_it_has() {
    let verdict = |bytes: u32| {
        let mut world = World::pair();
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.established, talk.data_repeats) = (1, 1, 10);
        (talk.closed.data_segments, talk.closed.repeated) = (2000, 100);
        let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
        log.repeats.extend((1..=10).map(|n| Repeat {
            realtime_ns: u64::from(n),
            netns_inode: 4001,
            direction: FlowDirection::Out,
            kind: RepeatKind::Data,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: "10.0.0.2:80".parse().unwrap(),
            seq: n << 20,
            end_seq: (n << 20) + bytes,
        }));
        world.report().verdict
    };
    // Ten of 2000, or a hundred.
    assert_eq!((verdict(1448), verdict(14480)), (Verdict::Clear, Verdict::Loss));
}

/// So many datagrams that the client sends to another of the bridge's stations die at the port of the client, in a
/// namespace that nobody asked about.
fn at_the_bridge(n: u16, reason: &str, function: &str, isolated: bool) -> World {
    let mut world = World::bridged();
    for (index, role) in [(CLIENT, Role::Target), (SERVER, Role::Surrounding), (HOST, Role::Surrounding)] {
        world.observation.namespaces[index].target.role = role;
    }
    world.both(HOST, |s| {
        let Reading::Present(links) = &mut s.links else { panic!("links") };
        for port in links.iter_mut().filter(|link| isolated && [11, 12].contains(&link.index)) {
            port.details.insert("isolated".into(), "on".into());
        }
    });
    world.drops(HOST, reason, function, n.into());
    let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
    let count = log.counts.last_mut().unwrap();
    (count.protocol, count.link) = (Some(UDP), Some(11));
    let event = |from: u16| DropEvent {
        reason: reason.into(),
        function: function.into(),
        protocol: Some(UDP),
        source: Some(([10, 0, 0, 1], 40_000 + from).into()),
        destination: Some(([10, 0, 0, 2], 4000).into()),
        link: Some(11),
        netns_inode: Some(4000),
        ..DropEvent::default()
    };
    log.sampled.extend((0..n).map(event));
    world
}

#[test]
fn datagrams_that_a_bridge_on_their_way_discards_are_missed_although_nobody_asked_about_it() {
    let isolated = |n| at_the_bridge(n, "NOT_SPECIFIED", "br_handle_frame_finish", true);
    assert_eq!(isolated(5).found(), ["bridge.port_isolated @ netns:host: p0 and p1"]);
    let mut accident = isolated(2);
    accident.rises(CLIENT, "Udp.InDatagrams", 9);
    assert_eq!(accident.report().verdict, Verdict::Clear);
    // A copy that comes to a port beside the way is nobody's.
    let mut copies = isolated(5);
    let Reading::Present(log) = &mut copies.observation.drops else { panic!("drops") };
    log.sampled.iter_mut().for_each(|event| event.link = Some(13));
    assert_eq!(copies.report().verdict, Verdict::Clear);
}

#[test]
fn datagrams_too_big_for_a_hop_are_missed_unless_their_sender_looks_for_the_size() {
    let sent = |all: u64| {
        let mut world = at_the_bridge(5, "PKT_TOO_BIG", "ip_forward", false);
        world.rises(CLIENT, "Udp.OutDatagrams", all);
        world.report().flows.len()
    };
    assert_eq!((sent(6), sent(60)), (1, 0));
}

/// The SYN to one address of a name is dropped, and the program takes the other one at once.
#[test]
fn nobody_misses_a_syn_for_which_another_address_was_taken_at_once() {
    let world = |again: u64| {
        let mut world = World::pair();
        let talk = world.talk(CLIENT, "10.0.0.2:8080");
        (talk.attempts, talk.failed, talk.abandoned, talk.syn_repeats) = (1, 1, 1, again);
        let other = world.talk(CLIENT, "10.0.0.9:8080");
        (other.attempts, other.established) = (1, 1);
        let rule = rule("drop", RuleVerdict::Drop, Some(0), vec![]);
        world.chain(SERVER, chain("input", Hook::Input, RuleVerdict::Accept, vec![rule]), &[1]);
        world.drops(SERVER, "NETFILTER_DROP", "nf_hook_slow", 1);
        let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
        log.sampled.push(DropEvent {
            reason: "NETFILTER_DROP".into(),
            function: "nf_hook_slow".into(),
            stack: vec!["ip_local_deliver".into()],
            protocol: Some(6),
            tcp_flags: Some(2),
            source: Some(([10, 0, 0, 1], 40_000).into()),
            destination: Some(([10, 0, 0, 2], 8080).into()),
            link: Some(2),
            netns_inode: Some(4002),
            ..DropEvent::default()
        });
        world.report().verdict
    };
    assert_eq!(world(0), Verdict::Clear);
    assert_eq!(world(2), Verdict::Loss, "it waited for over a second");
}

#[test]
fn connections_of_our_own_probe_are_told_as_a_probe() {
    let world = |attempts: u64, comm: &str| {
        let mut world = World::pair();
        let probe = world.probe("http://10.0.0.2/", 1, 1);
        (probe.method, probe.extra.undecided) = ("http".into(), 1);
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.failed, talk.syn_repeats) = (attempts, attempts, 4);
        talk.owner = Some(SocketOwner { pid: Some(7), comm: Some(comm.into()), cgroup: None });
        world.report().flows.len()
    };
    assert_eq!(world(2, "whydrop"), 0);
    assert_eq!(world(3, "whydrop"), 1, "more than the probe made");
    assert_eq!(world(2, "curl"), 1, "a program asks, too");
}

#[test]
fn ports_that_are_told_on_another_connection_are_no_scan() {
    // Twenty data connections in vain, and as many connections to the port that tells of them.
    let transfers = |told: u64| {
        let mut world = World::pair();
        let control = world.talk(CLIENT, "10.0.0.2:21");
        (control.attempts, control.established) = (told, told);
        for port in 50_000..50_020 {
            let talk = world.talk(CLIENT, &format!("10.0.0.2:{port}"));
            (talk.attempts, talk.failed, talk.syn_repeats) = (1, 1, 2);
        }
        world.report().flows.len()
    };
    assert_eq!(transfers(20), 20);
    assert_eq!(transfers(3), 0, "a scan beside a few good connections");
}

#[test]
fn a_request_from_a_low_port_is_no_answer_where_the_other_end_alone_is_a_service() {
    let asked = |listens: bool| {
        let mut world = World::pair();
        if listens {
            world.listens(SERVER, Protocol::Udp, "0.0.0.0:5300");
        }
        world.drops(CLIENT, "NETFILTER_DROP", "nft_do_chain", 4);
        let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
        log.counts.last_mut().unwrap().protocol = Some(UDP);
        let event = DropEvent {
            reason: "NETFILTER_DROP".into(),
            function: "nft_do_chain".into(),
            protocol: Some(UDP),
            source: "10.0.0.1:5000".parse().ok(),
            destination: "10.0.0.2:5300".parse().ok(),
            netns_inode: Some(world.observation.namespaces[CLIENT].target.netns_inode),
            ..DropEvent::default()
        };
        log.sampled.extend(std::iter::repeat_n(event, 4));
        let flows = world.report().flows;
        flows.into_iter().map(|flow| (flow.target, flow.remote)).collect::<Vec<_>>()
    };
    assert_eq!(asked(true), [("netns:client".to_owned(), "10.0.0.2:5300".to_owned())]);
    assert_eq!(asked(false), [("netns:server".to_owned(), "10.0.0.1:5000".to_owned())]);
}
