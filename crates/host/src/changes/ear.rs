//! An open ear in one namespace: what the kernel announces of interfaces, addresses, routes, queues and rules.

use super::state::{Heard, State};
use super::things::{self, Kind};
use super::{clock, who};
use crate::collect;
use crate::error::{Error, Result};
use crate::source::nftables::{self, SUBSYSTEM, expr::Attrs};
use crate::source::{address, link, policy_rule, qdisc, route};
use crate::sys::netlink::{Announced, Subscription};
use crate::sys::netns::Netns;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::time::ClockId;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use whydrop_model::shell::sanitize;
use whydrop_model::{Doer, Phrase, Reading, Snapshot, Unheard, text};

/// RTNLGRP_* (include/uapi/linux/rtnetlink.h): LINK, TC, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE,
/// IPV6_RULE.
const ROUTE_GROUPS: [u32; 8] = [1, 4, 5, 7, 8, 9, 11, 19];
/// NFNLGRP_NFTABLES (include/uapi/linux/netfilter/nfnetlink.h).
const RULE_GROUPS: [u32; 1] = [7];
/// NFT_MSG_NEWGEN, the end of a transaction (include/uapi/linux/netfilter/nf_tables.h), and what it tells.
const NEWGEN: u16 = SUBSYSTEM | 15;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;
/// Length of struct nfgenmsg.
const GENMSG: usize = 4;
/// Rules are read at most so often, in nanoseconds: a program may write them a hundred times a second.
pub(super) const REST: u64 = 200_000_000;

/// Rules were changed and not read yet.
#[derive(Debug)]
struct Unread {
    /// CLOCK_REALTIME of the first transaction.
    at: u64,
    /// Who did it; none if it was several.
    by: Option<Doer>,
}

/// What is known of a namespace, and how it is heard of.
#[derive(Debug)]
pub(super) struct Ear {
    /// Target id.
    pub target: String,
    /// Of the namespace.
    pub inode: u64,
    netns: Netns,
    /// Where nothing can be heard looks alone tell.
    route: Reading<Open>,
    rules: Reading<Open>,
    unread: Option<Unread>,
    /// CLOCK_MONOTONIC of the last reading of rules.
    rules_read: u64,
    state: State,
}

/// A subscription, and a handle on its socket to wait for.
#[derive(Debug)]
struct Open {
    subscription: Subscription,
    socket: Arc<OwnedFd>,
}

impl Open {
    fn of(subscription: Result<Subscription>) -> Reading<Self> {
        let open = |subscription: Subscription| {
            let socket = fcntl_dupfd_cloexec(&subscription, 0).map_err(|e| {
                let object = text!("announcements of the kernel", "内核通知");
                Error::io(text!("wait for {object}", "等待{object}"), object, &e.into())
            })?;
            Ok(Self { subscription, socket: Arc::new(socket) })
        };
        subscription.and_then(open).map_or_else(|error| error.reading("CAP_NET_ADMIN"), Reading::Present)
    }
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// When (CLOCK_REALTIME in nanoseconds).
    pub at: u64,
    /// If a look found it: when the look before began.
    pub not_before: Option<u64>,
    /// What.
    pub what: Phrase,
    /// By whom.
    pub by: Option<Doer>,
}

impl Ear {
    /// Ears in all of them, in their order. What cannot be heard is left to the looks.
    pub fn open_all(namespaces: Vec<(String, Netns)>) -> Vec<Self> {
        let all: Vec<&Netns> = namespaces.iter().map(|(_, netns)| netns).collect();
        let open = || {
            let (route, rules) = (Subscription::route(&ROUTE_GROUPS), Subscription::netfilter(&RULE_GROUPS));
            Reading::Present((Open::of(route), Open::of(rules)))
        };
        let subscriptions = collect::in_each(&all, open);
        let ears = namespaces.into_iter().zip(subscriptions).map(|((target, netns), opened)| {
            let (route, rules) = match opened {
                Reading::Present(both) => both,
                Reading::Absent(why) => (Reading::Absent(why.clone()), Reading::Absent(why)),
                Reading::Denied(needs) => (Reading::Denied(needs.clone()), Reading::Denied(needs)),
                Reading::Failed(error) => (Reading::Failed(error.clone()), Reading::Failed(error)),
            };
            let (inode, state) = (netns.inode(), State::default());
            Self { target, inode, netns, route, rules, unread: None, rules_read: 0, state }
        });
        ears.collect()
    }

    /// The sockets to wait for.
    pub fn sockets(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        self.route.get().into_iter().chain(self.rules.get()).map(|open| &open.socket)
    }

    /// What cannot be heard here.
    pub fn unheard(&self) -> impl Iterator<Item = Unheard> {
        let both = [("changes_route", &self.route), ("changes_nftables", &self.rules)];
        both.into_iter().filter(|(_, open)| open.get().is_none()).map(|(source, open)| Unheard {
            target: Some(self.target.clone()),
            source: source.to_owned(),
            why: open.as_ref().map(|_| ()),
        })
    }

    /// Rules wait to be read.
    pub fn waits(&self) -> bool {
        self.unread.is_some()
    }

    /// A look, for what is not announced. Everything that was announced must have been heard.
    pub fn look(&mut self, snapshot: &Snapshot) -> Vec<Found> {
        let (at, monotonic) = (clock(ClockId::Realtime), clock(ClockId::Monotonic));
        let ago = |began: u64| at.saturating_sub(monotonic.saturating_sub(began));
        let found = self.state.look(snapshot).into_iter();
        found.map(|(began, what)| Found { at, not_before: Some(ago(began)), what, by: None }).collect()
    }

