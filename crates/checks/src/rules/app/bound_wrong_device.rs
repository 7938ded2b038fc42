//! `app.bound_wrong_device`: the service is bound to another interface.

use super::{Kind, judge_kind};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.bound_wrong_device",
    title: text!("The service is bound to another interface", "服务绑定在另一个接口上"),
    meaning: text!(
        "A program has the port open, but on the address or device of another interface.",
        "程序打开了该端口，但绑定在另一个接口的地址或设备上。"
    ),
    seen_by: text!(
        "A program or a probe does not get through, and the only listeners of the port are bound to other addresses or devices.",
        "某个程序或探测无法连通，而该端口的监听套接字只绑定在其他地址或设备上。"
    ),
    why_lost: text!(
        "For the wanted address nobody listens: the kernel refuses the connection.",
        "所访问的地址上没有程序监听：内核拒绝连接。"
    ),
    what_to_do: text!(
        "Let the service listen on the wanted address, or on all.",
        "让服务监听所需的地址或全部地址。"
    ),
    when_wrong: text!(
        "When the service must be reached through the other interface only.",
        "服务只应通过另一个接口访问时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Sockets], judge };

const SUMMARY: Text = text!(
    "The service on port {port} is bound to {listener}: {address} refuses connections.",
    "端口 {port} 上的服务绑定在 {listener}：{address} 拒绝连接。"
);
const SEEN: Text = text!("the only listener is {listener}", "唯一的监听套接字是 {listener}");
const DO: Text = text!(
    "let the service listen on {address}, or on all addresses and devices",
    "让服务监听 {address}，或监听全部地址且不绑定设备"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_kind(space, &CAUSE, Kind::Elsewhere, [SUMMARY, SEEN, DO])
}
