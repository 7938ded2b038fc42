//! `app.bound_wrong_family`: the service listens for the other family of addresses only.

use super::{Kind, judge_kind};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.bound_wrong_family",
    title: text!("The service listens for the other address family only", "服务只监听另一种地址族"),
    meaning: text!(
        "A program has the port open for IPv4 only, and is asked by IPv6, or the other way round.",
        "程序只在 IPv4 上打开了该端口，却被用 IPv6 访问，或者相反。"
    ),
    seen_by: text!(
        "A program or a probe does not get through, and a listener of the port would serve the same place by an address of the other family.",
        "某个程序或探测无法连通，而该端口的监听套接字只能用另一种地址族的地址访问。"
    ),
    why_lost: text!(
        "For the wanted address nobody listens: the kernel refuses the connection. Names such as localhost stand for both families.",
        "所访问的地址上没有程序监听：内核拒绝连接。localhost 之类的名字同时代表两种地址族。"
    ),
    what_to_do: text!(
        "Let the service listen on [::] without IPV6_V6ONLY, or on both 0.0.0.0 and [::]; or use the address that it serves.",
        "让服务监听不带 IPV6_V6ONLY 的 [::]，或同时监听 0.0.0.0 和 [::]；或改用它所服务的地址。"
    ),
    when_wrong: text!(
        "Programs that try both families in turn and succeed with one miss nothing.",
        "程序依次尝试两种地址族并有一种成功时，不缺什么。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets], judge };

const SUMMARY: Text = text!(
    "The service on port {port} listens for the other address family only: {address} refuses connections.",
    "端口 {port} 上的服务只监听另一种地址族：{address} 拒绝连接。"
);
const SEEN: Text = text!(
    "the listener is {listener}, and {address} is asked",
    "监听套接字是 {listener}，而被访问的是 {address}"
);
const DO: Text = text!(
    "let the service listen on {address} too, or use the address that {listener} serves",
    "让服务也监听 {address}，或改用 {listener} 所服务的地址"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_kind(space, &CAUSE, Kind::OtherFamily, [SUMMARY, SEEN, DO])
}
