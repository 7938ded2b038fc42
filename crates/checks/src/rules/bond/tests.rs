//! Bonds whose members fail.

use crate::testing::*;
use whydrop_model::{Reading, Snapshot};

/// The client's address is on a bond (index 9) of eth0 and eth1, both joined with the server; the members are changed.
fn bonded(mode: &str, change: impl Fn(&mut whydrop_model::snapshot::Link)) -> World {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        let Reading::Present(links) = &mut s.links else { panic!("links") };
        links.push(veth(3, "eth1", 4001));
    });
    world.both(CLIENT, |s: &mut Snapshot| {
        let (Reading::Present(links), Reading::Present(addresses), Reading::Present(routes)) =
            (&mut s.links, &mut s.addresses, &mut s.routes)
        else {
            panic!("links")
        };
        links.push(veth(3, "eth1", 4002));
        let mut bond = veth(9, "bond0", 0);
        (bond.kind, bond.link, bond.link_netnsid) = (Some("bond".into()), None, None);
        bond.link_netns_inode = None;
        bond.details.insert("mode".into(), mode.into());
        for member in links.iter_mut().filter(|link| !link.loopback) {
            member.master = Some(9);
            member.details.insert("bond_state".into(), "active".into());
            change(member);
        }
        if mode == "active-backup" {
            let active = links.iter().find(|l| l.details.get("bond_state").is_some_and(|s| s == "active"));
            bond.details.insert("active_port".into(), active.map_or(0, |l| l.index).to_string());
        }
        bond.lower_up = links.iter().any(|link| link.master == Some(9) && link.lower_up);
        links.push(bond);
        addresses.iter_mut().for_each(|a| a.link = 9);
        routes.iter_mut().flat_map(|r| &mut r.next_hops).for_each(|hop| hop.link = Some(9));
    });
    world.probe("tcp://10.0.0.2:80", 20, 10);
    world
}

#[test]
fn without_a_member_that_works() {
    let world = bonded("active-backup", |member| member.lower_up = false);
    assert_eq!(world.found(), ["bond.no_active_slave @ netns:client: bond0"]);
    assert_eq!(world.report().ledger.unexplained, 0);
}

#[test]
fn a_member_that_is_dead_and_used() {
    let world = bonded("active-backup", |member| {
        member.lower_up = member.name != "eth1";
        let state = if member.name == "eth1" { "active" } else { "backup" };
        member.details.insert("bond_state".into(), state.into());
    });
    assert_eq!(world.found(), ["bond.member_dead @ netns:client: eth1 in bond0"]);
    assert_eq!(world.report().ledger.unexplained, 0);
}

#[test]
fn a_member_whose_other_end_leads_nowhere() {
    // The server has its address on eth0, and none on eth1.
    let world = bonded("balance-rr", |_| ());
    assert_eq!(world.found(), ["bond.member_dead @ netns:client: eth1 in bond0"]);
}

#[test]
fn a_backup_that_is_down_is_not_blamed() {
    let world = bonded("active-backup", |member| {
        member.lower_up = member.name != "eth1";
        let state = if member.name == "eth1" { "backup" } else { "active" };
        member.details.insert("bond_state".into(), state.into());
    });
    assert!(!world.found().iter().any(|found| found.starts_with("bond")), "{:?}", world.found());
}
