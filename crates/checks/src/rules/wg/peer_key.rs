//! `wg.peer_key`: WireGuard's two ends do not know each other's keys.

use super::{devices, inner, peer_of, peers};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use whydrop_model::snapshot::{Link, WireguardPeer};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "wg.peer_key",
    title: text!("WireGuard's two ends do not know each other's keys", "WireGuard 两端互不认识对方的密钥"),
    meaning: text!(
        "The public key that one end has of the other is not the one that the other uses.",
        "一端所记录的对端公钥与对端实际使用的不同。"
    ),
    seen_by: text!(
        "Both ends are in view: the peer's endpoint is an address of a namespace whose WireGuard device has another key, or does not have this end's key among its peers; no handshake came about.",
        "两端都在可见范围内：对端的 endpoint 是某命名空间的地址，而其 WireGuard 设备使用另一个密钥，或其对端中没有本端的密钥；握手从未成功。"
    ),
    why_lost: text!(
        "A handshake that does not fit is discarded in silence, and without one nothing is sent; packets wait in a short queue and are dropped.",
        "不匹配的握手会被静默丢弃，没有握手就什么也发不出；包在短队列中等待后被丢弃。"
    ),
    what_to_do: text!(
        "Compare `wg show DEV public-key` of each end with the peer entry of the other, and put the right key in.",
        "把每一端的 `wg show DEV public-key` 与另一端的对端条目比较，并填入正确的密钥。"
    ),
    when_wrong: text!(
        "When the endpoint's port is forwarded to another machine.",
        "endpoint 的端口被转发到另一台机器时。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Links, Source::Addresses, Source::Wireguard], judge };

const SUMMARY: Text = text!(
    "{dev} and {there} of {target} do not have each other's keys: no handshake comes about.",
    "{dev} 与 {target} 的 {there} 没有对方的密钥：握手无法成功。"
);
const KEEPS: Text =
    text!("{dev} of {holder} expects the key {key} of its peer", "{holder} 的 {dev} 认为对端的密钥是 {key}");
const UNKNOWN: Text =
    text!("{dev} of {holder} has no peer with the key {key}", "{holder} 的 {dev} 没有密钥为 {key} 的对端");
const OWN: Text = text!("{dev} of {holder} has the key {key}", "{holder} 的 {dev} 的密钥是 {key}");
const REPLACE: Text = text!(
    "put the right key in: wg set {dev} peer {key} remove, and wg set {dev} peer {right} with the same endpoint and allowed-ips",
    "填入正确的密钥：wg set {dev} peer {key} remove，再以相同的 endpoint 和 allowed-ips 执行 wg set {dev} peer {right}"
);
const ENTER: Text = text!(
    "enter this end's key there, on {dev}: wg set {dev} peer {right} allowed-ips ADDRESS/PREFIX",
    "在对方的 {dev} 上填入本端的密钥：wg set {dev} peer {right} allowed-ips 地址/前缀"
);

/// Two ends that do not know each other.
#[derive(Clone, Copy)]
struct Strangers<'a> {
    space: Space<'a>,
    device: &'a Link,
    peer: &'a WireguardPeer,
    there: Space<'a>,
    far: &'a Link,
    /// Key of the other end, if it could be read.
    far_key: Option<&'a str>,
    /// The other end knows this one's key.
    is_known_there: bool,
}

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut out = vec![];
    for device in devices(space) {
        for peer in peers(space, device).filter(|peer| peer.last_handshake_s.is_none()) {
            let Some(pair) = strangers(space, device, peer) else { continue };
            if is_told_here(pair) {
                out.push(culprit(pair));
            }
        }
    }
    out.into()
}

