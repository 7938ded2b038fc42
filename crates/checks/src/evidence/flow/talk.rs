//! Conversations as all witnesses tell them together: the tracer, the sockets at both ends of the window, dropped
//! packets and connection tracking.

use crate::evidence::case::{Case, Space};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::drops::SocketOwner;
use whydrop_model::flow::{Closed, Conversation, FlowDirection, FlowLog, Repeat, RepeatKind};
use whydrop_model::snapshot::{Protocol, Socket};

/// IPPROTO_TCP.
const TCP: u8 = 6;

/// A conversation with what others than the tracer know of it.
#[derive(Clone, Debug)]
pub struct Talk<'a> {
    /// What the tracer told; of one that it did not see, who talks to whom.
    pub told: Cow<'a, Conversation>,
    /// Datagrams and echo requests that got no answer.
    pub datagrams: Datagrams,
    /// What waits.
    pub stalled: Option<Stalled>,
    /// Attempts that are under way at the end of the window, whenever they began.
    pub opening: u64,
    /// Connections that are still open: what they sent in the window.
    pub open: Closed,
    /// How often one and the same segment was sent again, at most.
    pub same_again: u64,
    /// Segments of what was sent again, by its sequence numbers: one event may repeat a burst of forty (GSO).
    pub segments_again: u64,
    /// Tails that were sent again and stand for what was lost: see `tail`.
    pub tails: u64,
    /// Of connections that are still open: segments that came out of order in the window, and all that came.
    pub arrived: (u64, u64),
    /// Few attempts were seen, none had success, and the next will have none.
    pub in_vain: bool,
    /// Connections that ended without an answer, if they are more than an accident.
    pub turned_away: u64,
    /// Its few failures fell into the moment in which the service that it asks was started anew.
    pub restarted: bool,
}

/// Requests that are one packet each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// Refused: nobody has the port open.
    pub refused: u64,
    /// Seen to be dropped, requests and answers, among the sampled drops.
    pub dropped: u64,
    /// Sent, without any sign of an answer.
    pub waiting: u64,
    /// One of them waits since the window began.
    pub long: bool,
    /// Answered from another address than was asked: no socket took the answer.
    pub strayed: u64,
}

/// Something waits that should move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stalled {
    /// Seconds since it moved last, at least.
    pub seconds: f64,
    /// Why, as far as the waiting end tells.
    pub why: Why,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// What was sent is not acknowledged.
    Unacknowledged,
    /// The other side has no room.
    Window,
    /// It arrived and is not read.
    Unread,
}

/// Who talks to whom: what is one [`Conversation`], whoever owns the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    inode: u64,
    protocol: u8,
    direction: FlowDirection,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Key {
    /// Somebody in a namespace asks.
    pub fn out(space: Space<'_>, protocol: u8, from: IpAddr, to: SocketAddr) -> Self {
        let (local, inode) = (SocketAddr::new(from, 0), space.inode());
        Self { inode, protocol, direction: FlowDirection::Out, local, remote: to }
    }

    /// Somebody in a namespace is asked.
    pub fn into(space: Space<'_>, protocol: u8, from: IpAddr, to: SocketAddr) -> Self {
        let (remote, inode) = (SocketAddr::new(from, 0), space.inode());
        Self { inode, protocol, direction: FlowDirection::In, local: to, remote }
    }

    fn of(talk: &Conversation) -> Self {
        let Conversation { netns_inode, protocol, direction, local, remote, .. } = *talk;
        Self { inode: netns_inode, protocol, direction, local, remote }
    }
}

/// All of them, each key once unless several users talk to the same.
#[derive(Clone, Debug, Default)]
pub struct Talks<'a> {
    /// In no order that means anything.
    pub list: Vec<Talk<'a>>,
    by_key: BTreeMap<Key, usize>,
}

impl<'a> Talks<'a> {
    /// What the tracer told.
    pub fn of(log: Option<&'a FlowLog>) -> Self {
        let mut out = Self::default();
        let told = log.into_iter().flat_map(|log| &log.conversations).filter(|talk| !talk.is_folded());
        for talk in told {
            out.add(Key::of(talk), Cow::Borrowed(talk));
        }
        for (key, times, segments) in again(log) {
            let talk = out.by_key.get(&key).and_then(|index| out.list.get_mut(*index));
            if let Some(talk) = talk {
                talk.same_again = talk.same_again.max(times);
                talk.segments_again += segments;
            }
        }
        out
    }

