//! What the parsers make of a real kernel. The first tests run anywhere; the others need root and qdiscs, filters and
//! devices that not every kernel has: `cargo xtask vm` runs them on Debian's kernels.

use crate::collect::{self, Context};
use crate::sys::netns::Netns;
use crate::sys::{file, netlink::Netlink};
use std::process::Command;
use whydrop_model::Reading;
use whydrop_model::snapshot::{Link, QdiscOptions, Snapshot};

/// A namespace of its own, filled by the lines of `script` (words of a command each), and read.
fn read_after(script: &str) -> Snapshot {
    let namespace = Netns::unshare().unwrap();
    namespace
        .run(|| {
            for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let mut words = line.split_ascii_whitespace();
                let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
                assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            }
        })
        .unwrap();
    match collect::snapshot(&namespace, &Context::read(&[&namespace])) {
        Reading::Present(snapshot) => snapshot,
        other => panic!("{other:?}"),
    }
}

/// Options of the root qdisc after `tc qdisc add … WORDS`.
fn qdisc(words: &str) -> QdiscOptions {
    let snapshot = read_after(&format!(
        "ip link add wd0 type veth peer name wd1
         tc qdisc add dev wd0 root {words}"
    ));
    let index = snapshot.link_named("wd0").unwrap().index;
    let qdiscs = snapshot.qdiscs.get().unwrap();
    qdiscs.iter().find(|q| q.link == index && q.parent == u32::MAX).unwrap().options.clone()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn needs_no_privilege_in_its_own_namespace() {
    let here = Netns::current().unwrap();
    let Reading::Present(snapshot) = collect::snapshot(&here, &Context::read(&[])) else { panic!("unread") };
    assert!(snapshot.links.get().unwrap().iter().any(|l| l.loopback && l.name == "lo"));
    assert!(snapshot.addresses.is_present() && snapshot.routes.is_present() && snapshot.qdiscs.is_present());
    assert!(
        snapshot.neighbours.is_present() && snapshot.classes.is_present() && snapshot.filters.is_present()
    );
    assert!(snapshot.mib.get().unwrap().contains_key("TcpExt.ListenDrops"));
    assert!(snapshot.sockets.is_present() && snapshot.sockstat.is_present() && snapshot.ethtool.is_present());
    assert!(snapshot.raw_sockets.is_present() && snapshot.processes.is_present());
    assert!(snapshot.fdb.is_present() && snapshot.mdb.is_present() && snapshot.bridge_vlans.is_present());
    assert!(snapshot.groups.is_present() && snapshot.group_sources.is_present());
    let machine = collect::machine();
    assert!(machine.softnet.is_present() && machine.softirqs.is_present() && machine.cpu_times.is_present());
}

#[test]
fn settings_in_the_link_dump_are_those_of_the_files() {
    let links = super::link::read(&mut Netlink::route().unwrap()).unwrap();
    for entry in links.iter().filter(|entry| entry.link.loopback) {
        for (name, reading) in &entry.settings {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            match (reading, file::read(&path)) {
                (Reading::Present(value), Ok(text)) => assert_eq!(value, text.trim(), "{name}"),
                (Reading::Absent(_), Err(error)) => assert!(error.is_absent(), "{name}: {error}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_listener_is_found_with_its_owner() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let here = Netns::current().unwrap();
    let Reading::Present(snapshot) = collect::snapshot(&here, &Context::read(&[])) else { panic!("unread") };
    let sockets = snapshot.sockets.get().unwrap();
    let socket = sockets.iter().find(|s| s.local == address && s.state == "listen").unwrap();
    assert_eq!(socket.owners.first().unwrap().pid, std::process::id());
    assert_eq!((socket.receive_queue, socket.drops), (0, Some(0)));
    assert!(socket.send_queue > 0, "the limit of its accept queue");
}

#[test]
#[ignore = "needs root and the netem, tbf, htb and fq_codel qdiscs"]
fn options_of_qdiscs() {
    let QdiscOptions::Netem { loss, model, limit, delay_us, jitter_us, corrupt, duplicate, reorder, rate } =
        qdisc("netem limit 77 loss 30% delay 50ms 10ms corrupt 2% duplicate 1% reorder 25% rate 1mbit")
    else {
        panic!("no netem")
    };
    assert!(near(loss, 0.3) && near(corrupt, 0.02) && near(duplicate, 0.01) && near(reorder, 0.25));
    assert_eq!((model, limit, delay_us, jitter_us, rate), (None, 77, 50_000, 10_000, 125_000));
    for (words, name, expected) in [
        ("netem loss gemodel 10% 90%", "gemodel", 0.1),
        ("netem loss state 10%", "state", 0.1),
        ("netem loss gemodel 1% 4% 50% 1%", "gemodel", (0.04 * 0.01 + 0.01 * 0.5) / 0.05),
    ] {
        let QdiscOptions::Netem { loss, model, .. } = qdisc(words) else { panic!("no netem") };
        assert!(model.as_deref() == Some(name) && near(loss, expected), "{words}: {model:?} {loss}");
    }
    assert!(matches!(
        qdisc("netem delay 200s"),
        QdiscOptions::Netem { delay_us: 200_000_000, loss: 0.0, .. }
    ));
    assert_eq!(
        qdisc("tbf rate 1mbit burst 10k limit 20k"),
        QdiscOptions::Tbf { rate: 125_000, burst: 10240, limit: 20480 }
    );
    assert_eq!(qdisc("htb default 30"), QdiscOptions::Htb { default: 0x30, direct_packets: 0 });
    assert_eq!(
        qdisc("fq_codel limit 100 target 7ms"),
        QdiscOptions::FqCodel { limit: 100, target_us: 6999, drop_overlimit: 0 }
    );
    assert_eq!(qdisc("pfifo limit 9"), QdiscOptions::Fifo { limit: 9 });
    assert_eq!(qdisc("bfifo limit 9000"), QdiscOptions::Fifo { limit: 9000 });
}

#[test]
#[ignore = "needs root, htb, clsact and the matchall, gact, police and mirred filters and actions"]
fn classes_and_filters() {
    let snapshot = read_after(
        "ip link add wd0 type veth peer name wd1
         tc qdisc add dev wd0 root handle 1: htb default 10
         tc class add dev wd0 parent 1: classid 1:10 htb rate 1mbit ceil 40gbit
         tc filter add dev wd0 parent 1: protocol ip prio 5 u32 match ip dport 9 0xffff action drop
         tc qdisc add dev wd0 clsact
         tc filter add dev wd0 ingress prio 1 matchall action police rate 1mbit burst 10k conform-exceed drop
         tc filter add dev wd0 egress prio 2 matchall action ok random netrand drop 10
         tc filter add dev wd0 egress prio 3 matchall action mirred egress redirect dev wd1",
    );
    let class = snapshot.classes.get().unwrap().first().unwrap().clone();
    assert_eq!((class.handle, class.rate, class.ceil), (0x1_0010, Some(125_000), Some(5_000_000_000)));
    let filters: Vec<_> = snapshot
        .filters
        .iter()
        .map(|f| {
            let action = f.actions.first().unwrap();
            assert!(action.stats.is_some());
            (
                f.parent,
                f.preference,
                f.kind.as_str(),
                action.kind.as_str(),
                action.verdict.as_deref().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        filters,
        [
            (0x1_0000, 5, "u32", "gact", "drop"),
            (0xffff_fff2, 1, "matchall", "police", "drop"),
            (0xffff_fff3, 2, "matchall", "gact", "drop 1/10 random, else ok"),
            (0xffff_fff3, 3, "matchall", "mirred", "redirect to egress"),
        ]
    );
}

#[test]
#[ignore = "needs root and vlan, vxlan, macvlan, ipvlan, bridge and bond devices"]
fn details_of_links() {
    let snapshot = read_after(
        "ip link add wd0 type veth peer name wd1
         ip link add wd0.5 link wd0 type vlan id 5
         ip link add wdx type vxlan id 42 remote 192.0.2.1 dstport 4789
         ip link add wdm link wd0 type macvlan mode private
         ip link add wdi link wd1 type ipvlan mode l3
         ip link add wdo type bond mode active-backup
         ip link add wdb type bridge vlan_filtering 1
         ip link add wdp type veth peer name wdq
         ip link set wdp master wdb
         ip link set wdp type bridge_slave isolated on
         ip link set wd0 up mtu 1000",
    );
    let detail = |name: &str, key: &str| {
        let link: &Link = snapshot.link_named(name).unwrap();
        link.details.get(key).cloned().unwrap_or_else(|| panic!("{name} has no {key}: {link:?}"))
    };
    for (name, key, value) in [
        ("wd0.5", "vlan_id", "5"),
        ("wd0.5", "vlan_protocol", "802.1Q"),
        ("wdx", "vni", "42"),
        ("wdx", "remote", "192.0.2.1"),
        ("wdx", "port", "4789"),
        ("wdm", "mode", "private"),
        ("wdi", "mode", "l3"),
        ("wdo", "mode", "active-backup"),
        ("wdb", "vlan_filtering", "on"),
        ("wdp", "isolated", "on"),
        ("wdp", "port_state", "disabled"),
    ] {
        assert_eq!(detail(name, key), value, "{name} {key}");
    }
    assert_eq!(snapshot.link_named("wdp").unwrap().master, snapshot.link_named("wdb").map(|l| l.index));
    assert!(matches!(snapshot.sysctls.get("net.ipv6.conf.wd0.disable_ipv6"), Some(Reading::Absent(_))));
}

#[test]
#[ignore = "needs root"]
fn the_other_end_of_a_veth_is_found() {
    let (one, other) = (Netns::unshare().unwrap(), Netns::unshare().unwrap());
    crate::build::Wiring::of(&one).unwrap().veth("wd0", "wd1", &other).unwrap();
    let both = [&one, &other];
    let snapshots = collect::snapshots(&both, &Context::read(&both));
    let link = snapshots.first().and_then(Reading::get).unwrap().link_named("wd0").unwrap();
    assert_eq!(link.link_netns_inode, Some(other.inode()));
    let alone = collect::snapshot(&one, &Context::read(&[&one]));
    assert_eq!(alone.get().unwrap().link_named("wd0").unwrap().link_netns_inode, None, "unknown there");
}

#[test]
fn a_connection_tells_what_it_waits_for_and_its_process_is_looked_at() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let here = Netns::current().unwrap();
    let context = Context::read(&[]).at_end(&[]);
    let Reading::Present(snapshot) = collect::snapshot(&here, &context) else { panic!("unread") };
    let sockets = snapshot.sockets.get().unwrap();
    let socket = sockets.iter().find(|s| s.local == client.local_addr().unwrap()).unwrap();
    let info = socket.tcp.as_ref().unwrap();
    assert_eq!((info.unacked, info.total_retrans, info.segs_out), (0, 0, Some(2)));
    assert!(info.snd_wnd > Some(0) && info.pmtu > 0);
    let listening = sockets.iter().find(|s| s.local == listener.local_addr().unwrap() && s.state == "listen");
    assert_eq!(listening.unwrap().tcp, None, "its fields mean something else there");
    let processes = snapshot.processes.get().unwrap();
    let own = processes.list.iter().find(|p| p.pid == std::process::id()).unwrap();
    let descriptors = own.descriptors.get().unwrap();
    assert!(descriptors.open > 3 && descriptors.limit.is_none_or(|limit| limit >= descriptors.open));
    assert!(own.threads >= 1 && own.started > 0);
    for cgroup in snapshot.cgroups_of(own) {
        assert!(cgroup.id.is_some() && cgroup.path.starts_with('/'), "{cgroup:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_raw_socket_that_is_not_read_counts_its_drops() {
    let namespace = Netns::unshare().unwrap();
    let kind = socket2::Type::RAW;
    let socket = namespace.run(|| {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        let raw = socket2::Socket::new(socket2::Domain::IPV4, kind, Some(socket2::Protocol::ICMPV4)).unwrap();
        raw.set_recv_buffer_size(2048).unwrap();
        let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let echo = [8, 0, 0xf7, 0xfe, 0, 1, 0, 0];
        for _ in 0..50 {
            raw.send_to(&echo, &local.into()).unwrap();
        }
        raw
    });
    let snapshot = collect::snapshot(&namespace, &Context::read(&[&namespace]));
    let sockets = snapshot.get().unwrap().raw_sockets.get().unwrap();
    let [raw] = sockets.as_slice() else { panic!("{sockets:?}") };
    assert_eq!(raw.protocol, whydrop_model::snapshot::Protocol::Raw(1));
    assert!(raw.drops > Some(50) && raw.receive_queue > 0, "{raw:?}");
    assert_eq!(raw.owners.first().unwrap().pid, std::process::id());
    drop(socket);
}

#[test]
#[ignore = "needs root and bridge devices"]
fn what_a_bridge_knows() {
    let snapshot = read_after(
        "ip link add wdb type bridge mcast_querier 1
         ip link add wdp type veth peer name wdq
         ip link set wdp master wdb
         ip link set wdb up
         ip link set wdp up
         ip link set wdq up
         bridge fdb add 02:00:00:00:00:aa dev wdp master static
         bridge mdb add dev wdb port wdp grp 239.255.0.1 permanent
         ip addr add 10.0.0.1/24 dev wdq
         ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev wdq extern_learn",
    );
    let index = |name: &str| snapshot.link_named(name).unwrap().index;
    // Where the kernel knows VLANs it adds one entry more for each VLAN of the port (br_fdb_add).
    let entry = snapshot.fdb.kept().find(|e| e.mac == "02:00:00:00:00:aa" && e.vlan.is_none()).unwrap();
    assert_eq!((entry.link, entry.master), (index("wdp"), Some(index("wdb"))));
    assert_eq!(entry.state, "static");
    let own = snapshot.link_named("wdp").unwrap().mac.clone().unwrap();
    assert!(snapshot.fdb.kept().any(|e| e.mac == own && e.state == "permanent"));
    let group = snapshot.mdb.kept().find(|e| e.permanent).unwrap();
    assert_eq!((group.bridge, group.port, group.vlan), (index("wdb"), index("wdp"), None));
    assert_eq!(group.group.unwrap().to_string(), "239.255.0.1");
    assert!(snapshot.groups.get().unwrap().iter().any(|g| g.link == index("wdq")));
    let neighbour = snapshot.neighbours.iter().find(|n| n.ip.to_string() == "10.0.0.9").unwrap();
    assert!(neighbour.flags.iter().any(|f| f == "extern_learn") && neighbour.updated_ms.is_some());
    let bridge = &snapshot.link_named("wdb").unwrap().details;
    assert_eq!(bridge.get("mcast_querier").map(String::as_str), Some("on"));
    assert_eq!(bridge.get("mcast_snooping").map(String::as_str), Some("on"));
}

#[test]
#[ignore = "needs root and bridges that filter VLANs"]
fn vlans_of_a_bridge() {
    let snapshot = read_after(
        "ip link add wdb type bridge vlan_filtering 1
         ip link add wdp type veth peer name wdq
         ip link set wdp master wdb
         bridge vlan add dev wdp vid 10-20",
    );
    let index = |name: &str| snapshot.link_named(name).unwrap().index;
    let vlans = snapshot.bridge_vlans.get().unwrap();
    assert!(vlans.iter().any(|v| v.link == index("wdp") && (v.first, v.last) == (10, 20)), "{vlans:?}");
    assert!(vlans.iter().any(|v| v.link == index("wdb") && v.pvid && v.untagged), "{vlans:?}");
}

#[test]
#[ignore = "needs root and connection tracking"]
fn an_entry_that_nobody_answered() {
    let namespace = Netns::unshare().unwrap();
    namespace
        .run(|| {
            for line in [
                "ip link set lo up",
                "ip route add blackhole 192.0.2.0/24",
                "iptables -w -A INPUT -m conntrack --ctstate INVALID -j DROP",
                "iptables -w -A INPUT -p udp --dport 9 -j DROP",
            ] {
                let mut words = line.split(' ');
                assert!(
                    Command::new(words.next().unwrap()).args(words).status().unwrap().success(),
                    "{line}"
                );
            }
            // Dropped in INPUT before the entry is confirmed; this one is accepted and refused.
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            udp.send_to(b"x", "127.0.0.1:10").unwrap();
        })
        .unwrap();
    let context = Context::read(&[&namespace]);
    let before = collect::snapshot(&namespace, &context);
    assert!(matches!(before.get().unwrap().conntrack_entries, Reading::Absent(_)), "not asked for yet");
    let after = collect::snapshot(&namespace, &context.at_end(&[]));
    let snapshot = after.get().unwrap();
    let entry = snapshot.conntrack_entries.kept().find(|e| e.original.destination_port == 10).unwrap();
    assert_eq!(
        (entry.original.protocol, entry.original, entry.is("seen_reply")),
        (17, entry.reply.reversed(), false)
    );
    assert!(entry.timeout_s > Some(0));
}

#[test]
#[ignore = "needs root"]
fn a_carrier_that_went_and_came_back() {
    let namespace = Netns::unshare().unwrap();
    let mut watches = collect::link_watches(&[&namespace]);
    let run = |line: &str| {
        let status = namespace.run(|| Command::new("ip").args(line.split(' ')).status().unwrap()).unwrap();
        assert!(status.success(), "{line}");
    };
    for line in [
        "link add wd0 type veth peer name wd1",
        "link set wd0 up",
        "link set wd1 up",
        "link set wd1 down",
        "link set wd1 up",
    ] {
        run(line);
    }
    let Some(Reading::Present(mut watch)) = watches.pop() else { panic!("deaf") };
    watch.listen();
    let events = watch.end();
    let carrier: Vec<bool> =
        events.items.iter().filter(|e| e.name == "wd0" && e.up).map(|e| e.lower_up).collect();
    let mut changes = carrier.clone();
    changes.dedup();
    assert_eq!(changes, [false, true, false, true], "{events:?}");
    assert!(!events.more);
}
