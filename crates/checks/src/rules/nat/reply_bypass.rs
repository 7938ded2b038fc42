//! `nat.reply_bypass`: answers to translated connections do not come back through the translator.

use super::{Turn, turn};
use crate::coverage::NETFILTER;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::verdicts::is_sent_to_firewall;
use crate::evidence::way::Hop;
use crate::fixes::fix;
use crate::rule::{Judgement, Rule};
use crate::rules::app::serves;
use crate::rules::nat::dead::UDP;
use crate::rules::netfilter::judge;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::action::{Action, ChainRef, RuleRef};
use whydrop_model::netfilter::{Chain, Match, Nat, NatKind, Rule as Filter, RuleVerdict, Tool};
use whydrop_model::snapshot::Protocol;
use whydrop_model::{Cause, Direction, Fix, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "nat.reply_bypass",
    title: text!(
        "Answers to translated connections do not come back through the translator",
        "被转换连接的应答没有经过转换者返回"
    ),
    meaning: text!(
        "A DNAT rule sends requests on to a host that reaches the client directly, so its answers carry its own address and not the one that was asked.",
        "DNAT 规则把请求转到另一台主机，而该主机能直接到达客户端，于是应答带着它自己的地址，而不是被访问的地址。"
    ),
    seen_by: text!(
        "The way of a flow in trouble is followed out and back: the request passes the translating rule, the answer does not pass its namespace.",
        "跟踪受影响流量的往返路径：请求经过转换规则，而应答不经过该命名空间。"
    ),
    why_lost: text!(
        "The client gets an answer from an address that it never asked, and refuses it.",
        "客户端收到来自从未访问过的地址的应答，并予以拒绝。"
    ),
    what_to_do: text!(
        "Masquerade such requests at the translator, or let the host answer by way of it (a route, or policy routing).",
        "在转换者处对这类请求做 masquerade，或让该主机经由转换者返回应答（路由或策略路由）。"
    ),
    when_wrong: text!(
        "With direct server return the server answers on purpose from the address that was asked.",
        "采用直接服务器返回（DSR）时，服务器会有意以被访问的地址直接应答。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text = text!(
    "Requests for {from} are sent on to {to}, which answers {client} directly and not by way of {target}.",
    "发往 {from} 的请求被转到 {to}，而它直接应答 {client}，不经过 {target}。"
);
const TURNS: Text = text!("this rule sends the requests on", "这条规则把请求转走");
const BACK: Text = text!(
    "the way from {to} to {client} does not pass {target}",
    "从 {to} 到 {client} 的路径不经过 {target}"
);
const MASQUERADE: Text = text!(
    "masquerade these requests, so that the answers come back",
    "对这些请求做 masquerade，使应答返回此处"
);
const HIDES: Text = text!(
    "the server then sees the translator's address instead of the client's",
    "此后服务器看到的是转换者的地址，而不是客户端的地址"
);
const PERSIST: Text = text!(
    "until the ruleset is loaded again: add it to the file or program that adds the DNAT rule, too",
    "规则集重新加载后会失效：还需写入添加该 DNAT 规则的文件或程序"
);

/// A kind of requests whose answers go another way.
#[derive(Clone)]
struct Bypass<'a> {
    turn: Turn<'a>,
    from: SocketAddr,
    to: SocketAddr,
    client: IpAddr,
}

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut found: Vec<Bypass<'_>> = vec![];
    for bypass in space.case.flows.iter().filter_map(|flow| bypass(space, flow)) {
        if !found.iter().any(|known| same(known, &bypass)) {
            found.push(bypass);
        }
    }
    found.into_iter().map(|bypass| culprit(space, bypass)).collect::<Vec<_>>().into()
}

fn same(one: &Bypass<'_>, other: &Bypass<'_>) -> bool {
    one.turn.at == other.turn.at && (one.to, one.client) == (other.to, other.client)
}

/// The flow's requests are sent on here, and its answers do not pass here.
fn bypass<'a>(space: Space<'a>, flow: &Flow<'a>) -> Option<Bypass<'a>> {
    let turn = turn(space, flow).filter(|turn| flow.in_trouble() && turn.fit == Fit::Yes)?;
    let back = flow.back.as_ref().filter(|_| !flow.starts_in(space))?;
    // What br_netfilter sends into the IP firewall is translated back while it is bridged, too.
    let turned_back = is_sent_to_firewall(space, flow.address.map(|ip| ip.is_ipv6()));
    let passes = |hop: &Hop| hop.inode == space.inode() && (!hop.bridged || turned_back);
    let passes = back.hops.iter().any(passes);
    let home = flow.home(space.case)?;
    let arrives = back.hops.last().is_some_and(|hop| hop.inode == home.inode());
    let there = flow.destination(space.case).filter(|there| !there.same(space) && !there.same(home))?;
    let (from, to) = (super::end(&turn.request)?, turn.to()?);
    // Where nobody answers, no answer goes astray.
    let kind = if flow.protocol == UDP { Protocol::Udp } else { Protocol::Tcp };
    let served = there.listeners(kind, to.port()).any(|socket| serves(there, socket, to.ip()));
    let direct = !passes && arrives && served && there.after.owns(to.ip());
    direct.then_some(Bypass { client: flow.source?, turn, from, to })
}

