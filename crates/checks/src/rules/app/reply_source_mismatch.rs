//! `app.reply_source_mismatch`: answers leave from another address than the one asked.

use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, manual};
use crate::way::Way;
use std::net::SocketAddr;
use whydrop_model::probe::Elsewhere;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.reply_source_mismatch",
    title: text!("Answers leave from another address than the one asked", "应答的源地址不是被访问的地址"),
    meaning: text!(
        "The question arrives and is answered, but the answer carries another source address or port.",
        "请求已到达并得到应答，但应答带着另一个源地址或端口。"
    ),
    seen_by: text!(
        "An answer held the identity of a probe (its sequence number or token), and came from elsewhere.",
        "某个应答带有探测包的标识（序列号或令牌），却来自别处。"
    ),
    why_lost: text!(
        "The client waits for the address that it asked: a socket or a stateful filter throws the answer away.",
        "客户端只等待它所访问的地址：套接字或有状态的过滤规则会丢弃该应答。"
    ),
    what_to_do: text!(
        "A UDP service on a machine with several addresses has to answer from the one that was asked: bind each address, or use IP_PKTINFO. With address translation, the answer has to pass the machine that translated the question.",
        "在有多个地址的机器上，UDP 服务必须用被访问的地址应答：逐个绑定地址，或使用 IP_PKTINFO。存在地址转换时，应答必须经过转换请求的那台机器。"
    ),
    when_wrong: text!("When somebody on the way forges answers.", "途中有人伪造应答时。"),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Addresses], consequence_of: &["route.no_return_route"], judge };

const SUMMARY: Text = text!(
    "{asked} was asked, and the answers come from {answered}.",
    "访问的是 {asked}，应答却来自 {answered}。"
);
const SEEN: Text = text!(
    "{n} probes to {asked} were answered from {answered} only",
    "发往 {asked} 的 {n} 个探测只得到来自 {answered} 的应答"
);
const DO: Text = text!(
    "let the service answer from the address that was asked, or let the answers pass the machine that translates",
    "让服务用被访问的地址应答，或让应答经过做地址转换的机器"
);

fn judge(space: Space<'_>) -> Judgement {
    let here = |way: &&Way<'_>| {
        let way: &Way<'_> = way;
        let owner = way.probe.extra.elsewhere.iter().find_map(|e| owner_of(space, e));
        let at = owner.or_else(|| way.destination(space.case)).or_else(|| space.case.space(&way.probe.from));
        way.probe.extra.answered_elsewhere > 0 && at.is_some_and(|at| at.same(space))
    };
    let ways = space.case.ways.iter().filter(here);
    ways.filter_map(|way| suspect(space, way)).collect::<Vec<_>>().into()
}

/// The namespace that has the address from which the answers come.
fn owner_of<'a>(space: Space<'a>, elsewhere: &Elsewhere) -> Option<Space<'a>> {
    space.case.spaces().find(|other| other.after.owns(elsewhere.address))
}

fn suspect(space: Space<'_>, way: &Way<'_>) -> Option<Suspect> {
    let extra = &way.probe.extra;
    let socket = |e: &Elsewhere| match e.port {
        Some(port) => SocketAddr::new(e.address, port).to_string(),
        None => e.address.to_string(),
    };
    let answered = extra.elsewhere.iter().max_by_key(|e| e.probes).map(socket)?;
    let asked = way.probe.address?;
    let asked = way.port.map_or_else(|| asked.to_string(), |port| SocketAddr::new(asked, port).to_string());
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("n", &extra.answered_elsewhere), ("asked", &asked), ("answered", &answered)];
    let subject = format!("{asked} answered from {answered}");
    let suspect = Suspect::new(space, &CAUSE, "socket.transmit", subject, SUMMARY.fill(&words))
        .direction(Direction::Transmit)
        .packets(extra.answered_elsewhere, "probe answers")
        .evidence(SEEN.fill(&words), "probe answers", &[])
        .touches(vec![way.index])
        .needs_probe()
        .fix(manual(DO));
    Some(suspect)
}
