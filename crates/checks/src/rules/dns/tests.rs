//! Resolvers that are silent, and questions that merely wait a moment.

use crate::testing::*;
use whydrop_model::Reading;
use whydrop_model::snapshot::{Protocol, Snapshot};

/// The server's program asks a resolver from a socket with this cookie.
fn asks(snapshot: &mut Snapshot, cookie: u64) {
    let Reading::Present(sockets) = &mut snapshot.sockets else { panic!("sockets") };
    let mut question = socket(Protocol::Udp, "10.0.0.2:40000");
    (question.state, question.remote) = ("established".into(), "10.0.0.53:53".parse().unwrap());
    (question.cookie, question.send_queue) = (cookie, 0);
    sockets.retain(|socket| socket.protocol != Protocol::Udp);
    sockets.push(question);
}

#[test]
fn a_question_that_waits_for_the_whole_window_tells_of_silence() {
    let mut world = World::pair();
    world.both(SERVER, |s| asks(s, 5));
    assert_eq!(world.found(), ["dns.server_unreachable @ netns:server: 10.0.0.53"]);
}

#[test]
fn questions_that_are_answered_are_innocent() {
    let mut world = World::pair();
    world.both(SERVER, |s| asks(s, 5));
    world.after(SERVER, |s| asks(s, 6));
    world.rises(SERVER, "Udp.InDatagrams", 20);
    assert_eq!(world.found(), Vec::<String>::new());
}

/// Of the questions only the number of drops is known.
#[test]
fn a_resolver_whose_address_nobody_has_is_no_silent_neighbour_beside_itself() {
    let with = |others: &[&str]| {
        let mut world = World::pair();
        world.both(SERVER, |s| asks(s, 5)).rises(SERVER, "Udp.OutDatagrams", 5);
        let silent = ["10.0.0.53"].iter().chain(others).map(|ip| neighbour(ip, None, "failed"));
        let silent: Vec<_> = silent.collect();
        world.after(SERVER, |s| s.neighbours = Reading::Present(silent.clone()));
        world.drops(SERVER, "NEIGH_FAILED", "neigh_invalidate", 5);
        if let Reading::Present(log) = &mut world.observation.drops {
            log.counts.iter_mut().for_each(|count| count.protocol = Some(17));
        }
        world.found()
    };
    assert_eq!(with(&[]), ["dns.server_unreachable @ netns:server: 10.0.0.53"]);
    // Somebody else may have been meant.
    assert!(with(&["10.0.0.9"]).iter().any(|found| found.starts_with("neigh.unresolved")));
}
