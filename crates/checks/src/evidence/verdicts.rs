//! What the rule sets of each namespace do to what was lost and to the flows in trouble: each packet is walked once for
//! each hook, for all rules that ask.

use super::case::{Case, Space};
use super::flow::Flow;
use super::packet::{Fit, Packet, State};
use super::route::Selector;
use super::second::{self, Control};
use super::sender;
use super::tracked;
use super::walk::{End, Ending, RuleAt, Rules, Walk};
use super::way::{self, Way};
use crate::loss::missing::Frame;
use crate::loss::{Loss, Standing};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use whydrop_facts::place;
use whydrop_model::DropEvent;
use whydrop_model::netfilter::{Chain, Family, Field, Hook, Rule};

/// SYN (2) and ACK (16) of a TCP header.
const SYN_ACK: u8 = 0x12;
const SYN: u8 = 0x02;
const TCP: u8 = 6;
/// EtherType of ARP.
const ARP: u16 = 0x0806;
/// Walks of one observation; what is beyond is not decided, and says so by its absence.
const MOST_WALKS: usize = 20_000;

/// An ending at a hook.
pub type At<'a> = (Hook, Ending<'a>);

/// The endings of all packets that were asked about.
#[derive(Default)]
pub struct Verdicts<'a> {
    rules: BTreeMap<u64, Rc<Rules<'a>>>,
    of_loss: BTreeMap<usize, Vec<At<'a>>>,
    of_flow: BTreeMap<(u64, usize), Vec<At<'a>>>,
    met: BTreeMap<(u64, usize), Vec<(Hook, Packet)>>,
    odd: BTreeMap<u64, Vec<(Ending<'a>, Oddity<'a>)>>,
}

