//! `app.bound_loopback`: the service listens on loopback only.

use super::{Kind, judge_kind};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.bound_loopback",
    title: text!("The service listens on loopback only", "服务只监听回环地址"),
    meaning: text!(
        "A program has the port open, but only on 127.0.0.1 or ::1.",
        "程序打开了该端口，但只绑定在 127.0.0.1 或 ::1 上。"
    ),
    seen_by: text!(
        "A program or a probe does not get through, and the only listeners of the port are bound to loopback addresses.",
        "某个程序或探测无法连通，而该端口的监听套接字只绑定在回环地址上。"
    ),
    why_lost: text!(
        "Connections from other machines and containers are refused; from inside all looks well.",
        "来自其他机器和容器的连接被拒绝，而从内部看一切正常。"
    ),
    what_to_do: text!(
        "Let the service listen on 0.0.0.0, [::] or the address of the interface.",
        "让服务监听 0.0.0.0、[::] 或接口的地址。"
    ),
    when_wrong: text!("When the service must not be reached from outside.", "服务本来就不应从外部访问时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets], judge };

const SUMMARY: Text = text!(
    "The service on port {port} listens on loopback only: {address} refuses connections.",
    "端口 {port} 上的服务只监听回环地址：{address} 拒绝连接。"
);
const SEEN: Text = text!("the only listener is {listener}", "唯一的监听套接字是 {listener}");
const DO: Text =
    text!("let {listener} listen on 0.0.0.0 or on {address}", "让 {listener} 监听 0.0.0.0 或 {address}");

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_kind(space, &CAUSE, Kind::Loopback, [SUMMARY, SEEN, DO])
}
