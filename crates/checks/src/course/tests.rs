//! What the way says of what stands on it beside rules and routes.

use super::*;
use crate::testing::*;
use whydrop_model::Reading;
use whydrop_model::snapshot::{QdiscOptions, TcAction, TcFilter, Xfrm, XfrmPolicy, XfrmState, XfrmTemplate};

/// A client and a server whose reverse path filters are off.
fn pair() -> World {
    let mut world = World::pair();
    for index in [CLIENT, SERVER] {
        world.both(index, |s| {
            for name in ["all", "eth0"] {
                s.sysctls.insert(format!("net.ipv4.conf.{name}.rp_filter"), Reading::Present("0".to_owned()));
            }
        });
    }
    world
}

/// The way of a connection of the client to the server.
fn asked(world: &World) -> Course {
    let address: IpAddr = "10.0.0.2".parse().unwrap();
    let question = Question { url: "tcp://10.0.0.2:80".into(), protocol: TCP, address, port: Some(80) };
    course(&world.observation, "netns:client", &question).unwrap()
}

/// End, target and the texts of one stage.
fn told(world: &World, stage: &str) -> (CourseEnd, String, Vec<String>) {
    let course = asked(world);
    let steps = course.request.iter().chain(&course.answer).filter(|step| step.stage == stage);
    (course.end, course.target.clone(), steps.map(|step| step.text.en.clone()).collect())
}

fn filter(kind: &str, protocol: Option<u16>, action: (&str, &str)) -> TcFilter {
    let action = TcAction {
        kind: action.0.into(),
        verdict: Some(action.1.into()),
        stats: None,
        target: (action.0 == "mirred").then_some(9),
    };
    TcFilter {
        link: 2,
        parent: 0xffff_fff2,
        kind: kind.into(),
        preference: 10,
        protocol,
        handle: 1,
        program: (kind == "bpf").then(|| "judge".into()),
        actions: vec![action],
    }
}

fn filtered(filters: Vec<TcFilter>) -> CourseEnd {
    let mut world = pair();
    world.both(SERVER, |s| s.filters = Reading::Present(filters.clone()));
    asked(&world).end
}

#[test]
fn a_filter_that_drops_all_ends_the_way_and_one_of_another_protocol_does_not() {
    let drop = ("gact", "drop");
    assert_eq!(filtered(vec![]), CourseEnd::Arrives);
    assert_eq!(filtered(vec![filter("matchall", Some(3), drop)]), CourseEnd::Dropped);
    assert_eq!(filtered(vec![filter("matchall", Some(0x0800), drop)]), CourseEnd::Dropped);
    assert_eq!(filtered(vec![filter("matchall", Some(0x86dd), drop)]), CourseEnd::Arrives);
    // What it looks for cannot be told, nor what a program does.
    assert_eq!(filtered(vec![filter("flower", Some(3), drop)]), CourseEnd::Unclear);
    assert_eq!(filtered(vec![filter("matchall", None, drop)]), CourseEnd::Unclear);
    assert_eq!(filtered(vec![filter("bpf", Some(3), ("direct-action", "unspec"))]), CourseEnd::Unclear);
    assert_eq!(
        filtered(vec![filter("matchall", Some(3), ("mirred", "redirect egress"))]),
        CourseEnd::Unclear
    );
    // Whoever lets everything pass is the last one to be asked.
    let first = TcFilter { preference: 1, ..filter("matchall", Some(3), ("gact", "ok")) };
    assert_eq!(filtered(vec![filter("matchall", Some(3), drop), first]), CourseEnd::Arrives);
}

#[test]
fn filters_that_could_not_be_read_leave_it_open() {
    let mut world = pair();
    world.both(SERVER, |s| s.filters = Reading::Failed("busy".into()));
    let (end, _, said) = told(&world, "tc.ingress");
    assert_eq!(end, CourseEnd::Unclear);
    assert_eq!(said, ["the tc filters of eth0 could not be read"]);
}