/// Why a packet met a rule or a policy that it would not have met, or would have passed, in the usual course.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Oddity<'a> {
    /// No.
    None,
    /// It was bridged, and br_netfilter sent it into the IP firewall.
    Bridged,
    /// It was not tracked, by this rule: tracked it would have passed.
    Untracked(RuleAt<'a>),
    /// It is of a second flow that the helper of this control connection would expect.
    Unexpected(Control<'a>),
}

impl<'a> Verdicts<'a> {
    /// Walks the packets that died in netfilter, and those of flows in trouble.
    pub fn of(case: Case<'a>, losses: &[Loss<'a>], flows: &[Flow<'a>]) -> Self {
        let mut out = Self::default();
        let mut walks = 0;
        for space in case.spaces().filter(|space| space.after.chains().next().is_some()) {
            let rules = Rc::new(Rules::of(space.after));
            for flow in flows.iter().filter(|flow| flow.in_trouble() && flow.visits(space)) {
                out.walk_flow(space, &rules, flow, &mut walks);
            }
            for loss in losses.iter().filter(|loss| loss.is_in(space) && loss.is_at_stage("netfilter")) {
                walks += 2;
                if walks < MOST_WALKS {
                    out.walk_loss(space, &rules, loss);
                }
            }
            out.rules.insert(space.inode(), rules);
        }
        out
    }

    fn walk_flow(&mut self, space: Space<'a>, rules: &Rules<'a>, flow: &Flow<'a>, walks: &mut usize) {
        let (mut found, mut met) = (vec![], vec![]);
        for way in flow.ways() {
            self.walk_way(space, rules, flow, way, (&mut found, &mut met), walks);
        }
        self.of_flow.insert((space.inode(), flow.id), found);
        self.met.insert((space.inode(), flow.id), met);
    }

    fn walk_way(
        &mut self,
        space: Space<'a>,
        rules: &Rules<'a>,
        flow: &Flow<'a>,
        way: &Way,
        (found, met): (&mut Vec<At<'a>>, &mut Vec<(Hook, Packet)>),
        walks: &mut usize,
    ) {
        let mut untracked = false;
        let bridging = space.after.chains().any(|chain| chain.family == Family::Bridge);
        let passages = way.passages(space);
        // What all ways of the flow have in common is walked once.
        let known = if way.is(&flow.way) { vec![] } else { flow.passages(space) };
        // Tracking that never saw the request knows nothing of the answer.
        let unseen = way.forward.end == way::End::Arrived && !passages.iter().any(|passage| !passage.back);
        for passage in passages.into_iter().filter(|passage| !known.contains(passage)) {
            for (hook, frame) in passage.frames.iter().filter(|_| bridging) {
                *walks += 1;
                if *walks < MOST_WALKS {
                    let walk = rules.at_bridge(*hook, frame);
                    found.extend(ends(&walk).map(|ending| (*hook, ending.clone())));
                }
            }
            let v6 = passage.hooks.first().and_then(|(_, packet)| packet.is_v6());
            if passage.bridged && !is_sent_to_firewall(space, v6) {
                continue;
            }
            let mut carried = Carried::default();
            if passage.back && (untracked || unseen) {
                carried.state = Some(without_request(flow.protocol));
            }
            for (hook, plain) in passage.hooks {
                *walks += 1;
                if *walks >= MOST_WALKS {
                    break;
                }
                let packet = carried.onto(&plain);
                let walk = rules.at_hook(hook, &packet);
                let endings: Vec<At<'a>> = ends(&walk).map(|ending| (hook, ending.clone())).collect();
                let tracked = State::Untracked == packet.tracked() || passage.back && untracked;
                let oddity = match (passage.bridged, tracked) {
                    (true, _) => Oddity::Bridged,
                    (false, true) => why_untracked(rules, hook, &plain),
                    (false, false) => why_unexpected(space, rules, hook, &plain),
                };
                self.remember(space, &endings, oddity);
                found.extend(endings);
                carried.learn(&walk.packets);
                met.push((hook, packet));
            }
            untracked |= !passage.back && carried.state == Some(State::Untracked);
        }
    }

    fn walk_loss(&mut self, space: Space<'a>, rules: &Rules<'a>, loss: &Loss<'a>) {
        let Some((event, (hooks, plain))) =
            loss.event.and_then(|event| Some((event, dropped(space, event)?)))
        else {
            return;
        };
        let hooks = loss.hook.map_or_else(|| hooks.to_vec(), |hook| vec![hook]);
        let bridged = place::is_bridged(event);
        let (plain, carried) = match bridged {
            true => (as_bridged(space, loss, plain), Carried::default()),
            false => {
                let carried = self.carried(space, loss, &plain);
                let known = |hook: &Hook| carried_before(space, rules, *hook, &plain);
                let carried = carried.or_else(|| hooks.first().and_then(known)).unwrap_or_default();
                (plain, carried)
            }
        };
        let packet = carried.onto(&plain);
        let bridge = loss.is_at_stage("netfilter.bridge");
        let mut found = vec![];
        for hook in hooks {
            let walk = match bridge {
                true => rules.at_bridge(hook, &at_port(hook, event, &packet)),
                false => rules.at_hook(hook, &packet),
            };
            let endings: Vec<At<'a>> = ends(&walk).map(|ending| (hook, ending.clone())).collect();
            let oddity = match (bridged, carried.state) {
                (true, _) => Oddity::Bridged,
                (false, Some(State::Untracked | State::Invalid | State::New)) => {
                    why_untracked(rules, hook, &plain)
                }
                (false, _) => why_unexpected(space, rules, hook, &plain),
            };
            if loss.standing != Standing::Stranger {
                self.remember(space, &endings, oddity);
            }
            found.extend(endings);
        }
        self.of_loss.insert(loss.id, found);
    }

    fn remember(&mut self, space: Space<'a>, endings: &[At<'a>], oddity: Oddity<'a>) {
        let odd = self.odd.entry(space.inode()).or_default();
        odd.extend(endings.iter().map(|(_, ending)| (ending.clone(), oddity)));
    }

    /// What the chains in front of this hook made of the flow to which the packet belongs.
    fn carried(&self, space: Space<'a>, loss: &Loss<'a>, packet: &Packet) -> Option<Carried> {
        let met = self.met.get(&(space.inode(), loss.flow?))?;
        let same = |(hook, known): &&(Hook, Packet)| {
            Some(*hook) == loss.hook
                && (known.source, known.destination) == (packet.source, packet.destination)
        };
        let (_, known) = met.iter().find(same)?;
        Some(Carried { state: known.state, fields: known.fields.clone() })
    }

    /// Why packets meet what they end at, if most of them do so for the same odd reason.
    pub fn oddity(&self, space: Space<'_>, mine: impl Fn(&Ending<'a>) -> bool) -> Oddity<'a> {
        let all = self.odd.get(&space.inode()).into_iter().flatten();
        let reasons: Vec<Oddity<'a>> =
            all.filter(|(ending, _)| mine(ending)).map(|(_, oddity)| *oddity).collect();
        let odd = reasons.iter().copied().find(|reason| *reason != Oddity::None).unwrap_or(Oddity::None);
        let same = reasons.iter().filter(|reason| **reason == odd).count();
        if same * 2 > reasons.len() { odd } else { Oddity::None }
    }

    /// The packets of a flow in trouble as they meet a hook, marked and tracked as the chains before left them.
    pub fn met(&self, space: Space<'_>, flow: usize, hook: Hook) -> impl Iterator<Item = &Packet> {
        let met = self.met.get(&(space.inode(), flow)).into_iter().flatten();
        met.filter(move |(at, _)| *at == hook).map(|(_, packet)| packet)
    }

    /// Where a packet that never came, but is asked for, would end at these hooks of the ARP or the bridge family.
    pub fn of_imagined(
        &self,
        space: Space<'_>,
        loss: &Loss<'_>,
        family: Family,
        hooks: &[Hook],
    ) -> Vec<At<'a>> {
        let Some(rules) = self.rules(space) else { return vec![] };
        let arp = || Packet::default().with(Field::EtherType, u32::from(ARP));
        let packet = match (&loss.frame, family) {
            // Whoever asks or is asked meets ARP's hooks; a bridge between them does not.
            (Some(Frame::Arp { asker, asked }), Family::Arp)
                if asker.iter().chain([asked]).any(|ip| space.after.owns(*ip)) =>
            {
                arp()
            }
            (Some(Frame::Arp { .. }), Family::Bridge) if is_at_bridge(space, loss) => arp(),
            (Some(Frame::Ip(Some(packet))), Family::Bridge)
                if loss.hook.is_none() && is_at_bridge(space, loss) =>
            {
                Packet { in_interface: None, out_interface: None, ..packet.clone() }
            }
            _ => return vec![],
        };
        let walk = |hook: &Hook| match family {
            Family::Bridge => rules.at_bridge(*hook, &packet),
            _ => rules.at_hook(*hook, &packet),
        };
        hooks
            .iter()
            .flat_map(|hook| ends(&walk(hook)).map(|end| (*hook, end.clone())).collect::<Vec<_>>())
            .collect()
    }

    /// The rule sets of a namespace.
    pub fn rules(&self, space: Space<'_>) -> Option<Rc<Rules<'a>>> {
        self.rules.get(&space.inode()).cloned()
    }

    /// Where a loss may have ended.
    pub fn of_loss(&self, loss: &Loss<'_>) -> &[At<'a>] {
        self.of_loss.get(&loss.id).map(Vec::as_slice).unwrap_or(&[])
    }

    /// Where the packets of a flow in trouble may end in this namespace.
    pub fn of_flow(&self, space: Space<'_>, flow: usize) -> &[At<'a>] {
        self.of_flow.get(&(space.inode(), flow)).map(Vec::as_slice).unwrap_or(&[])
    }

    /// Everything that ends packets in this namespace.
    pub fn here(&self, space: Space<'a>) -> impl Iterator<Item = &At<'a>> {
        let lost = space.losses().flat_map(|loss| self.of_loss(loss));
        let inode = space.inode();
        let flows =
            self.of_flow.iter().filter(move |((at, _), _)| *at == inode).flat_map(|(_, endings)| endings);
        lost.chain(flows)
    }
}

/// What chains leave behind in a packet: its state and its marks.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    state: Option<State>,
    fields: BTreeMap<Field, u32>,
}

