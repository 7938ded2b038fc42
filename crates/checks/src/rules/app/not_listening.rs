//! `app.not_listening`: nothing listens on the port.

use super::{Kind, judge_kind};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.not_listening",
    title: text!("Nothing listens on the port", "端口上没有程序监听"),
    meaning: text!(
        "The machine is reached, but no program has the port open.",
        "能够到达该机器，但没有程序打开这个端口。"
    ),
    seen_by: text!(
        "A program or a probe was refused again and again at one port without any success, and the namespace that has the address has no socket for the port. A scan of many ports is no fault.",
        "某个程序或探测在同一端口反复被拒绝且从未成功，而持有该地址的命名空间中没有该端口的套接字。扫描多个端口不是故障。"
    ),
    why_lost: text!(
        "The kernel answers with a TCP reset or ICMP port unreachable.",
        "内核以 TCP RST 或 ICMP 端口不可达作答。"
    ),
    what_to_do: text!(
        "Start the service, or use the port on which it listens.",
        "启动服务，或使用它实际监听的端口。"
    ),
    when_wrong: text!(
        "When the service listens in another namespace that is reached through a port mapping.",
        "服务在另一个命名空间监听并通过端口映射访问时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets], judge };

const SUMMARY: Text = text!(
    "Nothing listens on port {port} of {address}: connections are refused.",
    "{address} 的端口 {port} 上没有程序监听：连接被拒绝。"
);
const SEEN: Text = text!("no socket listens on port {port}", "没有套接字监听端口 {port}");
const DO: Text = text!(
    "start the service that should listen on port {port}, or use the port on which it listens",
    "启动应监听端口 {port} 的服务，或使用它实际监听的端口"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_kind(space, &CAUSE, Kind::Nothing, [SUMMARY, SEEN, DO])
}
