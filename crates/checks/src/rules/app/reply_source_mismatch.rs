//! `app.reply_source_mismatch`: answers leave from another address than the one asked.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Missing, Scope, Story, sure};
use crate::evidence::astray;
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::fixes::manual;
use crate::loss::missing;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use whydrop_model::probe::Elsewhere;
use whydrop_model::{Cause, Direction, ProbeResult, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "app.reply_source_mismatch",
    title: text!("Answers leave from another address than the one asked", "应答的源地址不是被访问的地址"),
    meaning: text!(
        "The question arrives and is answered, but the answer carries another source address or port.",
        "请求已到达并得到应答，但应答带着另一个源地址或端口。"
    ),
    seen_by: text!(
        "An answer held the identity of a probe (its sequence number or token), and came from elsewhere; or a client in view threw away datagrams of one address of the service while its socket waits for another one.",
        "某个应答带有探测包的标识（序列号或令牌），却来自别处；或可见的客户端丢弃了来自该服务某一地址的数据报，而其套接字在等待另一地址。"
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Addresses], judge };

const SUMMARY: Text = text!(
    "{asked} was asked, and the answers come from {answered}.",
    "访问的是 {asked}，应答却来自 {answered}。"
);
const SEEN: Text = text!(
    "{n} probes to {asked} were answered from {answered} only",
    "发往 {asked} 的 {n} 个探测只得到来自 {answered} 的应答"
);
const REFUSED: Text = text!(
    "{n} sampled answers from {answered} found no socket: the client's waits for {asked}",
    "采样到 {n} 个来自 {answered} 的应答找不到套接字：客户端的套接字在等待 {asked}"
);
const DO: Text = text!(
    "let the service answer from the address that was asked, or let the answers pass the machine that translates",
    "让服务用被访问的地址应答，或让应答经过做地址转换的机器"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let culprits = space.case.flows.iter().filter_map(|flow| {
        let probe = flow.probe().filter(|probe| probe.extra.answered_elsewhere > 0)?;
        // Who was asked in the place of another answers rightly: it is the translator that misses the answer.
        if probe.extra.elsewhere.iter().all(|e| flow.is_turned_to(e.address)) {
            return None;
        }
        let owner = probe.extra.elsewhere.iter().find_map(|e| owner_of(space, e));
        let at = owner.or_else(|| flow.destination(space.case)).or_else(|| space.case.space(&probe.from));
        if at.is_some_and(|at| at.same(space)) { culprit(space, flow, probe) } else { None }
    });
    culprits.chain(unwanted(space)).collect::<Vec<_>>().into()
}

/// Answers of this namespace that a client in view threw away.
fn unwanted<'a>(space: Space<'a>) -> Vec<Culprit<'a>> {
    let mut found: BTreeMap<(u64, SocketAddr, SocketAddr), u64> = BTreeMap::new();
    let events = space.case.drop_log().map(|log| log.sampled.as_slice()).unwrap_or(&[]);
    let answers = events.iter().filter_map(|event| astray::of(space.case, event));
    for answer in answers.filter(|answer| answer.server.same(space)) {
        *found.entry((answer.client.inode(), answer.asked, answer.answered)).or_default() += 1;
    }
    let clients = |inode| space.case.space_by_inode(inode);
    let told = found.into_iter().filter_map(|((inode, asked, answered), n)| {
        Some(thrown_away(space, clients(inode)?, asked, answered, n))
    });
    told.collect()
}

fn thrown_away<'a>(
    space: Space<'a>,
    client: Space<'a>,
    asked: SocketAddr,
    answered: SocketAddr,
    n: u64,
) -> Culprit<'a> {
    let subject = format!("{asked} answered from {answered}");
    Culprit::new(space, &CAUSE, "socket.transmit", Scope::Socket, subject)
        .direction(Direction::Transmit)
        .by_itself(true)
        .concerns(client.is_target())
        .reaches()
        .takes(move |loss| {
            let mine = loss
                .event
                .is_some_and(|event| event.source == Some(answered) && astray::died_for_want(event));
            sure(mine && loss.is_in(client))
        })
        .harms(move |flow| {
            let asks = (flow.address, flow.port) == (Some(asked.ip()), Some(asked.port()));
            sure(asks && flow.trouble.strayed > 0 && flow.starts_in(client))
        })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("n", &n), ("asked", &asked), ("answered", &answered)];
            Story::new(SUMMARY.fill(&words))
                .evidence(REFUSED.fill(&words), "sockets", &["ss", "-unp"])
                .fix(manual(DO))
        })
}

/// The namespace that has the address from which the answers come.
fn owner_of<'a>(space: Space<'a>, elsewhere: &Elsewhere) -> Option<Space<'a>> {
    space.case.owners(elsewhere.address).next()
}

fn culprit<'a>(space: Space<'a>, flow: &Flow<'a>, probe: &'a ProbeResult) -> Option<Culprit<'a>> {
    let socket = |e: &Elsewhere| match e.port {
        Some(port) => SocketAddr::new(e.address, port).to_string(),
        None => e.address.to_string(),
    };
    let answered = probe.extra.elsewhere.iter().max_by_key(|e| e.probes).map(socket)?;
    let asked = probe.address?;
    let asked = flow.port.map_or_else(|| asked.to_string(), |port| SocketAddr::new(asked, port).to_string());
    let (id, n) = (flow.id, probe.extra.answered_elsewhere);
    let subject = format!("{asked} answered from {answered}");
    let culprit = Culprit::new(space, &CAUSE, "socket.transmit", Scope::Socket, subject)
        .direction(Direction::Transmit)
        .meter(n, Count::Exact, "probe answers")
        .misses(answer(space, flow))
        .harms(move |flow| sure(flow.id == id))
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("n", &n), ("asked", &asked), ("answered", &answered)];
            Story::new(SUMMARY.fill(&words)).evidence(SEEN.fill(&words), "probe answers", &[]).fix(manual(DO))
        });
    Some(culprit)
}

/// The answer from the address that was asked, as it would set out.
fn answer<'a>(space: Space<'a>, flow: &Flow<'a>) -> Missing<'a> {
    let asked = flow.destination(space.case).zip(flow.arrival());
    asked.map(|(there, request)| missing::at_routing(there, request.answer())).into_iter().collect()
}
