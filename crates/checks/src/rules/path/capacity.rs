//! `path.capacity`: the path beyond this machine carries less than is sent.

use super::remote_loss::leaves;
use super::{SIGHT, far_end, is_home};
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::program;
use crate::fixes::manual;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "path.capacity",
    title: text!(
        "The path beyond this machine carries less than is sent",
        "本机之外的路径承载不了所发送的量"
    ),
    meaning: text!(
        "A program sends as fast as it may; a queue out of sight grows until it is full, and what exceeds it is dropped there.",
        "程序以最大速度发送；视野之外的队列不断增长直至填满，超出部分在那里被丢弃。"
    ),
    seen_by: text!(
        "Segments to somebody out of sight are repeated while the connection always has something to send, and its round trip takes several times as long as its shortest one.",
        "发往视野之外的报文段被重传，同时连接一直有数据可发，且其往返时间是最短往返时间的数倍。"
    ),
    why_lost: text!(
        "TCP fills the narrowest place of the path until it loses segments: that is how it learns what fits.",
        "TCP 会填满路径最窄处直到丢包：它由此得知路径能承载多少。"
    ),
    what_to_do: text!(
        "Send less, or shape below the path's rate where the queue can be fair (fq_codel, cake); use fewer connections side by side, or a wider path.",
        "减少发送量，或在队列可以公平调度之处整形到低于路径速率（fq_codel、cake）；减少并行连接，或换用更宽的路径。"
    ),
    when_wrong: text!(
        "A path whose round trips vary by themselves (radio links) looks alike when it loses packets for other reasons.",
        "往返时间本身就多变的路径（无线链路）因其他原因丢包时看起来相同。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: SIGHT, judge };

/// A round trip so many times as long as the shortest one stands in a queue.
const TIMES: u32 = 2;
/// And that by more microseconds than hosts and radio links jitter.
const QUEUED_US: u32 = 20_000;
/// A queue holds at least so many full segments of a connection that fills it: with fewer it is a late answer that takes
/// long.
const QUEUED_SEGMENTS: u64 = 2;
/// Share of the window in which something waited to be sent, in percent.
const BUSY_PERCENT: u64 = 80;
/// A queue out of sight is known by its delay only.
const AT_MOST: f64 = 0.7;

const SUMMARY: Text = text!(
    "{n} segments to {address} are lost because more is sent than the path carries.",
    "发往 {address} 的 {n} 个报文段丢失，因为发送量超过路径所能承载。"
);
const FULL: Text = text!(
    "{socket} sends all the time, {rate} kbit/s arrive, and a round trip takes {now} ms instead of {least} ms",
    "{socket} 一直在发送，到达 {rate} kbit/s，往返需 {now} ms 而非 {least} ms"
);
const DO: Text = text!(
    "send less, or shape here to a little less than arrives: tc qdisc replace dev DEV root cake bandwidth RATE (or fq_codel below tbf)",
    "减少发送量，或在本机整形到略低于到达速率：tc qdisc replace dev DEV root cake bandwidth RATE（或 tbf 下挂 fq_codel）"
);

/// A connection that fills its path.
struct Filling<'a> {
    socket: &'a Socket,
    /// Acknowledged in the window, in kbit/s.
    rate: u64,
    now_us: u32,
    least_us: u32,
}

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut far: BTreeMap<IpAddr, Filling<'_>> = BTreeMap::new();
    let flows = space.case.flows.iter().filter(|flow| is_home(space, flow) && leaves(space, flow));
    for flow in flows {
        if let Some((address, filling)) = far_end(flow).zip(filling(space, flow)) {
            far.entry(address).or_insert(filling);
        }
    }
    far.into_iter().map(|(address, filling)| culprit(space, address, filling)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, address: IpAddr, of: Filling<'a>) -> Culprit<'a> {
    Culprit::new(space, &CAUSE, "path", Scope::Machine, format!("path to {address}"))
        .at_most(AT_MOST)
        .harms(move |flow| {
            let mine = is_home(space, flow) && far_end(flow) == Some(address) && leaves(space, flow);
            sure(mine && filling(space, flow).is_some())
        })
        .tell(move |share| {
            let n = share.packets.unwrap_or(0);
            let (now, least) = (of.now_us / 1000, of.least_us / 1000);
            let words: [(&str, &dyn std::fmt::Display); 4] =
                [("socket", &of.socket.remote), ("rate", &of.rate), ("now", &now), ("least", &least)];
            Story::new(SUMMARY.fill(&[("n", &n), ("address", &address)]))
                .evidence(FULL.fill(&words), "sockets", &["ss", "-tin", "dst", &address.to_string()])
                .fix(manual(DO))
        })
}

/// The connection of a flow that fills its path, if one does.
fn filling<'a>(space: Space<'a>, flow: &Flow<'_>) -> Option<Filling<'a>> {
    let (far, port) = (far_end(flow)?, flow.port?);
    let of_flow = |socket: &&Socket| {
        let asked = if flow.is_inbound() { socket.local.port() } else { socket.remote.port() };
        socket.protocol == Protocol::Tcp && socket.remote.ip().to_canonical() == far && asked == port
    };
    let window_us = (space.case.observation.window_ns / 1000).max(1);
    space.after.sockets.iter().filter(of_flow).find_map(|socket| {
        let now = socket.tcp.as_ref()?;
        let old = program::before(space, socket)?.tcp.as_ref()?;
        let rise = |of: fn(&whydrop_model::snapshot::TcpInfo) -> Option<u64>| {
            Some(of(now)?.saturating_sub(of(old)?))
        };
        // What waits for the peer's window or for the program's own buffer does not wait for the path.
        let others = rise(|tcp| tcp.rwnd_limited_us)? + rise(|tcp| tcp.sndbuf_limited_us)?;
        let busy = rise(|tcp| tcp.busy_us)?.saturating_sub(others);
        let least = now.min_rtt_us.filter(|least| *least > 0)?;
        let queued = |rtt: u32| rtt >= least.saturating_mul(TIMES) && rtt - least >= QUEUED_US;
        let full = busy * 100 >= window_us * BUSY_PERCENT && queued(now.rtt_us) && queued(old.rtt_us);
        let acked = rise(|tcp| tcp.bytes_acked)?;
        let rate = acked.saturating_mul(8_000) / window_us;
        let queue = acked.saturating_mul(u64::from(now.rtt_us.saturating_sub(least))) / window_us;
        let full = full && queue >= QUEUED_SEGMENTS * u64::from(now.snd_mss);
        full.then_some(Filling { socket, rate, now_us: now.rtt_us, least_us: least })
    })
}