impl Carried {
    /// The packet with it.
    pub fn onto(&self, packet: &Packet) -> Packet {
        let mut out = packet.clone();
        out.state = self.state.or(out.state);
        out.fields.extend(self.fields.iter().map(|(field, number)| (*field, *number)));
        out
    }

    /// What all shapes behind a hook have in common.
    pub fn learn(&mut self, shapes: &[(Fit, Packet)]) {
        let Some((_, first)) = shapes.first() else { return };
        self.state = match shapes.iter().all(|(_, shape)| shape.state == first.state) {
            true => first.state,
            false => Some(State::Unclear),
        };
        self.fields = first.fields.clone();
        self.fields.retain(|field, number| {
            shapes.iter().all(|(_, shape)| shape.fields.get(field) == Some(&*number))
        });
    }
}

/// The state of an answer whose request was not tracked: TCP begins no connection with it (`tcp_new()`).
const fn without_request(protocol: u8) -> State {
    if protocol == TCP { State::Invalid } else { State::New }
}

/// True if bridged frames of this family are sent through the IP firewall here (br_netfilter).
pub fn is_sent_to_firewall(space: Space<'_>, v6: Option<bool>) -> bool {
    let name = match v6 {
        Some(true) => "net.bridge.bridge-nf-call-ip6tables",
        _ => "net.bridge.bridge-nf-call-iptables",
    };
    space.after.sysctls.get(name).and_then(|value| value.get()).is_some_and(|value| value != "0")
}

