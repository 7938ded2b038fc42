//! Two ends that are observed, with a network between them that is not.

use crate::testing::*;
use whydrop_model::flow::{Conversation, FlowDirection, Repeat, RepeatKind};
use whydrop_model::netfilter::{Hook, RuleVerdict};
use whydrop_model::report::Repeats;
use whydrop_model::snapshot::{Protocol, QdiscOptions, TcpInfo};
use whydrop_model::{Direction, DropEvent, Reading, Report, Role, Snapshot};

/// The pair's cable leads to switches that nobody looks at.
fn apart() -> World {
    let mut world = World::pair();
    for index in [CLIENT, SERVER] {
        world.both(index, |s| {
            if let Reading::Present(links) = &mut s.links {
                links.iter_mut().filter(|l| l.index == 2).for_each(|l| l.link_netns_inode = Some(9999));
            }
        });
    }
    world
}

#[test]
fn a_loss_between_two_observed_ends_is_beyond_both() {
    let mut world = apart();
    world.probe("tcp://10.0.0.2:80", 20, 6);
    assert_eq!(world.found(), ["path.remote_loss @ netns:client: path to 10.0.0.2"]);
}

#[test]
fn the_far_end_is_judged_although_the_middle_is_out_of_sight() {
    let mut world = apart();
    world.both(SERVER, |s| {
        if let Reading::Present(routes) = &mut s.routes {
            routes.push(route("10.0.0.1/32", "blackhole", None, None));
        }
    });
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["route.blackhole @ netns:server: blackhole 10.0.0.1/32"]);
}

#[test]
fn a_counter_that_was_read_a_moment_earlier_leaves_nothing_beyond() {
    let lossy = |lost: u64| {
        let mut world = apart();
        let netem = |drops| {
            let options = QdiscOptions::Netem {
                loss: 0.5,
                model: None,
                limit: 1000,
                delay_us: 0,
                jitter_us: 0,
                corrupt: 0.0,
                duplicate: 0.0,
                reorder: 0.0,
                rate: 0,
            };
            qdisc("netem", drops, options)
        };
        world.both(CLIENT, |s| s.qdiscs = Reading::Present(vec![netem(0)]));
        world.after(CLIENT, |s| s.qdiscs = Reading::Present(vec![netem(10)]));
        world.probe("tcp://10.0.0.2:80", 40, lost);
        world.found()
    };
    let netem = "qdisc.netem_loss @ netns:client: eth0 qdisc netem";
    assert_eq!(lossy(12), [netem]);
    assert_eq!(lossy(20), ["path.remote_loss @ netns:client: path to 10.0.0.2", netem]);
}

#[test]
fn what_could_not_be_looked_at_is_not_beyond() {
    let mut world = apart();
    world.both(CLIENT, |s| s.nftables = Reading::Denied("CAP_NET_ADMIN".into()));
    world.probe("tcp://10.0.0.2:80", 20, 6);
    assert_eq!(world.found(), Vec::<String>::new());
    assert_eq!(world.report().ledger.unexplained, 6);
}

#[test]
fn a_service_out_of_sight_that_refuses_is_named_and_one_refusal_is_none() {
    let refused = |n: u64| {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            if let Reading::Present(routes) = &mut s.routes {
                routes.push(route("0.0.0.0/0", "unicast", Some("10.0.0.254"), Some(2)));
            }
        });
        let talk = world.talk(SERVER, "192.0.2.7:443");
        (talk.attempts, talk.failed) = (n, n);
        talk.errors.insert("ECONNREFUSED".into(), n);
        world
    };
    let world = refused(5);
    assert_eq!(world.found(), ["path.remote_refusal @ netns:server: 192.0.2.7:443"]);
    assert_eq!((world.report().ledger.lost, world.report().findings[0].packets_lost), (0, None));
    assert_eq!(refused(1).found(), Vec::<String>::new());

    // A rule on this side refuses before anything leaves.
    let mut world = refused(5);
    let reject = rule("-p tcp -j REJECT", RuleVerdict::Reject, Some(0), vec![]);
    world.chain(SERVER, chain("OUTPUT", Hook::Output, RuleVerdict::Accept, vec![reject]), &[5]);
    assert_eq!(world.found(), ["netfilter.reject_rule @ netns:server: filter OUTPUT, rule 1"]);
}

#[test]
fn a_queue_out_of_sight_that_grows_is_the_paths_capacity_and_scattered_loss_is_not() {
    let sends = |rtt_us: u32, busy_us: u64, window_us: u64| {
        let mut world = apart();
        let connection = |at: u64| {
            let mut one = socket(Protocol::Tcp, "10.0.0.2:80");
            (one.state, one.remote, one.cookie) =
                ("established".into(), "10.0.0.1:40000".parse().unwrap(), 4);
            one.tcp = Some(TcpInfo {
                rtt_us,
                min_rtt_us: Some(10_000),
                busy_us: Some(busy_us * at),
                rwnd_limited_us: Some(window_us * at),
                sndbuf_limited_us: Some(0),
                bytes_acked: Some(3_000_000 * at),
                data_segs_out: Some(2000 * at as u32),
                ..TcpInfo::default()
            });
            one
        };
        for (at, before) in [(0, true), (1, false)] {
            let put = |s: &mut Snapshot| {
                let Reading::Present(sockets) = &mut s.sockets else { return };
                sockets.retain(|socket| socket.cookie != 4);
                sockets.push(connection(at));
            };
            if before {
                world.both(SERVER, put)
            } else {
                world.after(SERVER, put)
            };
        }
        let inode = world.observation.namespaces[SERVER].target.netns_inode;
        let ends = ("10.0.0.2:80".parse().unwrap(), "10.0.0.1:0".parse().unwrap());
        let mut talk = Conversation::between(inode, 6, FlowDirection::In, ends.0, ends.1);
        (talk.data_repeats, talk.last_ns) = (90, 3_000_000_000);
        let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
        log.conversations.push(talk);
        world.observation.namespaces.remove(CLIENT);
        world.found()
    };
    assert_eq!(sends(90_000, 2_900_000, 0), ["path.capacity @ netns:server: path to 10.0.0.1"]);
    let scattered = ["path.remote_loss @ netns:server: path to 10.0.0.1"];
    // No queue stands; it seldom sends; it waits for its reader.
    assert_eq!(sends(12_000, 2_900_000, 0), scattered);
    assert_eq!(sends(90_000, 300_000, 0), scattered);
    assert_eq!(sends(90_000, 2_900_000, 2_000_000), scattered);
}

