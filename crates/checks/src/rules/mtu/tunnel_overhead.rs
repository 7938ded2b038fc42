//! `mtu.tunnel_overhead`: what a tunnel adds to each packet does not fit into its path any more.

use super::{IPV6_MINIMUM, TCP, carries_much, is_too_big_for_port};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::translate::Translators;
use crate::evidence::tunnel::Tunnel;
use crate::evidence::way::Way;
use crate::fixes::{by_hand, fix};
use crate::loss::{FORWARD_SKB, Kind, Loss};
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::action::Action;
use whydrop_model::finding::Step;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Fix, NoteStatus, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "mtu.tunnel_overhead",
    title: text!("What a tunnel adds no longer fits into its path", "隧道封装后的包超出路径所能承载"),
    meaning: text!(
        "A tunnel puts each packet into another one, which is larger by 20 to 80 bytes. Either who sends through it does not know and sends packets that the tunnel cannot take, or the tunnel takes packets that do not fit into its own path.",
        "隧道把每个包装进另一个大 20 到 80 字节的包里。要么经由它发送的一方不知情，发出隧道放不下的包；要么隧道接受了自身路径放不下的包。"
    ),
    seen_by: text!(
        "Frames were discarded in front of a bridge port that is a tunnel, because they are larger than its MTU; or the MTU of a tunnel and what it adds are more than an interface on its outer way takes, and big packets through it are lost.",
        "大于隧道 MTU 的帧在作为网桥端口的隧道前被丢弃；或隧道的 MTU 加上封装开销超过其外层路径上某接口的 MTU，且经由它的大包丢失。"
    ),
    why_lost: text!(
        "A bridge cannot cut a frame and tells nobody. An outer packet that may not be cut dies at the narrow hop, and who sent the inner one often hears nothing of it.",
        "网桥无法切分帧，也不会通知任何人。不允许分片的外层包在窄处被丢弃，而内层包的发送方往往得不到通知。"
    ),
    what_to_do: text!(
        "Give who sends through the tunnel the tunnel's MTU, give the tunnel the MTU of its path less what it adds, or let the path carry more.",
        "让经由隧道的发送方使用隧道的 MTU；把隧道的 MTU 设为其路径的 MTU 减去封装开销；或让路径承载更大的包。"
    ),
    when_wrong: text!(
        "A tunnel whose outer packets may be cut, and whose pieces all arrive, loses nothing by being too wide.",
        "若外层包允许分片且分片都能到达，隧道的 MTU 偏大并不会造成丢包。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

/// Header lengths in bytes.
const IPV4: u32 = 20;
const IPV6: u32 = 40;
const ETHERNET: u32 = 14;
const UDP: u32 = 8;
/// VXLAN, and Geneve without options.
const NETWORK_ID: u32 = 8;
/// GRE without key and checksum.
const GRE: u32 = 4;

/// Size alone is no proof that size ails a flow.
const BY_SIZE: f64 = 0.8;
/// A frame between the stations of an Ethernet.
const ORDINARY: u32 = 1500;

/// What the kernel calls a packet that the next link does not take and that may not be cut.
const TOO_BIG: &str = "PKT_TOO_BIG";

const SUMMARY_IN: Text = text!(
    "Frames that should leave by the tunnel {dev} are larger than its MTU of {mtu}.",
    "应从隧道 {dev} 发出的帧大于其 MTU {mtu}。"
);
const SUMMARY_OUT: Text = text!(
    "The tunnel {dev} takes packets of {mtu} bytes; with the {overhead} that it adds they do not fit into its path, which carries {path}.",
    "隧道 {dev} 接受 {mtu} 字节的包；加上 {overhead} 字节的封装后，超过其路径所能承载的 {path} 字节。"
);
const DISCARDED: Text = text!(
    "the bridge {bridge} discarded {n} frames in front of {dev}",
    "网桥 {bridge} 在 {dev} 之前丢弃了 {n} 个帧"
);
const NARROW: Text = text!(
    "{name} of {target}, on the way to {remote}, has an MTU of {path}; {mtu} and {overhead} are {sum}",
    "通往 {remote} 的路径上，{target} 的 {name} 的 MTU 为 {path}；而 {mtu} 加 {overhead} 等于 {sum}"
);
const DIED: Text =
    text!("{n} of its outer packets were too big for a hop", "其 {n} 个外层包对某一跳来说过大");
const WIDE: Text = text!(
    "MTU {mtu} and {overhead} bytes of encapsulation do not fit into the {path} of its path; outer packets are cut, and nothing was lost by that",
    "MTU {mtu} 加 {overhead} 字节的封装超过其路径的 {path}；外层包会被分片，但未因此丢包"
);
const RAISE: Text = text!("raise the MTU of the tunnel to {to}", "把隧道的 MTU 提高到 {to}");
const LOWER: Text = text!("set the MTU of the tunnel to {to}", "把隧道的 MTU 设为 {to}");
const STATIONS: Text = text!(
    "let {name} of {target} send no more than the tunnel takes: an MTU of {to}",
    "让 {target} 的 {name} 发送的包不超过隧道所能承载：MTU 设为 {to}"
);
const DO: Text = text!(
    "give the stations behind the bridge the MTU of the tunnel: ip link set DEV mtu {mtu} in each of them, or for docker: com.docker.network.driver.mtu={mtu}",
    "把网桥后面各主机的 MTU 设为隧道的 MTU：在每台上执行 ip link set DEV mtu {mtu}；docker 则设置 com.docker.network.driver.mtu={mtu}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = Judgement::default();
    for link in space.links().filter(|link| link.up) {
        let Some(tight) = Tight::of(space, link) else { continue };
        if space.losses().any(|loss| is_too_big_for_port(space, link, loss)) {
            judgement.culprits.push(tight.in_front());
        }
        let Some(narrow) = tight.narrow() else { continue };
        let harmed = tight.flows().next().is_some();
        if !harmed && !space.case.losses.iter().any(|loss| tight.is_outer(loss)) {
            let words = tight.words(Some(narrow));
            judgement.note(space, &CAUSE, NoteStatus::Latent, &link.name, fill(WIDE, &words));
        }
        judgement.culprits.push(tight.behind(narrow));
    }
    judgement
}

/// A tunnel, and what it adds.
#[derive(Clone, Copy)]
struct Tight<'a> {
    space: Space<'a>,
    link: &'a Link,
    /// IP protocol of its outer packets.
    protocol: u8,
    remote: IpAddr,
    overhead: u32,
    /// The narrowest interface in view that its outer packets leave by.
    narrowest: (Space<'a>, &'a Link),
}

