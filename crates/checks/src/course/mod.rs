//! Follows a packet that nobody sends: what the tables of each namespace on its way would do to it.

mod gates;
#[cfg(test)]
mod tests;

use self::gates::Gate;
use crate::evidence::case::{Case, Space};
use crate::evidence::index::Index;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::route::Lookup;
use crate::evidence::translate::Translators;
use crate::evidence::verdicts::{Carried, is_sent_to_firewall};
use crate::evidence::walk::{End, Ending, Rules, Walk};
use crate::evidence::way::{self, Ends, Hop, Passage, Path, Way};
use crate::rule::fill_words;
use crate::rules::app::serves;
use std::net::IpAddr;
use whydrop_model::course::{Course, CourseEnd, CourseFate, CourseRule, CourseStep};
use whydrop_model::netfilter::{Field, Hook};
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::Protocol;
use whydrop_model::{Observation, Phrase, text};

/// IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Echo request and reply.
const ECHO: [(u32, u32); 2] = [(8, 0), (128, 129)];
/// Longer rules are cut in what people read.
const MAX_RULE_TEXT: usize = 200;
/// Rules that were tried and did not match, per chain, that are shown.
const MOST_TRIED: usize = 8;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The URL as given.
    pub url: String,
    /// IP protocol number.
    pub protocol: u8,
    /// The address.
    pub address: IpAddr,
    /// Its port, if the protocol has ports.
    pub port: Option<u16>,
}

/// The way of the question's packet from a namespace of the observation; none if that was not read.
pub fn course(observation: &Observation, from: &str, question: &Question) -> Option<Course> {
    let index = Index::of(observation);
    let case = Case::bare(observation, &index);
    let start = case.space(from)?;
    let ends = Ends {
        protocol: question.protocol,
        source: (None, None),
        destination: (question.address, question.port),
    };
    let way = Way::of(0, &Translators::of(case), start, ends);
    let mut follower = Follower { case, question, end: None, unclear: None, protected: false };
    let request = follower.path(&way, &way.forward, false);
    let answer = match (&way.back, follower.end.is_none()) {
        (Some(back), true) => follower.path(&way, back, true),
        _ => vec![],
    };
    let (end, target, summary) = follower.ending(start);
    let (url, from) = (question.url.clone(), start.target().id.clone());
    Some(Course { url, from, address: question.address, request, answer, end, target, summary })
}

struct Follower<'a, 'q> {
    case: Case<'a>,
    question: &'q Question,
    end: Option<(CourseEnd, String, Phrase)>,
    unclear: Option<(String, Phrase)>,
    /// True where IPsec protects the packet.
    protected: bool,
}

