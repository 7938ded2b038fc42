//! `tcp.orphan_limit`: too many orphaned sockets, so that connections are reset.

use super::{TCP, pages, setting};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tcp.orphan_limit",
    title: text!("Too many orphaned sockets: connections are reset", "孤儿套接字过多：连接被重置"),
    meaning: text!(
        "Connections that programs have closed and whose data is still under way are more than net.ipv4.tcp_max_orphans allows.",
        "程序已关闭但数据尚未送达的连接数超过了 net.ipv4.tcp_max_orphans。"
    ),
    seen_by: text!(
        "TcpExt.TCPAbortOnMemory rose in the window while TCP's memory is not used up; orphan in /proc/net/sockstat is near the limit.",
        "TcpExt.TCPAbortOnMemory 在窗口内增加，而 TCP 内存并未用完；/proc/net/sockstat 的 orphan 接近上限。"
    ),
    why_lost: text!(
        "Instead of sending what is left and a FIN, the kernel resets the connection: the end of an answer is cut off. Its log says too many orphaned sockets.",
        "内核不再发送剩余数据和 FIN，而是重置连接：应答的末尾被截断。内核日志会写 too many orphaned sockets。"
    ),
    what_to_do: text!(
        "Raise net.ipv4.tcp_max_orphans on the host; find out why peers do not take what was sent (a lossy path, clients that vanish); net.ipv4.tcp_orphan_retries shortens how long an orphan lives.",
        "在主机上提高 net.ipv4.tcp_max_orphans；查明对端为何不接收（丢包的路径、消失的客户端）；net.ipv4.tcp_orphan_retries 可缩短孤儿套接字的存活时间。"
    ),
    when_wrong: text!(
        "An attack that opens connections and vanishes makes orphans too: a higher limit then only costs memory.",
        "打开连接后即消失的攻击也会产生孤儿套接字：此时提高上限只会耗费内存。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib], judge };

const COUNTER: &str = "TcpExt.TCPAbortOnMemory";
const LIMIT: &str = "net.ipv4.tcp_max_orphans";
/// A socket that misbehaves counts up to four times (net/ipv4/tcp_timer.c:tcp_out_of_resources); and the number is read
/// when those that were too many are gone.
const PENALTY: u64 = 8;

const SUMMARY: Text = text!(
    "Too many orphaned sockets: {n} connections were reset instead of being ended.",
    "孤儿套接字过多：有 {n} 个连接被重置，而不是正常结束。"
);
const COUNTED: Text =
    text!("{orphans} orphaned sockets of at most {max}", "孤儿套接字 {orphans} 个，上限 {max}");
const RAISE: Text = text!(
    "raise the limit on the host: sysctl -w net.ipv4.tcp_max_orphans=N (now {max}), and find out why peers do not take what was sent",
    "在主机上提高上限：sysctl -w net.ipv4.tcp_max_orphans=N（当前 {max}），并查明对端为何不接收已发送的数据"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let cut = space.mib(COUNTER);
    let orphans = |s: &whydrop_model::Snapshot| s.sockstat.get()?.get("TCP.orphan").copied();
    let orphans = orphans(space.before).max(orphans(space.after)).unwrap_or(0);
    let max: Option<u64> = setting(space, LIMIT).and_then(|value| value.trim().parse().ok());
    let enough = pages(space).is_none_or(|(used, [_, _, max])| used < max);
    let many = max.is_none_or(|max| orphans.saturating_mul(PENALTY) >= max);
    if cut == 0 || !enough || !many {
        return Judgement::default();
    }
    let culprit = Culprit::new(space, &CAUSE, "tcp.close", Scope::Machine, "tcp_max_orphans".to_owned())
        // What is cut off are connections, not packets.
        .meter(0, Count::AtMost, "")
        .by_itself(true)
        .harms(move |flow| {
            let cut = flow.in_trouble() && flow.trouble.reset > 0 && flow.protocol == TCP;
            if cut && flow.visits(space) { Fit::Maybe } else { Fit::No }
        })
        .tell(move |_| {
            let shown = max.map_or_else(|| "?".to_owned(), |max| max.to_string());
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("n", &cut), ("orphans", &orphans), ("max", &shown)];
            Story::new(SUMMARY.fill(&words))
                .counter(COUNTER, cut)
                .evidence(COUNTED.fill(&words), "sockstat", &["cat", "/proc/net/sockstat"])
                .fix(by_hand(RAISE.fill(&words)))
        });
    Some(culprit).into()
}