impl<'a> Tight<'a> {
    fn of(space: Space<'a>, link: &'a Link) -> Option<Self> {
        let tunnel = Tunnel::of(space, link)?;
        let ends = tunnel.ends()?;
        let (remote, _) = ends.destination;
        let header = if remote.is_ipv4() { IPV4 } else { IPV6 };
        let overhead = header
            + match tunnel.kind {
                "vxlan" | "geneve" => UDP + NETWORK_ID + ETHERNET,
                "gre" => GRE,
                "gretap" => GRE + ETHERNET,
                _ => 0,
            };
        let protocol = ends.protocol;
        let way = Way::of(usize::MAX, &Translators::of(space.case), space, ends);
        let leaving =
            way.forward.hops.iter().flat_map(|hop| hop.outgoing.iter().map(|link| (hop.inode, *link)));
        let devices = leaving.filter_map(|(inode, link)| {
            let there = space.case.space_by_inode(inode)?;
            Some((there, there.link(link)?))
        });
        let narrowest = devices.min_by_key(|(_, device)| device.mtu)?;
        Some(Self { space, link, protocol, remote, overhead, narrowest })
    }

    /// The most that fits into its path.
    fn room(self) -> u32 {
        self.narrowest.1.mtu.saturating_sub(self.overhead)
    }

    /// The interface that is too narrow for what the tunnel takes.
    fn narrow(self) -> Option<(Space<'a>, &'a Link)> {
        (self.link.mtu > self.room()).then_some(self.narrowest)
    }

    /// Flows that suffer, carry something big and go through the tunnel.
    fn flows(self) -> impl Iterator<Item = &'a Flow<'a>> {
        self.space.flows_via(self.link.index).filter(|flow| flow.suffers() && carries_much(flow))
    }

    /// An outer packet that a hop found too big.
    fn is_outer(self, loss: &Loss<'_>) -> bool {
        let Some(event) = loss.event.filter(|_| loss.kind != Kind::Imagined) else { return false };
        let to = event.destination.is_some_and(|to| to.ip() == self.remote);
        let big = loss.reason() == Some(TOO_BIG)
            || loss.function().is_some_and(|function| function.starts_with(FORWARD_SKB));
        to && big && event.protocol == Some(self.protocol)
    }

