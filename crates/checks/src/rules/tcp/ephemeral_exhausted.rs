//! `tcp.ephemeral_exhausted`: no local port is free for another connection.

use super::TCP;
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::fixes::{fix, manual};
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use whydrop_model::action::Action;
use whydrop_model::snapshot::Protocol;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tcp.ephemeral_exhausted",
    title: text!("No local port is free for another connection", "没有空闲的本地端口可供新连接使用"),
    meaning: text!(
        "All ports that the kernel may choose from are in use towards this destination, most of them by connections in TIME_WAIT.",
        "内核可选的端口在该目的地上已全部占用，其中大多数属于处于 TIME_WAIT 的连接。"
    ),
    seen_by: text!(
        "connect() fails before anything is sent, and the sockets towards the destination fill net.ipv4.ip_local_port_range.",
        "connect() 在发送任何包之前就失败，而通往该目的地的套接字占满了 net.ipv4.ip_local_port_range。"
    ),
    why_lost: text!(
        "connect() fails with EADDRNOTAVAIL: no packet leaves, and no counter of the network moves.",
        "connect() 返回 EADDRNOTAVAIL：没有包发出，网络计数器也不变化。"
    ),
    what_to_do: text!(
        "Keep connections open and use them again; widen net.ipv4.ip_local_port_range; spread over more destination addresses or ports.",
        "保持连接并复用；扩大 net.ipv4.ip_local_port_range；把连接分散到更多目的地址或端口。"
    ),
    when_wrong: text!(
        "A program that binds an address which the machine does not have fails with the same error.",
        "程序绑定本机没有的地址时也会得到同样的错误。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets], judge };

const RANGE: &str = "net.ipv4.ip_local_port_range";
/// The widest range that leaves the well-known ports alone.
const WIDEST: &str = "1024 65535";
/// connect() looks at ports of one parity first and gives up before the last: nearly full is full. Sockets are read
/// after the last attempt, when some are free again.
const FULL_PERCENT: usize = 90;

const SUMMARY: Text = text!(
    "No local port is free for connections to {to}: connect() fails.",
    "没有空闲的本地端口可用于到 {to} 的连接：connect() 失败。"
);
const USED: Text = text!(
    "{used} of {all} ports of {range} are in use towards {to}",
    "{range} 的 {all} 个端口中有 {used} 个已用于 {to}"
);
const FAILED: Text =
    text!("{n} calls of connect() failed before anything was sent", "有 {n} 次 connect() 在发送之前就失败");
const WIDEN: Text = text!("widen the range of local ports", "扩大本地端口范围");
const KEEP: Text = text!("let the program keep its connections and use them again", "让程序保持并复用连接");
const SERVICES: Text = text!(
    "a service that listens on a port of the wider range may find it taken",
    "在新增范围内监听端口的服务可能会发现端口已被占用"
);
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let Some((low, high)) = range(space) else { return Judgement::default() };
    let flows = space.case.flows.iter().filter(|flow| is_unsent(space, flow));
    let services: BTreeSet<SocketAddr> =
        flows.filter_map(|flow| Some(SocketAddr::new(flow.address?, flow.port?))).collect();
    let full = services.into_iter().filter_map(|to| {
        let used = used(space, to, low, high);
        let all = usize::from(high - low) + 1;
        (used * 100 >= all * FULL_PERCENT).then(|| culprit(space, to, used, all))
    });
    full.collect::<Vec<_>>().into()
}

fn culprit(space: Space<'_>, to: SocketAddr, used: usize, all: usize) -> Culprit<'_> {
    Culprit::new(space, &CAUSE, "socket.transmit", Scope::Socket, format!("local ports to {to}"))
        .direction(Direction::Transmit)
        // Nothing was sent: nothing was lost.
        .meter(0, Count::AtMost, "")
        .harms(move |flow| sure(is_unsent(space, flow) && is_to(flow, to)))
        .tell(move |share| {
            let n: u64 = share.flows.iter().map(|flow| flow.trouble.unsent).sum();
            let words: [(&str, &dyn std::fmt::Display); 5] =
                [("to", &to), ("used", &used), ("all", &all), ("range", &RANGE), ("n", &n)];
            let story = Story::new(SUMMARY.fill(&words))
                .evidence(USED.fill(&words), "sockets", &["ss", "-ant"])
                .evidence(FAILED.fill(&words), "connect", &[]);
            widen(space, story).fix(manual(KEEP))
        })
}

fn widen(space: Space<'_>, story: Story) -> Story {
    let was = space.after.sysctls.get(RANGE).and_then(|value| value.get());
    let Some(was) = was.filter(|was| was.split_whitespace().ne(WIDEST.split_whitespace())) else {
        return story;
    };
    let action = Action::Sysctl { name: RANGE.into(), value: WIDEST.into(), was: was.clone() };
    let mut widen = fix(space, WIDEN.phrase(), vec![action]);
    (widen.caution, widen.persist) = (Some(SERVICES.phrase()), Some(PERSIST.phrase()));
    story.fix(widen)
}

fn is_to(flow: &Flow<'_>, to: SocketAddr) -> bool {
    (flow.address, flow.port) == (Some(to.ip()), Some(to.port()))
}

fn is_unsent(space: Space<'_>, flow: &Flow<'_>) -> bool {
    flow.in_trouble() && flow.protocol == TCP && flow.starts_in(space) && flow.trouble.unsent > 0
}

/// The first and the last port that the kernel chooses from.
fn range(space: Space<'_>) -> Option<(u16, u16)> {
    let value = space.after.sysctls.get(RANGE)?.get()?;
    let mut ports = value.split_whitespace().map(str::parse::<u16>);
    let (low, high) = (ports.next()?.ok()?, ports.next()?.ok()?);
    (low <= high).then_some((low, high))
}

/// Local ports of the range that have a connection to this destination at the end of the window, the dying ones
/// included.
fn used(space: Space<'_>, to: SocketAddr, low: u16, high: u16) -> usize {
    let sockets = space.after.sockets.iter().filter(|s| s.protocol == Protocol::Tcp);
    let there = sockets.filter(|s| s.remote.ip().to_canonical() == to.ip() && s.remote.port() == to.port());
    let ports: BTreeSet<u16> =
        there.map(|s| s.local.port()).filter(|port| (low..=high).contains(port)).collect();
    ports.len()
}