fn strangers<'a>(space: Space<'a>, device: &'a Link, peer: &'a WireguardPeer) -> Option<Strangers<'a>> {
    let endpoint = peer.endpoint?;
    let there = space.case.owners(endpoint.ip()).find(|there| !there.same(space))?;
    there.after.wireguard.get()?;
    let mut ends = devices(there).filter(|far| {
        // Without peers its port is not told.
        let port = peers(there, far).next().map(|peer| peer.listen_port);
        port.is_none_or(|port| port == endpoint.port())
    });
    let far = ends.next().filter(|_| ends.next().is_none())?;
    let far_key = peers(there, far).find_map(|peer| peer.own_key.as_deref());
    let is_known_there = peers(there, far).any(|back| Some(&back.public_key) == peer.own_key.as_ref());
    let expected = far_key.is_none_or(|key| key == peer.public_key);
    (!expected || !is_known_there).then_some(Strangers {
        space,
        device,
        peer,
        there,
        far,
        far_key,
        is_known_there,
    })
}

/// Told by the end that has a wrong key, if it sends by itself; of two by the one that speaks for both.
fn is_told_here(pair: Strangers<'_>) -> bool {
    let Strangers { space, peer, there, far, .. } = pair;
    let wrong = pair.far_key.is_some_and(|key| key != peer.public_key);
    let sends_back = peers(there, far).any(|back| {
        back.last_handshake_s.is_none() && back.endpoint.is_some_and(|to| space.after.owns(to.ip()))
    });
    match (wrong, pair.is_known_there) {
        (true, true) => true,
        (true, false) => space.speaks_for(there) || !sends_back,
        (false, _) => !sends_back,
    }
}

impl<'a> Strangers<'a> {
    /// True for a flow whose packets are to pass between the two.
    fn part(&self, flow: &Flow<'a>) -> bool {
        let at = |space: Space<'a>, device: &Link, mine: &dyn Fn(&WireguardPeer) -> bool| {
            let all = inner(flow, space, device);
            all.into_iter().filter_map(|ip| peer_of(space, device, ip)).any(mine)
        };
        flow.suffers()
            && (at(self.space, self.device, &|peer| peer.public_key == self.peer.public_key)
                || at(self.there, self.far, &|peer| {
                    peer.endpoint.is_some_and(|to| self.space.after.owns(to.ip()))
                }))
    }
}

fn culprit(pair: Strangers<'_>) -> Culprit<'_> {
    let Strangers { space, device, there, far, .. } = pair;
    Culprit::new(space, &CAUSE, "tunnel.transmit", Scope::Link, device.name.clone())
        .direction(Direction::Transmit)
        .on(device.index)
        .reaches()
        .takes(move |loss| sure(loss.is_at(space, device.index) || loss.is_at(there, far.index)))
        .harms(move |flow| sure(pair.part(flow)))
        .tell(move |_| story(pair))
}

fn story(pair: Strangers<'_>) -> Story {
    let Strangers { space, device, peer, there, far, far_key, is_known_there } = pair;
    let own = peer.own_key.as_deref().unwrap_or("?");
    let summary =
        SUMMARY.fill(&[("dev", &device.name), ("there", &far.name), ("target", &there.target().id)]);
    let mut story = Story::new(summary);
    if let Some(key) = far_key.filter(|key| *key != peer.public_key) {
        let keeps = [
            ("dev", &device.name as &dyn std::fmt::Display),
            ("holder", &space.target().id),
            ("key", &peer.public_key),
        ];
        let has =
            [("dev", &far.name as &dyn std::fmt::Display), ("holder", &there.target().id), ("key", &key)];
        story = story
            .evidence(KEEPS.fill(&keeps), "wireguard", &["wg", "show", &device.name, "peers"])
            .evidence(OWN.fill(&has), "other end", &[])
            .fix(by_hand(REPLACE.fill(&[("dev", &device.name), ("key", &peer.public_key), ("right", &key)])));
    }
    if !is_known_there {
        let lacks =
            [("dev", &far.name as &dyn std::fmt::Display), ("holder", &there.target().id), ("key", &own)];
        story = story
            .evidence(UNKNOWN.fill(&lacks), "other end", &[])
            .fix(by_hand(ENTER.fill(&[("dev", &far.name), ("right", &own)])));
    }
    story
}