fn culprit<'a>(space: Space<'a>, bypass: Bypass<'a>) -> Culprit<'a> {
    let at = bypass.turn.at;
    let (taken, meant) = (bypass.clone(), bypass.clone());
    Culprit::new(space, &CAUSE, "netfilter.prerouting", Scope::Rule, judge::subject((at.chain, at.rule)))
        .direction(Direction::Forward)
        .reaches()
        .takes(move |loss| {
            let ends = loss.event.and_then(|event| Some((event.source?, event.destination?.ip())));
            let home = loss.inode.and_then(|inode| space.case.space_by_inode(inode));
            let here = home.is_some_and(|home| home.after.owns(taken.client));
            Fit::sure(here && ends == Some((taken.to, taken.client)))
        })
        .harms(move |flow| Fit::sure(self::bypass(space, flow).is_some_and(|found| same(&found, &meant))))
        .tell(move |_| story(space, &bypass))
}

fn story(space: Space<'_>, bypass: &Bypass<'_>) -> Story {
    let target = space.target().id.clone();
    let words: [(&str, &dyn std::fmt::Display); 4] =
        [("from", &bypass.from), ("to", &bypass.to), ("client", &bypass.client), ("target", &target)];
    let (chain, rule) = (bypass.turn.at.chain, bypass.turn.at.rule);
    let list = judge::list_argv(chain);
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let client = bypass.client.to_string();
    let story = Story::new(SUMMARY.fill(&words))
        .exhibit(whydrop_model::shell::sanitize(&rule.text, 300))
        .handle(rule.handle)
        .evidence(TURNS.phrase(), "rules", &list)
        .evidence(BACK.fill(&words), "routes", &["ip", "route", "get", &client]);
    masquerade(space, bypass).into_iter().fold(story, Story::fix)
}

/// Masquerades exactly these requests, in the tool of the rule that sends them on.
fn masquerade(space: Space<'_>, bypass: &Bypass<'_>) -> Option<Fix> {
    let own = bypass.turn.at.chain;
    let word = match bypass.turn.request.protocol {
        6 => "tcp",
        17 => "udp",
        _ => return None,
    };
    let (client, to, port) = (bypass.client, bypass.to.ip(), bypass.to.port());
    let prefix = if to.is_ipv6() { 128 } else { 32 };
    let chain = |chain: &&Chain| {
        (chain.tool, chain.family, &chain.table) == (own.tool, own.family, &own.table)
            && chain.nat
            && chain.hook == Some(whydrop_model::netfilter::Hook::Postrouting)
    };
    let name = space.after.chains().find(chain);
    let known = name.map_or(1, |chain| u32::try_from(chain.rules.len()).unwrap_or(0).saturating_add(1));
    let (chain, text) = match (own.tool, name) {
        (Tool::Nft, None) => return None,
        (Tool::Nft, Some(chain)) => {
            let family = if to.is_ipv6() { "ip6" } else { "ip" };
            let text =
                format!("{family} saddr {client} {family} daddr {to} {word} dport {port} counter masquerade");
            (ChainRef::from(chain), text)
        }
        _ => {
            let text = format!(
                "-s {client}/{prefix} -d {to}/{prefix} -p {word} -m {word} --dport {port} -j MASQUERADE"
            );
            (ChainRef { name: "POSTROUTING".into(), ..ChainRef::from(own) }, text)
        }
    };
    let nat = Nat { kind: NatKind::Masquerade, addresses: None, ports: None, known: true };
    let rule = Filter {
        position: known,
        handle: None,
        packets: Some(0),
        bytes: Some(0),
        verdict: RuleVerdict::Nat(Box::new(nat)),
        matches: vec![
            Match::Source(client, prefix),
            Match::Destination(to, prefix),
            Match::L4Proto(bypass.turn.request.protocol),
            Match::DestinationPorts(port, port),
        ],
        comment: None,
        text,
    };
    let action = Action::RuleInsert(RuleRef { chain, rule, unique: true, gone_before: 0 });
    let mut out = fix(space, MASQUERADE.phrase(), vec![action]);
    (out.caution, out.persist) = (Some(HIDES.phrase()), Some(PERSIST.phrase()));
    Some(out)
}