    /// What is too large dies before it comes to the tunnel.
    fn in_front(self) -> Culprit<'a> {
        let Self { space, link, .. } = self;
        Culprit::new(space, &CAUSE, "bridge.forward", Scope::Link, link.name.clone())
            .on(link.index)
            .takes(move |loss| Fit::sure(is_too_big_for_port(space, link, loss)))
            .tell(move |share| {
                let bridge = link.master.map_or_else(String::new, |index| space.after.link_name(index));
                let words: [(&str, &dyn std::fmt::Display); 4] =
                    [("dev", &link.name), ("mtu", &link.mtu), ("bridge", &bridge), ("n", &share.events())];
                let show = ["ip", "-d", "link", "show", "dev", &link.name];
                let story = Story::new(fill(SUMMARY_IN, &words));
                story.evidence(fill(DISCARDED, &words), "drop events", &show).fix(self.widen(&share.flows))
            })
    }

    /// What it makes dies on its way.
    fn behind(self, narrow: (Space<'a>, &'a Link)) -> Culprit<'a> {
        let Self { space, link, .. } = self;
        let seen = space.case.losses.iter().any(|loss| self.is_outer(loss));
        Culprit::new(space, &CAUSE, "link", Scope::Link, link.name.clone())
            .on(link.index)
            .reaches()
            // Who is told that it was too big sends less from then on.
            .needs_harm()
            .at_most(if seen { 1.0 } else { BY_SIZE })
            .takes(move |loss| {
                let missed = loss.kind == Kind::Drop || loss.flow.is_some() || self.flows().next().is_some();
                Fit::sure(missed && self.is_outer(loss))
            })
            .harms(move |flow| {
                let through = flow.suffers() && carries_much(flow) && flow.passes(space, link.index);
                match through {
                    true if seen || (flow.protocol == TCP && flow.lost() > 0) => Fit::Yes,
                    true => Fit::Maybe,
                    false => Fit::No,
                }
            })
            .tell(move |share| {
                let words = self.words(Some(narrow));
                let show = ["ip", "-d", "link", "show", "dev", &link.name];
                let mut story =
                    Story::new(fill(SUMMARY_OUT, &words)).evidence(fill(NARROW, &words), "links", &show);
                if share.events() > 0 {
                    story = story.evidence(DIED.fill(&[("n", &share.events())]), "drop events", &[]);
                }
                story.fix(self.set(LOWER, self.room()))
            })
    }

    /// More room in the tunnel where its path has it; else less in the packets.
    fn widen(self, flows: &[&Flow<'a>]) -> Fix {
        if self.room() >= ORDINARY {
            return self.set(RAISE, ORDINARY);
        }
        let mtu = self.link.mtu.max(IPV6_MINIMUM);
        let mut senders = flows.iter().filter_map(|flow| self.sender(flow));
        match senders.next().filter(|(_, device)| device.mtu > mtu) {
            Some((there, device)) => {
                let target = &there.target().id;
                let title = STATIONS.fill(&[("name", &device.name), ("target", target), ("to", &mtu)]);
                let action = Action::LinkMtu { dev: device.name.clone(), mtu, was: device.mtu };
                fix(there, title, vec![action])
            }
            None => by_hand(DO.fill(&[("mtu", &self.link.mtu)])),
        }
    }

    /// The interface by which a flow's packets begin their way to the tunnel.
    fn sender(self, flow: &Flow<'a>) -> Option<(Space<'a>, &'a Link)> {
        let first = flow.forward.hops.first().filter(|hop| !hop.outer && !hop.bridged)?;
        let there = self.space.case.space_by_inode(first.inode).filter(|there| !there.same(self.space))?;
        Some((there, there.link(*first.outgoing.first()?)?))
    }

    /// Both ends of the tunnel get the MTU, where the other one is in view.
    fn set(self, title: Text, mtu: u32) -> Fix {
        let step = |link: &Link| Action::LinkMtu { dev: link.name.clone(), mtu, was: link.mtu };
        let mut out = fix(self.space, title.fill(&[("to", &mtu)]), vec![step(self.link)]);
        let own = Tunnel::of(self.space, self.link);
        let joined = |other: &Tunnel<'_>| own.is_some_and(|own| own.is_joined_with(other));
        if let Some(other) = Tunnel::all(self.space.case).find(joined).filter(|other| other.link.mtu != mtu) {
            let target = other.space.target().id.clone();
            out.steps.push(Step { target, action: step(other.link) });
        }
        out
    }

    fn words(self, narrow: Option<(Space<'a>, &'a Link)>) -> Vec<(&'static str, String)> {
        let (there, device) = narrow.unwrap_or(self.narrowest);
        vec![
            ("dev", self.link.name.clone()),
            ("mtu", self.link.mtu.to_string()),
            ("overhead", self.overhead.to_string()),
            ("sum", (self.link.mtu + self.overhead).to_string()),
            ("path", device.mtu.to_string()),
            ("name", device.name.clone()),
            ("target", there.target().id.clone()),
            ("remote", self.remote.to_string()),
        ]
    }
}

/// Fills placeholders; those that a text does not have are left out.
fn fill<T: std::fmt::Display>(text: Text, words: &[(&str, T)]) -> Phrase {
    let words: Vec<(&str, &dyn std::fmt::Display)> =
        words.iter().map(|(name, value)| (*name, value as &dyn std::fmt::Display)).collect();
    text.fill(&words)
}
