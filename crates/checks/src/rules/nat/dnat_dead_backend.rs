//! `nat.dnat_dead_backend`: a rule sends connections to an address and port where nothing answers.

use super::dead::{Dead, Sent, UDP, judge_dead};
use super::is_own;
use crate::coverage::Source;
use crate::culprit::Story;
use crate::evidence::case::Space;
use crate::fixes::{by_hand, owned};
use crate::rule::{Judgement, Rule};
use crate::rules::netfilter::judge;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "nat.dnat_dead_backend",
    title: text!("A port is forwarded to where nothing answers", "端口被转发到无人应答之处"),
    meaning: text!(
        "A NAT rule (DNAT, REDIRECT) changes where connections go, and at the new address and port no program listens, or nobody has the address; or a TPROXY rule hands them to a local port that nobody has open.",
        "NAT 规则（DNAT、REDIRECT）改变了连接的目的地，而新地址和端口上没有程序监听，或无人拥有该地址；或 TPROXY 规则把连接交给本机端口，而该端口没有程序监听。"
    ),
    seen_by: text!(
        "It walks the NAT rules with the requests of each flow in trouble, follows the translated packet, and looks up sockets and neighbours where it arrives.",
        "用受影响流量的请求包遍历 NAT 规则，跟踪转换后的包，并在其到达处查找套接字和邻居。"
    ),
    why_lost: text!(
        "The client asks one service and is connected with another place, which refuses or stays silent; the error names neither.",
        "客户端请求的是一个服务，却被接到另一处，那里拒绝或沉默；错误信息对此只字不提。"
    ),
    what_to_do: text!(
        "Start what should listen there, correct the rule's address and port, or delete the rule.",
        "启动应在该处监听的程序，修正规则的地址和端口，或删除该规则。"
    ),
    when_wrong: text!(
        "A program that listens for a moment only, such as a proxy during its restart, is back before you look.",
        "只是短暂未监听的程序（例如正在重启的代理），可能在查看之前已恢复。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[
        Source::Sockets,
        Source::Neighbours,
        Source::Nftables,
        Source::IptablesLegacy,
        Source::Ip6tablesLegacy,
    ],
    judge,
};

/// Longer rules are cut in what people read.
const MAX_RULE_TEXT: usize = 300;

const SUMMARY: Text = text!(
    "A NAT rule sends connections for {from} to {to}, where nothing answers.",
    "一条 NAT 规则把发往 {from} 的连接转到 {to}，而那里无人应答。"
);
const HANDED: Text = text!(
    "A TPROXY rule hands connections for {from} to the local port {port}, where nothing listens: they are dropped.",
    "一条 TPROXY 规则把发往 {from} 的连接交给本机端口 {port}，而那里没有程序监听：连接被丢弃。"
);
const SOME: Text = text!(
    "A NAT rule sends some of the connections for {from} to {to}, where nothing answers.",
    "一条 NAT 规则把发往 {from} 的部分连接转到 {to}，而那里无人应答。"
);
const SENT: Text = text!("connections for {from} came to {to}", "发往 {from} 的连接到达了 {to}");
const FITS: Text = text!("the requests of the flow meet this rule", "该流量的请求会匹配这条规则");
const NO_SOCKET: Text = text!("no socket listens on {to} in {target}", "{target} 中没有套接字在 {to} 监听");
const NOBODY: Text = text!("the neighbour {ip} does not answer ARP or ND", "邻居 {ip} 不应答 ARP 或 ND");
const START: Text = text!(
    "start what should listen on {to}, or give the rule the address and port of what does",
    "启动应在 {to} 监听的程序，或把规则改为实际服务的地址和端口"
);
const DIRECT: Text = text!(
    "connections then go where they were sent: the rule may be there so that a proxy sees them",
    "连接将直接到达原目的地：该规则可能是为了让代理看到这些连接"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_dead(space, &CAUSE, |dead| !matches!(dead, Dead::WrongPort(_)), story)
}

fn story(space: Space<'_>, sent: &Sent<'_>) -> Story {
    let (chain, rule) = (sent.at.chain, sent.at.rule);
    let list = judge::list_argv(chain);
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let port = sent.to.port();
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("from", &sent.from), ("to", &sent.to), ("port", &port)];
    let summary = match (sent.dead, sent.is_only) {
        (Dead::NoProxy(_), _) => HANDED,
        (_, true) => SUMMARY,
        (_, false) => SOME,
    };
    let story = Story::new(summary.fill(&words))
        .exhibit(whydrop_model::shell::sanitize(&rule.text, MAX_RULE_TEXT))
        .handle(rule.handle);
    let met = if sent.is_only { FITS.phrase() } else { SENT.fill(&words) };
    let story = story.evidence(met, "rules", &list);
    let story = match sent.dead {
        Dead::NoSocket(there) | Dead::WrongPort(there) | Dead::NoProxy(there) => {
            let option = if sent.protocol == UDP { "-lunp" } else { "-lntp" };
            let claim = NO_SOCKET.fill(&[("to", &sent.to), ("target", &there.target().id)]);
            story.evidence_in(there, claim, "sockets", &["ss", option])
        }
        Dead::NoNeighbour => {
            story.evidence(NOBODY.fill(&[("ip", &sent.to.ip())]), "neighbours", &["ip", "neigh"])
        }
    };
    let start = by_hand(START.fill(&[("to", &sent.to)]));
    match owned::rule_owner(chain, rule) {
        Some(owner) => story.fix(owned::there(owner)).fix(start),
        // Without the rule its own ports are as closed as before, and those who are sent elsewhere lose their way.
        None if is_own(space, sent.from.ip()) || !sent.is_only => story.fix(start),
        None => story.fix(judge::delete(space, chain, rule, Some(DIRECT))).fix(start),
    }
}