    /// Takes what was announced so far. `at_once`: rules that wait are read now.
    pub fn listen(&mut self, at_once: bool) -> Vec<Found> {
        let (now, monotonic) = (clock(ClockId::Realtime), clock(ClockId::Monotonic));
        let mut heard = vec![];
        if let Reading::Present(route) = &mut self.route {
            let state = &mut self.state;
            // What was thrown away is told by the next look.
            route.subscription.drain(|told| heard.extend(parse(told, state)));
        }
        let inode = self.inode;
        let mut out: Vec<Found> = vec![];
        let mut last: Option<(u32, Option<Doer>)> = None;
        for (what, port) in self.state.hear(heard, monotonic) {
            let by = match &last {
                Some((of, by)) if *of == port => by.clone(),
                _ => who::of_port(port, inode),
            };
            last = Some((port, by.clone()));
            out.push(Found { at: now, not_before: None, what, by });
        }
        self.hear_rules(now);
        if self.unread.is_some() && (at_once || monotonic >= self.rules_read + REST) {
            out.extend(self.read_rules());
        }
        out
    }

    /// Takes in what transactions there were.
    fn hear_rules(&mut self, now: u64) {
        let (Reading::Present(rules), unread) = (&mut self.rules, &mut self.unread) else { return };
        rules.subscription.drain(|told| {
            if told.kind == NEWGEN {
                let by = doer(told.payload);
                match unread {
                    Some(before) if before.by != by => before.by = None,
                    Some(_) => {}
                    None => *unread = Some(Unread { at: now, by }),
                }
            }
        });
    }

    /// Reads the rules after a transaction. What cannot be read is left to the looks.
    fn read_rules(&mut self) -> Vec<Found> {
        let Some(Unread { at, by }) = self.unread.take() else { return vec![] };
        let began = clock(ClockId::Monotonic);
        self.rules_read = began;
        let read = self.netns.run(nftables::read);
        // What was read may hold a part of a transaction that came meanwhile, which is read once more.
        self.hear_rules(clock(ClockId::Realtime));
        let by = by.filter(|by| self.unread.as_ref().is_none_or(|later| later.by.as_ref() == Some(by)));
        let Ok(Reading::Present(chains)) = read else { return vec![] };
        let told = self.state.whole(Kind::Rule, things::rules(chains.iter()), began);
        told.into_iter().map(|what| Found { at, not_before: None, what, by: by.clone() }).collect()
    }
}

/// The process of a transaction, by the kernel's own word.
fn doer(message: &[u8]) -> Option<Doer> {
    let attributes = Attrs(message.get(GENMSG..)?);
    let comm = sanitize(attributes.text(NFTA_GEN_PROC_NAME)?, 32);
    Some(Doer { pid: attributes.u32(NFTA_GEN_PROC_PID)?, comm })
}

/// None for what is nothing of these.
fn parse(told: Announced<'_>, state: &mut State) -> Option<Heard> {
    let Announced { kind, port, payload } = told;
    let family = *payload.first()?;
    let heard = |kind, thing: things::Thing, gone: bool| {
        Some(Heard { kind, id: thing.id.clone(), now: (!gone).then_some(thing), port })
    };
    match kind {
        // A bridge announces its ports with a family of its own.
        libc::RTM_NEWLINK | libc::RTM_DELLINK if i32::from(family) == libc::AF_UNSPEC => {
            let found = link::parse(payload)?.link;
            state.names.insert(found.index, (found.name.clone(), found.txqlen));
            heard(Kind::Link, things::link(&found, &state.names), kind == libc::RTM_DELLINK)
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            let found = things::address(&address::parse(payload)?, &state.names);
            heard(Kind::Address, found, kind == libc::RTM_DELADDR)
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            let found = things::route(&route::parse(payload, family)?, &state.names)?;
            heard(Kind::Route, found, kind == libc::RTM_DELROUTE)
        }
        libc::RTM_NEWRULE | libc::RTM_DELRULE => {
            let found = things::policy(&policy_rule::parse(payload, family)?);
            heard(Kind::Policy, found, kind == libc::RTM_DELRULE)
        }
        libc::RTM_NEWQDISC | libc::RTM_DELQDISC => {
            let index = qdisc::TcHeader::parse(payload)?.link;
            let length = state.names.get(&index).and_then(|(_, txqlen)| *txqlen);
            let found = things::queue(&qdisc::parse(payload, length)?, &state.names);
            heard(Kind::Queue, found, kind == libc::RTM_DELQDISC)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    #[test]
    fn the_end_of_a_transaction_names_its_process() {
        let mut message = vec![0; GENMSG];
        message.extend(attribute(1, &9u32.to_be_bytes()));
        message.extend(attribute(NFTA_GEN_PROC_PID, &4123u32.to_be_bytes()));
        message.extend(attribute(NFTA_GEN_PROC_NAME, b"nft\0"));
        assert_eq!(doer(&message), Some(Doer { pid: 4123, comm: "nft".into() }));
        torture(&message, doer);
    }

    #[test]
    fn announcements_of_any_bytes_do_no_harm() {
        let mut state = State::default();
        let mut message = vec![2, 24, 0x80, 0, 7, 0, 0, 0];
        message.extend(attribute(libc::IFA_LOCAL, &[10, 0, 0, 1]));
        let mut told =
            |bytes: &[u8]| parse(Announced { kind: libc::RTM_NEWADDR, port: 1, payload: bytes }, &mut state);
        assert_eq!(told(&message).unwrap().id, "10.0.0.1/24 dev if7");
        let mut state = State::default();
        for kind in 0..120 {
            torture(&message, |bytes| {
                parse(Announced { kind, port: 1, payload: bytes }, &mut state).is_some()
            });
        }
    }
}