    /// The conversation of this key, made if nobody told of it.
    pub fn at(&mut self, key: Key) -> &mut Talk<'a> {
        let Key { inode, protocol, direction, local, remote } = key;
        let index = match self.by_key.get(&key) {
            Some(index) => *index,
            None => {
                let talk = Conversation::between(inode, protocol, direction, local, remote);
                self.add(key, Cow::Owned(talk))
            }
        };
        #[allow(
            clippy::indexing_slicing,
            reason = "`add` gives the index of what it pushed, and nothing is removed"
        )]
        &mut self.list[index]
    }

    /// True if somebody told of it.
    pub fn knows(&self, key: Key) -> bool {
        self.by_key.contains_key(&key)
    }

    /// The key by which somebody in a namespace asks this address, if anybody told of it.
    pub fn asking(&self, space: Space<'_>, protocol: u8, remote: SocketAddr) -> Option<Key> {
        let wanted = |key: &&Key| {
            (key.inode, key.protocol, key.direction, key.remote)
                == (space.inode(), protocol, FlowDirection::Out, remote)
        };
        self.by_key.keys().find(wanted).copied()
    }

    fn add(&mut self, key: Key, told: Cow<'a, Conversation>) -> usize {
        let index = self.list.len();
        self.by_key.entry(key).or_insert(index);
        let (datagrams, open) = (Datagrams::default(), Closed::default());
        self.list.push(Talk {
            told,
            datagrams,
            stalled: None,
            opening: 0,
            open,
            same_again: 0,
            segments_again: 0,
            tails: 0,
            arrived: (0, 0),
            in_vain: false,
            turned_away: 0,
            restarted: false,
        });
        index
    }

    /// What the asked end of a conversation tells belongs to the end that asks, where that is in view.
    pub fn join_ends(&mut self, case: Case<'a>) {
        for index in 0..self.list.len() {
            let Some(talk) = self.list.get(index) else { continue };
            let told = &talk.told;
            let (to, from) = (told.local, told.remote.ip());
            if told.direction != FlowDirection::In || from.is_unspecified() {
                continue;
            }
            let Some(at) = case.space_by_inode(told.netns_inode) else { continue };
            let Some(home) = home(case, at, from) else { continue };
            let key = Key::out(home, told.protocol, from, to);
            let Some(asks) = self.by_key.get(&key).copied() else { continue };
            let (synack, data, closed) = (told.synack_repeats, told.data_repeats, told.closed);
            let (stalled, open, same_again) = (talk.stalled, talk.open, talk.same_again);
            let segments_again = talk.segments_again;
            if let Some(talk) = self.list.get_mut(index) {
                let told = talk.told.to_mut();
                (told.synack_repeats, told.data_repeats, talk.stalled) = (0, 0, None);
            }
            let Some(talk) = self.list.get_mut(asks) else { continue };
            talk.stall(stalled);
            talk.open = sum(talk.open, open);
            talk.same_again = talk.same_again.max(same_again);
            talk.segments_again += segments_again;
            if synack + data > 0 {
                let told = talk.told.to_mut();
                told.synack_repeats += synack;
                told.data_repeats += data;
                told.closed = sum(told.closed, closed);
            }
        }
    }
}

/// Bytes of a full segment on Ethernet, with time-stamps.
const SEGMENT: u32 = 1448;

/// How often each range of data was sent again, by its conversation, and how many segments that were.
fn again(log: Option<&FlowLog>) -> impl Iterator<Item = (Key, u64, u64)> {
    let mut times: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for repeat in log.into_iter().flat_map(|log| &log.repeats).filter(|r| r.kind == RepeatKind::Data) {
        let Repeat { netns_inode: inode, direction, local, remote, seq, end_seq, .. } = *repeat;
        let any = |end: SocketAddr| SocketAddr::new(end.ip(), 0);
        let (by, to) = match direction {
            FlowDirection::Out => (any(local), remote),
            FlowDirection::In => (local, any(remote)),
        };
        let key = Key { inode, protocol: TCP, direction, local: by, remote: to };
        let (times, segments) = times.entry((key, local.port(), remote.port(), seq)).or_default();
        *times += 1;
        *segments += u64::from(end_seq.wrapping_sub(seq).div_ceil(SEGMENT).max(1));
    }
    times.into_iter().map(|((key, ..), (times, segments))| (key, times, segments))
}

impl Talk<'_> {
    /// Attempts without an answer at the end of the window, at least.
    pub fn waiting(&self) -> u64 {
        self.told.waiting().max(self.opening)
    }

    /// Names the program that holds the asking socket, if nobody did.
    pub fn owned_by(&mut self, socket: Option<&Socket>) {
        let Some(socket) = socket.filter(|_| self.told.owner.is_none()) else { return };
        if let Some(owner) = socket.owners.first() {
            let (pid, comm) = (Some(owner.pid), Some(owner.comm.clone()));
            let told = self.told.to_mut();
            told.owner = Some(SocketOwner { pid, comm, cgroup: None });
            told.uid = told.uid.or(Some(socket.uid));
        }
    }

    /// Keeps what waits longest; a reader that has no room for more explains what lies unread.
    pub fn stall(&mut self, stalled: Option<Stalled>) {
        let longer = |new: &Stalled| {
            self.stalled.is_none_or(|old| match (old.why, new.why) {
                (Why::Window, Why::Unread) => false,
                (Why::Unread, Why::Window) => true,
                _ => new.seconds > old.seconds,
            })
        };
        self.stalled = stalled.filter(longer).or(self.stalled);
    }
}

fn sum(a: Closed, b: Closed) -> Closed {
    Closed {
        connections: a.connections + b.connections,
        segments: a.segments + b.segments,
        data_segments: a.data_segments + b.data_segments,
        repeated: a.repeated + b.repeated,
        needless: a.needless + b.needless,
        // Both ends tell of the same.
        unanswered: a.unanswered.max(b.unanswered),
        wordless: a.wordless.max(b.wordless),
    }
}

/// The namespace in view that has an address, seen from a packet in `at`. Where several have it (every container network
/// of a machine may use the same addresses) only `at` itself is sure.
pub fn home<'a>(case: Case<'a>, at: Space<'a>, ip: IpAddr) -> Option<Space<'a>> {
    if ip.is_loopback() || at.after.owns(ip) {
        return Some(at);
    }
    let mut owners = case.owners(ip);
    owners.next().filter(|_| owners.next().is_none())
}

/// The socket of a namespace that uses a local port, at either end of the window.
pub fn socket_at<'a>(space: Space<'a>, protocol: Protocol, port: u16) -> Option<&'a Socket> {
    let mut all = space.after.sockets.iter().chain(space.before.sockets.iter());
    all.find(|socket| socket.protocol == protocol && socket.local.port() == port)
}