impl<'a> Follower<'a, '_> {
    fn path(&mut self, way: &Way, path: &Path, back: bool) -> Vec<CourseStep> {
        let mut steps = vec![];
        for (at, hop) in path.hops.iter().enumerate() {
            let Some(space) = self.case.space_by_inode(hop.inode) else { continue };
            let last = at + 1 == path.hops.len();
            self.hop(way, space, hop, (path, last, back), &mut steps);
            if self.end.is_some() {
                break;
            }
        }
        steps
    }

    fn hop(
        &mut self,
        way: &Way,
        space: Space<'a>,
        hop: &Hop,
        (path, last, back): (&Path, bool, bool),
        steps: &mut Vec<CourseStep>,
    ) {
        let names = |links: &[u32]| -> String {
            links.iter().map(|index| space.after.link_name(*index)).collect::<Vec<_>>().join(", ")
        };
        let comes = match (hop.bridged, hop.incoming.is_empty()) {
            (true, _) => {
                text!("is bridged from {dev}", "从 {dev} 桥接").fill(&[("dev", &names(&hop.incoming))])
            }
            (false, true) => text!("is made here", "在此产生").phrase(),
            (false, false) => {
                text!("comes in by {dev}", "从 {dev} 进入").fill(&[("dev", &names(&hop.incoming))])
            }
        };
        steps.push(step(space, "link", CourseFate::Passes, comes));
        for link in hop.incoming.iter().filter_map(|index| space.after.link(*index)) {
            self.pass(space, gates::entering(space, link, &hop.early), steps);
        }
        if self.end.is_some() {
            return;
        }
        let rules = Rules::of(space.after);
        let passages = way.passages(space);
        let Some(passage) = passages.into_iter().find(|p| p.back == back && p.bridged == hop.bridged) else {
            return;
        };
        let decides = |hook: Hook| matches!(hook, Hook::Ingress | Hook::Prerouting | Hook::Output);
        let mut carried = Carried::default();
        if !passage.bridged || is_sent_to_firewall(space, Some(self.question.address.is_ipv6())) {
            self.hooks(space, &rules, &passage, &mut carried, decides, steps);
        }
        if self.end.is_some() {
            return;
        }
        if !hop.bridged {
            self.route(space, hop, (path, last), steps);
            self.guarded(space, hop, steps);
        }
        if self.end.is_some() {
            return;
        }
        let rest = |hook: Hook| !decides(hook);
        if !passage.bridged || is_sent_to_firewall(space, Some(self.question.address.is_ipv6())) {
            self.hooks(space, &rules, &passage, &mut carried, rest, steps);
        }
        if self.end.is_some() {
            return;
        }
        if last && path.end == way::End::Arrived {
            if !hop.incoming.is_empty() {
                let policy = gates::ipsec(space, "in", &hop.routed, &mut self.protected);
                self.pass(space, policy, steps);
            }
            if !back && self.end.is_none() {
                self.listener(space, hop, steps);
            }
            return;
        }
        self.leave(space, hop, steps);
    }

    /// What reverse path filter and IPsec make of what was routed.
    fn guarded(&mut self, space: Space<'a>, hop: &Hop, steps: &mut Vec<CourseStep>) {
        if self.end.is_none() {
            self.pass(space, gates::reverse_path(space, hop), steps);
        }
        // What stays on this machine meets no policy: the loopback device is outside of IPsec.
        let directions: &[&str] = match (hop.incoming.is_empty(), hop.outgoing.is_empty()) {
            (true, false) => &["out"],
            (false, false) => &["fwd", "out"],
            _ => &[],
        };
        for direction in directions {
            if self.end.is_none() {
                let policy = gates::ipsec(space, direction, &hop.routed, &mut self.protected);
                self.pass(space, policy, steps);
            }
        }
    }

    /// Writes down what stands in the way, as far as the packet comes.
    fn pass(&mut self, space: Space<'a>, gates: impl IntoIterator<Item = Gate>, steps: &mut Vec<CourseStep>) {
        for gate in gates {
            if self.end.is_some() {
                return;
            }
            let target = space.target().id.clone();
            steps.push(step(space, gate.stage, gate.fate, gate.text.clone()));
            match gate.fate {
                CourseFate::Ends => self.ends(CourseEnd::Dropped, target, gate.text),
                CourseFate::May => self.unclear = self.unclear.take().or(Some((target, gate.text))),
                CourseFate::Passes | CourseFate::Translated => {}
            }
        }
    }

    fn hooks(
        &mut self,
        space: Space<'a>,
        rules: &Rules<'a>,
        passage: &Passage,
        carried: &mut Carried,
        mine: impl Fn(Hook) -> bool,
        steps: &mut Vec<CourseStep>,
    ) {
        for (hook, plain) in passage.hooks.iter().filter(|(hook, _)| mine(*hook)) {
            let mut packet = carried.onto(plain);
            let echo = if packet.protocol == ICMP { ECHO[0] } else { ECHO[1] };
            if matches!(packet.protocol, ICMP | ICMPV6) {
                let kind = if passage.back { echo.1 } else { echo.0 };
                packet = packet.with(Field::IcmpType, kind).with(Field::IcmpCode, 0);
            }
            let walk = rules.at_hook(*hook, &packet);
            self.walked(space, rules, *hook, &packet, &walk, steps);
            if self.end.is_some() {
                return;
            }
            carried.learn(&walk.packets);
        }
    }

    /// What the chains of one hook do.
    fn walked(
        &mut self,
        space: Space<'a>,
        rules: &Rules<'a>,
        hook: Hook,
        packet: &Packet,
        walk: &Walk<'a>,
        steps: &mut Vec<CourseStep>,
    ) {
        let stage = format!("netfilter.{}", hook.word());
        for passed in &walk.steps {
            let fate = match passed.end {
                End::Translated(_) => CourseFate::Translated,
                _ => CourseFate::Passes,
            };
            let mut text = words(passed);
            if let (CourseFate::Translated, [(_, shape)]) = (fate, walk.packets.as_slice()) {
                let side = |ip: Option<IpAddr>, port: Option<u16>| match (ip, port) {
                    (Some(ip), Some(port)) => std::net::SocketAddr::new(ip, port).to_string(),
                    (Some(ip), None) => ip.to_string(),
                    _ => "?".to_owned(),
                };
                let (from, to) =
                    (side(shape.source, shape.source_port), side(shape.destination, shape.destination_port));
                let (from, to) = (same(&from), same(&to));
                let now = text!("{what}: now from {from} to {to}", "{what}：现在从 {from} 到 {to}");
                text = fill_words(now, &[("what", &text), ("from", &from), ("to", &to)]);
            }
            steps.push(step(space, &stage, fate, text));
        }
        for ending in walk.endings.iter().filter(|ending| ending.end != End::Accept) {
            let sure = ending.fit == Fit::Yes;
            let fate = if sure { CourseFate::Ends } else { CourseFate::May };
            let mut told = step(space, &stage, fate, words(ending));
            if let Some(chain) = ending.base.filter(|_| ending.is_policy()) {
                let tried = rules.tried(chain, packet).into_iter().take(MOST_TRIED);
                told.tried = tried
                    .map(|tried| CourseRule {
                        rule: sanitize(&tried.at.to_string(), MAX_RULE_TEXT),
                        missed: sanitize(&tried.missed.to_string(), MAX_RULE_TEXT),
                    })
                    .collect();
            }
            let (target, text) = (space.target().id.clone(), told.text.clone());
            steps.push(told);
            match (&ending.end, sure) {
                (End::Drop, true) => self.ends(CourseEnd::Dropped, target, text),
                (End::Reject, true) => self.ends(CourseEnd::Rejected, target, text),
                (End::Queue(_), true) => self.ends(CourseEnd::Queued, target, text),
                _ => self.unclear = self.unclear.take().or(Some((target, text))),
            }
        }
    }

    fn ends(&mut self, end: CourseEnd, target: String, text: Phrase) {
        self.end = self.end.take().or(Some((end, target, text)));
    }

    /// The routing decision.
    fn route(
        &mut self,
        space: Space<'a>,
        hop: &Hop,
        (path, last): (&Path, bool),
        steps: &mut Vec<CourseStep>,
    ) {
        let Some(to) = hop.routed.destination else { return };
        let stage = if hop.incoming.is_empty() { "route.output" } else { "route.input" };
        let target = space.target().id.clone();
        let (fate, end, text) = match hop.lookup(space) {
            Lookup::Local => (
                CourseFate::Passes,
                None,
                text!("{to} is an own address", "{to} 是本机地址").fill(&[("to", &to)]),
            ),
            Lookup::Via(route, next) => {
                let dev = next.link.map_or_else(String::new, |link| space.after.link_name(link));
                let gateway = next.gateway.map_or_else(|| to.to_string(), |ip| ip.to_string());
                let network = format!("{}/{}", route.destination, route.prefix);
                let words: [(&str, &dyn std::fmt::Display); 4] =
                    [("network", &network), ("gateway", &gateway), ("dev", &dev), ("table", &route.table)];
                let text = text!(
                    "route {network} of table {table}: to {gateway} by {dev}",
                    "表 {table} 的路由 {network}：经 {dev} 到 {gateway}"
                );
                (CourseFate::Passes, None, text.fill(&words))
            }
            Lookup::Missing => (
                CourseFate::Ends,
                Some(CourseEnd::NoRoute),
                text!("no route to {to}", "没有到 {to} 的路由").fill(&[("to", &to)]),
            ),
            Lookup::Refused(route) => (
                CourseFate::Ends,
                Some(CourseEnd::Refused),
                text!("a route of type {kind} takes {to}", "类型为 {kind} 的路由拦下 {to}")
                    .fill(&[("kind", &route.kind), ("to", &to)]),
            ),
            Lookup::RefusedByRule(rule) => (
                CourseFate::Ends,
                Some(CourseEnd::Refused),
                text!("policy rule {priority} refuses {to}", "策略规则 {priority} 拒绝 {to}")
                    .fill(&[("priority", &rule.priority), ("to", &to)]),
            ),
            Lookup::Unknown => {
                let text = text!("the routes could not be read", "无法读取路由").phrase();
                self.unclear = self.unclear.take().or(Some((target.clone(), text.clone())));
                (CourseFate::May, None, text)
            }
        };
        steps.push(step(space, stage, fate, text.clone()));
        if let Some(end) = end {
            return self.ends(end, target, text);
        }
        if last && path.end == way::End::Circles {
            let text = text!("the routes lead in a circle", "路由形成环路").phrase();
            steps.push(step(space, stage, CourseFate::Ends, text.clone()));
            return self.ends(CourseEnd::Circles, target, text);
        }
        let forwards = !hop.incoming.is_empty() && !hop.outgoing.is_empty();
        let name = if to.is_ipv6() { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
        let value = space.after.sysctls.get(name).and_then(|value| value.get());
        if forwards && value.is_some_and(|value| value == "0") {
            let text = text!("{name} is 0", "{name} 为 0").fill(&[("name", &name)]);
            steps.push(step(space, "ip.forward", CourseFate::Ends, text.clone()));
            self.ends(CourseEnd::NotForwarded, target, text);
        }
    }

    /// The neighbour and the queue of the interface by which it leaves.
    fn leave(&mut self, space: Space<'a>, hop: &Hop, steps: &mut Vec<CourseStep>) {
        let Some(link) = hop.outgoing.first().and_then(|index| space.after.link(*index)) else { return };
        let target = space.target().id.clone();
        let hidden = hop.routed.destination.filter(|_| !hop.bridged);
        if let Some(to) = hidden
            && let Lookup::Via(_, next) = hop.lookup(space)
        {
            let ip = next.gateway.unwrap_or(to);
            let known = space.after.neighbours.iter().find(|n| n.link == link.index && n.ip == ip);
            let (fate, text) = match known {
                Some(n) if n.state == "failed" || n.state == "incomplete" => (
                    CourseFate::May,
                    text!("neighbour {ip}: did not answer", "邻居 {ip}：没有应答").fill(&[("ip", &ip)]),
                ),
                Some(n) => (
                    CourseFate::Passes,
                    text!("neighbour {ip}: {mac} ({state})", "邻居 {ip}：{mac}（{state}）").fill(&[
                        ("ip", &ip),
                        ("mac", &n.mac.as_deref().unwrap_or("-")),
                        ("state", &n.state),
                    ]),
                ),
                None => (
                    CourseFate::Passes,
                    text!("neighbour {ip}: not known yet, will be asked for", "邻居 {ip}：尚未知，将会查询")
                        .fill(&[("ip", &ip)]),
                ),
            };
            if fate == CourseFate::May {
                self.unclear = self.unclear.take().or(Some((target.clone(), text.clone())));
            }
            steps.push(step(space, "neighbour", fate, text));
        }
        if !link.up || !link.lower_up {
            let text = text!("{dev} is down", "{dev} 未启用或无载波").fill(&[("dev", &link.name)]);
            steps.push(step(space, "qdisc.transmit", CourseFate::Ends, text.clone()));
            return self.ends(CourseEnd::NoRoute, target, text);
        }
        let route = match hop.lookup(space) {
            Lookup::Via(route, _) => route.mtu,
            _ => None,
        };
        let size = gates::size(space, link, route.filter(|_| !hop.bridged));
        let filters = gates::filtered(space, link, "egress", &hop.late);
        self.pass(space, std::iter::once(size).chain(filters).chain([gates::queue(space, link)]), steps);
    }

    /// Who takes the request.
    fn listener(&mut self, space: Space<'a>, hop: &Hop, steps: &mut Vec<CourseStep>) {
        let (Some(ip), Some(port)) = (hop.routed.destination, hop.routed.destination_port) else { return };
        let kind = match hop.routed.protocol {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => return,
        };
        let target = space.target().id.clone();
        let to = std::net::SocketAddr::new(ip, port);
        if !space.after.sockets.is_present() {
            let text = text!("the sockets could not be read", "无法读取套接字").phrase();
            steps.push(step(space, "socket.lookup", CourseFate::May, text.clone()));
            self.unclear = self.unclear.take().or(Some((target, text)));
            return;
        }
        let socket = space.listeners(kind, port).find(|socket| serves(space, socket, ip));
        let (fate, text) = match socket {
            Some(socket) => {
                let owner = socket.owners.first().map_or("-", |owner| owner.comm.as_str());
                let words: [(&str, &dyn std::fmt::Display); 2] =
                    [("socket", &socket.local), ("owner", &sanitize(owner, 40))];
                let text = text!("{owner} listens on {socket}", "{owner} 在 {socket} 监听");
                (CourseFate::Passes, text.fill(&words))
            }
            None => (
                CourseFate::Ends,
                text!("nothing listens on {to}", "没有程序在 {to} 监听").fill(&[("to", &to)]),
            ),
        };
        steps.push(step(space, "socket.lookup", fate, text.clone()));
        if socket.is_none() {
            self.ends(CourseEnd::NotListening, target, text);
        }
    }

    /// The last word.
    fn ending(self, start: Space<'a>) -> (CourseEnd, String, Phrase) {
        let Self { case, question, end, unclear, .. } = self;
        let arrives = || {
            let way = Way::of(
                0,
                &Translators::of(case),
                start,
                Ends {
                    protocol: question.protocol,
                    source: (None, None),
                    destination: (question.address, question.port),
                },
            );
            let back = way.back.as_ref().is_some_and(|back| back.end == way::End::Arrived);
            let there = way.forward.hops.last().and_then(|hop| case.space_by_inode(hop.inode));
            let target = there.unwrap_or(start).target().id.clone();
            (way.forward.end == way::End::Arrived && back, way.forward.gap, target)
        };
        match (end, unclear) {
            (Some(end), None) => end,
            (Some((_, target, text)), Some((_, doubt))) => {
                let both = text!(
                    "would end here: {end}; before that it may end: {doubt}",
                    "将止于此：{end}；在此之前也可能结束：{doubt}"
                );
                (CourseEnd::Unclear, target, fill_words(both, &[("end", &text), ("doubt", &doubt)]))
            }
            (None, Some((target, doubt))) => {
                let text = text!("may end: {doubt}", "可能结束：{doubt}");
                (CourseEnd::Unclear, target, fill_words(text, &[("doubt", &doubt)]))
            }
            (None, None) => match arrives() {
                (true, false, target) => (
                    CourseEnd::Arrives,
                    target,
                    text!("the request arrives and the answer comes back", "请求到达，应答返回").phrase(),
                ),
                (_, _, target) => (
                    CourseEnd::OutOfSight,
                    target,
                    text!(
                        "leaves what is in view here; what happens further on is not known",
                        "在此离开可见范围；更远处如何未知"
                    )
                    .phrase(),
                ),
            },
        }
    }
}