/// A bridged packet comes by its bridge and leaves by it.
fn as_bridged(space: Space<'_>, loss: &Loss<'_>, packet: Packet) -> Packet {
    let own = loss.link.and_then(|index| space.after.link(index));
    let bridge = own.map(|link| link.master.unwrap_or(link.index)).map(|index| space.after.link_name(index));
    Packet { in_interface: bridge.clone(), out_interface: bridge, ..packet }
}

/// True for a packet that is asked for at a bridge or at a port of one.
fn is_at_bridge(space: Space<'_>, loss: &Loss<'_>) -> bool {
    let link = loss.link.and_then(|index| space.after.link(index));
    let of_bridge = |index: u32| space.after.link(index).is_some_and(|l| l.kind.as_deref() == Some("bridge"));
    link.is_some_and(|link| link.master.is_some_and(of_bridge) || of_bridge(link.index))
}

/// A packet as a hook of the bridge family meets it. It is at its input port in front of the bridge's decision
/// (`br_handle_frame()`), at its output port behind it (`__br_forward()`), and at the bridge itself when it goes up.
fn at_port(hook: Hook, event: &DropEvent, packet: &Packet) -> Packet {
    let port = event.interface.clone();
    let (in_interface, out_interface) = match hook {
        Hook::Prerouting => (port, None),
        Hook::Forward | Hook::Output | Hook::Postrouting => (None, port),
        _ => (None, None),
    };
    Packet { in_interface, out_interface, ..packet.clone() }
}

/// What the first hook of the packet's way leaves behind; or where its request was not tracked at the first hook of
/// that, what follows for the answer.
fn carried_before(space: Space<'_>, rules: &Rules<'_>, hook: Hook, packet: &Packet) -> Option<Carried> {
    let own = |ip: Option<IpAddr>| ip.is_some_and(|ip| space.after.owns(ip));
    let first = |packet: &Packet| if own(packet.source) { Hook::Output } else { Hook::Prerouting };
    let mut carried = Carried::default();
    let entry = first(packet);
    if entry != hook && matches!(hook, Hook::Input | Hook::Forward | Hook::Postrouting) {
        carried.learn(&rules.at_hook(entry, packet).packets);
    }
    let request = packet.answer();
    let asked = rules.at_hook(first(&request), &Packet { reply: false, ..request }).packets;
    let untracked = !asked.is_empty() && asked.iter().all(|(_, p)| p.state == Some(State::Untracked));
    if untracked && carried.state.is_none() {
        carried.state = Some(without_request(packet.protocol));
    }
    Some(carried)
}

/// The rule that takes the packet out of tracking, if the packet would pass this hook as part of a tracked connection.
fn why_untracked<'a>(rules: &Rules<'a>, hook: Hook, packet: &Packet) -> Oddity<'a> {
    let answers = [false, true].map(|reply| Packet { reply, state: None, ..packet.clone() });
    let passes = answers.iter().any(|packet| rules.at_hook(hook, packet).losses().next().is_none());
    match rules.untracking(packet).filter(|_| passes) {
        Some(at) => Oddity::Untracked(at),
        None => Oddity::None,
    }
}

/// The control connection to which the packet's flow belongs, if the packet would pass this hook as related to it.
fn why_unexpected<'a>(space: Space<'a>, rules: &Rules<'a>, hook: Hook, packet: &Packet) -> Oddity<'a> {
    let (Some(source), Some(destination), Some(port)) =
        (packet.source, packet.destination, packet.destination_port)
    else {
        return Oddity::None;
    };
    let from = SocketAddr::new(source, packet.source_port.unwrap_or(0));
    let mut controls = tracked::entries(space).filter_map(second::control);
    let mine = controls.find(|c| c.is_second(packet.protocol, from, SocketAddr::new(destination, port)));
    let related = || {
        let packet = Packet { state: Some(State::Related), ..packet.clone() };
        rules.at_hook(hook, &packet).losses().next().is_none()
    };
    match mine.filter(|_| related()) {
        Some(control) => Oddity::Unexpected(control),
        None => Oddity::None,
    }
}