#[test]
fn what_was_sent_again_is_lost_here_or_beyond_and_the_direction_is_told() {
    let sent_again = |here: u64, needless: u64| {
        let mut world = apart();
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.established, talk.data_repeats) = (1, 1, 6);
        (talk.closed.data_segments, talk.closed.needless) = (100, needless);
        let (local, remote) = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let repeats = (1..=6).map(|n| Repeat {
            realtime_ns: u64::from(n) * 1_000_000,
            netns_inode: 4001,
            direction: FlowDirection::Out,
            kind: RepeatKind::Data,
            local,
            remote,
            seq: n * 1000,
            end_seq: n * 1000 + 1000,
        });
        let repeats = repeats.collect();
        let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
        log.repeats = repeats;
        if here > 0 {
            world.drops(CLIENT, "NETFILTER_DROP", "nft_do_chain", here);
        }
        let Reading::Present(drops) = &mut world.observation.drops else { panic!("drops") };
        drops.sampled.extend((1..=here).map(|n| DropEvent {
            realtime_ns: n * 1_000_000 - 200_000,
            reason: "NETFILTER_DROP".into(),
            function: "nft_do_chain".into(),
            netns_inode: Some(4001),
            protocol: Some(6),
            source: Some(local),
            destination: Some(remote),
            tcp_seq: u32::try_from(n * 1000).ok(),
            length: 1052,
            ..DropEvent::default()
        }));
        world.report()
    };
    let account = |report: &Report| report.flows.first().unwrap().repeats.clone().unwrap();
    let parts = |account: &Repeats| (account.here, account.beyond, account.needless);
    let all_beyond = sent_again(0, 0);
    assert_eq!(parts(&account(&all_beyond)), (0, 6, 0));
    let finding = all_beyond.findings.first().unwrap();
    assert_eq!((finding.cause.as_str(), finding.direction), ("path.remote_loss", Some(Direction::Transmit)));
    let partly = account(&sent_again(2, 0));
    assert_eq!((parts(&partly), partly.unmatched.total()), ((2, 4, 0), 0));
    // The other end had them: their acknowledgements were lost.
    let answers = account(&sent_again(3, 3));
    assert_eq!((parts(&answers), answers.direction), ((3, 0, 3), Some(Direction::Receive)));
}

#[test]
fn answers_that_are_lost_out_of_sight_are_told_by_tails_that_were_there_already() {
    // Tails that were sent again, of them needless; segments that came out of order; the end that is asked is in view.
    let asks = |tails: u64, needless: u32, gaps: u32, in_view: bool| {
        let mut world = if in_view { World::pair() } else { apart() };
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        talk.tail_probes = tails;
        let connection = |at: u32| {
            let mut one = socket(Protocol::Tcp, "10.0.0.1:40000");
            (one.state, one.remote, one.cookie) = ("established".into(), "10.0.0.2:80".parse().unwrap(), 4);
            one.tcp = Some(TcpInfo {
                data_segs_out: Some(60 * at),
                data_segs_in: Some(300 * at),
                rcv_ooopack: Some(gaps * at),
                dsack_dups: Some(needless * at),
                ..TcpInfo::default()
            });
            one
        };
        for (at, index) in [(0, true), (1, false)] {
            let put = |s: &mut Snapshot| {
                let Reading::Present(sockets) = &mut s.sockets else { return };
                sockets.retain(|socket| socket.cookie != 4);
                sockets.push(connection(at));
            };
            if index {
                world.both(CLIENT, put)
            } else {
                world.after(CLIENT, put)
            };
        }
        let repeat = |n: u32| Repeat {
            realtime_ns: u64::from(n) * 1_000_000,
            netns_inode: 4001,
            direction: FlowDirection::Out,
            kind: RepeatKind::Tail,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: "10.0.0.2:80".parse().unwrap(),
            seq: n * 1000,
            end_seq: n * 1000 + 300,
        };
        let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
        log.repeats = (1..=u32::try_from(tails).unwrap()).map(repeat).collect();
        world.observation.namespaces[CLIENT].target.role = Role::Target;
        if !in_view {
            world.observation.namespaces.remove(SERVER);
        }
        world.report()
    };
    let told = |report: &Report| report.findings.first().map(|f| (f.cause.clone(), f.direction));
    let back = Some(("path.remote_loss".to_owned(), Some(Direction::Receive)));
    assert_eq!(told(&asks(4, 4, 0, false)), back, "many tails");
    assert_eq!(told(&asks(1, 1, 11, false)), back, "one, and holes in what comes");
    assert_eq!(told(&asks(4, 0, 0, false)).unwrap().1, Some(Direction::Transmit), "they never arrived");
    assert_eq!(told(&asks(1, 1, 0, false)), None, "one is an accident");
    assert_eq!(told(&asks(0, 0, 90, false)), None, "overtaken on the way");
    assert_eq!(told(&asks(4, 4, 0, true)), None, "what the other end does is in view");
}