#[test]
fn the_reverse_path_filter_is_asked_where_the_way_back_is_another_one() {
    let with = |setting: &'static str, back: Option<u32>| {
        let mut world = pair();
        world.both(SERVER, |s| {
            s.sysctls.insert("net.ipv4.conf.eth0.rp_filter".to_owned(), Reading::Present(setting.to_owned()));
            if let (Some(link), Reading::Present(links), Reading::Present(routes)) =
                (back, &mut s.links, &mut s.routes)
            {
                links.push(veth(link, "eth9", 0));
                routes.push(route("10.0.0.1/32", "unicast", None, Some(link)));
            }
        });
        told(&world, "route.input")
    };
    let discards = "rp_filter of eth0 discards: the way back to 10.0.0.1 is another one".to_owned();
    let (end, target, said) = with("1", Some(9));
    assert_eq!((end, target.as_str()), (CourseEnd::Dropped, "netns:server"));
    assert!(said.contains(&discards), "{said:?}");
    let (end, _, said) = with("1", None);
    assert_eq!(end, CourseEnd::Arrives);
    assert!(said.contains(&"rp_filter of eth0: 10.0.0.1 may come by it".to_owned()), "{said:?}");
    for loose in ["0", "2"] {
        assert!(!with(loose, Some(9)).2.contains(&discards));
    }
}

fn policy(direction: &str, block: bool, protected: bool) -> XfrmPolicy {
    let template = XfrmTemplate {
        source: "10.0.0.1".parse().unwrap(),
        destination: "10.0.0.2".parse().unwrap(),
        protocol: "esp".into(),
        mode: "transport".into(),
        spi: 0,
        reqid: 0,
        optional: false,
    };
    let templates = protected.then_some(template).into_iter().collect();
    XfrmPolicy { block, templates, ..xfrm_policy(direction, ("0.0.0.0", 0), ("0.0.0.0", 0)) }
}

#[test]
fn ipsec_policies_block_want_and_protect() {
    let end = |index: usize, policies: Vec<XfrmPolicy>, states: Vec<XfrmState>| {
        let mut world = pair();
        let xfrm = Xfrm { policies, states };
        world.both(index, |s| s.xfrm = Reading::Present(xfrm.clone()));
        told(&world, "xfrm")
    };
    let (out, target, said) = end(CLIENT, vec![policy("out", true, false)], vec![]);
    assert_eq!((out, target.as_str()), (CourseEnd::Dropped, "netns:client"));
    assert_eq!(said, ["IPsec policy src 0.0.0.0/0 dst 0.0.0.0/0 dir out: blocks"]);
    assert_eq!(end(SERVER, vec![policy("in", true, false)], vec![]).0, CourseEnd::Dropped);
    assert_eq!(end(SERVER, vec![policy("fwd", true, false)], vec![]).0, CourseEnd::Arrives);
    // It comes in the clear, and there is no state to protect it with.
    assert_eq!(end(SERVER, vec![policy("in", false, true)], vec![]).0, CourseEnd::Dropped);
    assert_eq!(end(CLIENT, vec![policy("out", false, true)], vec![]).0, CourseEnd::Dropped);
    let (clear, _, said) = end(CLIENT, vec![policy("out", false, false)], vec![]);
    assert_eq!(clear, CourseEnd::Arrives);
    assert_eq!(said, ["IPsec policy src 0.0.0.0/0 dst 0.0.0.0/0 dir out: lets pass"]);
}

#[test]
fn sizes_and_queues_are_said() {
    let mut world = pair();
    let (end, _, said) = told(&world, "ip.transmit");
    assert_eq!(end, CourseEnd::Arrives);
    assert_eq!(said, ["eth0 carries packets of up to 1500 bytes"; 2]);
    world.both(SERVER, |s| {
        let Reading::Present(links) = &mut s.links else { return };
        links.iter_mut().filter(|link| link.index == 2).for_each(|link| link.mtu = 1400);
    });
    let (end, _, said) = told(&world, "ip.transmit");
    assert_eq!(end, CourseEnd::Unclear);
    assert!(said[0].contains("and its other end takes 1400"), "{said:?}");

    let mut world = pair();
    world.both(CLIENT, |s| s.qdiscs = Reading::Present(vec![qdisc("blackhole", 0, QdiscOptions::Other)]));
    assert_eq!(asked(&world).end, CourseEnd::Dropped);
}