fn step(space: Space<'_>, stage: &str, fate: CourseFate, text: Phrase) -> CourseStep {
    CourseStep { target: space.target().id.clone(), stage: stage.to_owned(), fate, text, tried: vec![] }
}

/// The same in both languages.
fn same(words: &str) -> Phrase {
    Phrase { en: words.to_owned(), zh: words.to_owned() }
}

/// What a chain says of the packet.
fn words(ending: &Ending<'_>) -> Phrase {
    let chain = ending.base.map_or_else(String::new, |chain| chain.title());
    let what = match &ending.end {
        End::Accept => "accept".to_owned(),
        End::Translated(nat) => nat.kind.word().to_owned(),
        End::Drop => "drop".to_owned(),
        End::Reject => "reject".to_owned(),
        End::Queue(number) => format!("queue {number}"),
        End::Unknown(why) => format!("? ({why})"),
    };
    let via: Vec<String> = ending.via.iter().map(ToString::to_string).collect();
    let via = if via.is_empty() { String::new() } else { format!(" ({})", via.join(", ")) };
    match ending.rule {
        Some(at) => text!("{rule}{via}: {text}: {what}", "{rule}{via}：{text}：{what}").fill(&[
            ("rule", &sanitize(&at.to_string(), MAX_RULE_TEXT)),
            ("via", &sanitize(&via, MAX_RULE_TEXT)),
            ("text", &sanitize(&at.rule.text, MAX_RULE_TEXT)),
            ("what", &sanitize(&what, MAX_RULE_TEXT)),
        ]),
        None => text!("{chain}, policy: {what}", "{chain} 默认策略：{what}")
            .fill(&[("chain", &sanitize(&chain, MAX_RULE_TEXT)), ("what", &sanitize(&what, MAX_RULE_TEXT))]),
    }
}