/// Endings of a walk that cost the packet, or may.
fn ends<'w, 'a>(walk: &'w Walk<'a>) -> impl Iterator<Item = &'w Ending<'a>> {
    walk.endings().filter(|ending| ending.end.is_loss() || matches!(ending.end, End::Queue(_)))
}

/// A dropped packet as rules see it, with the hooks at which its addresses say that it can have been.
pub fn dropped(space: Space<'_>, event: &DropEvent) -> Option<([Hook; 2], Packet)> {
    if event.ethertype == Some(ARP) {
        let packet = Packet { in_interface: event.interface.clone(), ..Packet::default() };
        return Some(([Hook::Input, Hook::Output], packet.with(Field::EtherType, u32::from(ARP))));
    }
    let (from, to) = (event.source?, event.destination?);
    let hooks = match (space.after.owns(from.ip()), space.after.owns(to.ip())) {
        (_, true) => [Hook::Input, Hook::Prerouting],
        (true, false) => [Hook::Output, Hook::Postrouting],
        (false, false) => [Hook::Forward, Hook::Prerouting],
    };
    let port = |port: u16| matches!(event.protocol, Some(6 | 17)).then_some(port);
    let packet = Packet {
        protocol: event.protocol.unwrap_or(0),
        source: Some(from.ip()),
        destination: Some(to.ip()),
        source_port: port(from.port()),
        destination_port: port(to.port()),
        in_interface: event.interface.clone().filter(|_| space.after.owns(to.ip())),
        out_interface: None,
        // A SYN without ACK opens; anything else is taken for an answer.
        reply: event.tcp_flags.is_some_and(|flags| flags & SYN_ACK != SYN),
        ..Packet::default()
    };
    Some((hooks, packet))
}

/// What policy rules may ask of a dropped packet: what it is, and the mark that rule sets give it where one is asked for.
pub fn selector(space: Space<'_>, event: &DropEvent, made_here: bool) -> Selector {
    let Some((_, packet)) = dropped(space, event) else { return Selector::default() };
    let plain = Selector::of(&packet);
    let marked = space.after.policy_rules.iter().any(|rule| rule.fwmark.is_some());
    let of_users =
        || space.after.policy_rules.iter().flat_map(|r| &r.conditions).any(|c| c.starts_with("uidrange"));
    let asked = made_here && (marked || of_users());
    let sender = if asked { sender::of_event(space, event) } else { Default::default() };
    let rules = space.case.verdicts.filter(|_| marked).and_then(|verdicts| verdicts.rules(space));
    let hook = if made_here { Hook::Output } else { Hook::Prerouting };
    let mark = rules.and_then(|rules| rules.mark(hook, &packet));
    Selector { mark: mark.or(sender.mark), uid: sender.uid, tos: type_of_service(event), ..plain }
}

/// The type of service of a dropped packet: the second byte of an IPv4 header, the traffic class of an IPv6 one.
fn type_of_service(event: &DropEvent) -> Option<u8> {
    let [first, second] = *event.packet.first_chunk()?;
    match first >> 4 {
        4 => Some(second),
        6 => Some(first << 4 | second >> 4),
        _ => None,
    }
}

/// The best fit of endings that one rule brings about.
pub fn fit_of_rule(endings: &[At<'_>], rule: &Rule) -> Fit {
    let mine = endings.iter().filter(|(_, ending)| ending.rules().any(|at| std::ptr::eq(at.rule, rule)));
    mine.map(|(_, ending)| ending.fit).max().unwrap_or(Fit::No)
}

/// The best fit of endings at a chain's policy.
pub fn fit_of_policy(endings: &[At<'_>], chain: &Chain) -> Fit {
    let here =
        |ending: &Ending<'_>| ending.is_policy() && ending.base.is_some_and(|base| std::ptr::eq(base, chain));
    endings.iter().filter(|(_, ending)| here(ending)).map(|(_, ending)| ending.fit).max().unwrap_or(Fit::No)
}
