//! `tunnel.wrong_remote`: the tunnel sends to an outer address where the other end is not.

use super::{between, misfit};
use crate::coverage::Source;
use crate::culprit::{Culprit, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::route::source_address;
use crate::evidence::segment;
use crate::evidence::tunnel::{Pair, Tunnel};
use crate::fixes::{by_hand, manual};
use crate::loss::Kind;
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::layer2::FdbEntry;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tunnel.wrong_remote",
    title: text!(
        "The tunnel sends to an outer address where the other end is not",
        "隧道发往的外层地址不是对端所在"
    ),
    meaning: text!(
        "One end of a tunnel has a remote address, or a forwarding entry for a station, that belongs to nobody or to somebody without this tunnel.",
        "隧道一端的 remote 地址或某站点的转发表项不属于任何主机，或属于没有该隧道的主机。"
    ),
    seen_by: text!(
        "The other end is in view: it sends here, has the same kind and id, and its namespace does not have the address that is set here.",
        "对端在可见范围内：它发往此处，种类和标识相同，而其命名空间没有此处设置的地址。"
    ),
    why_lost: text!(
        "The outer packets go elsewhere and are discarded there, or are never sent for lack of a neighbour.",
        "外层包去往别处并在那里被丢弃，或因没有邻居而根本发不出。"
    ),
    what_to_do: text!(
        "Set the remote address to one that the other end has.",
        "把 remote 地址改为对端拥有的地址。"
    ),
    when_wrong: text!(
        "When the address that is set is translated on the way to that of the other end.",
        "所设地址在途中被转换为对端地址时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Addresses], judge };

const SUMMARY: Text = text!(
    "{dev} sends to {remote}, but the other end, {there} of {target}, is at {right}.",
    "{dev} 发往 {remote}，而对端（{target} 的 {there}）位于 {right}。"
);
const SETTING: Text = text!(
    "{dev} has the remote address {remote}, which {target} does not have",
    "{dev} 的 remote 地址为 {remote}，而 {target} 没有该地址"
);
const SUMMARY_MISSING: Text = text!(
    "{dev} sends to {remotes}, and not to {right}, where the other end, {there} of {target}, is.",
    "{dev} 发往 {remotes}，而不发往对端（{target} 的 {there}）所在的 {right}。"
);
const LIST: Text = text!(
    "no forwarding entry for everybody on {dev} names {right}",
    "{dev} 上用于所有站点的转发表项中没有 {right}"
);
const APPEND: Text = text!(
    "add the entry: bridge fdb append 00:00:00:00:00:00 dev {dev} dst {right}",
    "添加该表项：bridge fdb append 00:00:00:00:00:00 dev {dev} dst {right}"
);
const SENDS_HERE: Text =
    text!("{there} of {target} sends to this namespace", "{target} 的 {there} 发往本命名空间");
const SUMMARY_ENTRY: Text = text!(
    "{dev} sends the frames for {mac} to {remote}, but that station, {there} of {target}, is at {right}.",
    "{dev} 把发往 {mac} 的帧送到 {remote}，而该站点（{target} 的 {there}）位于 {right}。"
);
const ENTRY: Text = text!(
    "a forwarding entry of {dev} names {remote} for {mac}",
    "{dev} 的一条转发表项为 {mac} 指定了 {remote}"
);
const REPLACE: Text = text!(
    "put the entry right: bridge fdb replace {mac} dev {dev} dst {right} self",
    "改正该表项：bridge fdb replace {mac} dev {dev} dst {right} self"
);
/// The kernel's name for a frame whose sender has a fixed entry with another outer address.
const ELSEWHERE: &str = "VXLAN_ENTRY_EXISTS";
const DO: Text = text!(
    "set the remote address: ip link set {dev} type {kind} remote {right}",
    "修改 remote 地址：ip link set {dev} type {kind} remote {right}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let here = space.links().filter_map(|link| Tunnel::of(space, link));
    let missed = here.flat_map(|here| other_ends(here).into_iter().map(move |there| (here, there)));
    let wrong = missed.filter_map(|(here, there)| Some(culprit(here, there, address_of(there, here)?)));
    wrong.chain(misplaced(space)).chain(misfit::judge(space, &CAUSE)).collect::<Vec<_>>().into()
}

/// Forwarding entries that send the frames for a station of the same tunnel to where it is not.
fn misplaced(space: Space<'_>) -> impl Iterator<Item = Culprit<'_>> {
    let wrong = move |entry: &'_ FdbEntry| {
        let here = Tunnel::of(space, space.after.link(entry.link)?)?;
        let remote = entry.remote.filter(|ip| !ip.is_multicast())?;
        // The end itself, or a station on the bridge that it is a port of.
        let has = |link: &Link| link.mac.as_deref() == Some(entry.mac.as_str());
        let behind = |end: &Tunnel<'_>| segment::reachable(end.space, end.link).iter().any(|(_, l)| has(l));
        let is_it = |end: &Tunnel<'_>| here.is_like(end) && (has(end.link) || behind(end));
        let mut stations = Tunnel::all(space.case).filter(is_it);
        let there = stations.next().filter(|_| stations.next().is_none())?;
        let right = address_of(there, here)?;
        (!there.space.after.owns(remote)).then_some(Misplaced { here, there, remote, right })
    };
    let entries = space.after.fdb.kept().filter_map(move |entry| Some((entry, wrong(entry)?)));
    entries.map(|(entry, found)| found.culprit(entry))
}

/// The station of an entry, with the outer address that the entry has and the one that it should have.
#[derive(Clone, Copy)]
struct Misplaced<'a> {
    here: Tunnel<'a>,
    there: Tunnel<'a>,
    remote: IpAddr,
    right: IpAddr,
}

impl<'a> Misplaced<'a> {
    fn culprit(self, entry: &'a FdbEntry) -> Culprit<'a> {
        let Self { here, there, remote, .. } = self;
        let subject = format!("{} dev {}", entry.mac, here.link.name);
        let mut culprit = between(&CAUSE, here, vec![there]).takes(move |loss| {
            let outer = loss.kind == Kind::Imagined && loss.asks_for() == Some(remote);
            // What the station sends comes from another address than its entry says, and is refused (vxlan_snoop()).
            let refused = loss.is_at_stage("tunnel.receive") && loss.reason() == Some(ELSEWHERE);
            sure(Pair(here, there).is_asked(loss) || (loss.is_in(here.space) && (outer || refused)))
        });
        culprit.subject = subject;
        culprit.tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 6] = [
                ("mac", &entry.mac),
                ("dev", &here.link.name),
                ("remote", &remote),
                ("there", &there.link.name),
                ("target", &there.space.target().id),
                ("right", &self.right),
            ];
            Story::new(SUMMARY_ENTRY.fill(&words))
                .evidence(ENTRY.fill(&words), "fdb", &["bridge", "fdb", "show", "dev", &here.link.name])
                .fix(by_hand(REPLACE.fill(&words)))
        })
    }
}

fn culprit<'a>(here: Tunnel<'a>, there: Tunnel<'a>, right: IpAddr) -> Culprit<'a> {
    let strays = strays(here);
    let wrong = strays.clone();
    let culprit = between(&CAUSE, here, vec![there]).takes(move |loss| {
        // Nobody has to answer for an address that nobody should ask for.
        let asked = loss.asks_for().is_some_and(|ip| wrong.contains(&ip));
        let outer = loss.kind == Kind::Imagined && loss.is_in(here.space) && asked;
        sure(Pair(here, there).is_asked(loss) || outer)
    });
    culprit.tell(move |_| {
        let remotes = here.remotes().map(|ip| ip.to_string()).collect::<Vec<_>>().join(", ");
        let (summary, claim) = match strays.is_empty() {
            true => (SUMMARY_MISSING, LIST),
            false => (SUMMARY, SETTING),
        };
        // What has no stray names the list of its remotes.
        let remote = strays.first().map_or_else(|| remotes.clone(), IpAddr::to_string);
        let words: [(&str, &dyn std::fmt::Display); 7] = [
            ("dev", &here.link.name),
            ("remote", &remote),
            ("remotes", &remotes),
            ("there", &there.link.name),
            ("target", &there.space.target().id),
            ("right", &right),
            ("kind", &here.kind),
        ];
        let (source, show): (_, &[&str]) = match here.link.details.contains_key("remote") {
            true => ("links", &["ip", "-d", "link", "show", "dev", &here.link.name]),
            false => ("fdb", &["bridge", "fdb", "show", "dev", &here.link.name]),
        };
        let set = match here.link.details.contains_key("remote") {
            true => {
                let mut set = manual(DO);
                set.title = DO.fill(&words);
                set
            }
            false => by_hand(APPEND.fill(&words)),
        };
        Story::new(summary.fill(&words))
            .evidence(claim.fill(&words), source, show)
            .evidence(SENDS_HERE.fill(&words), "other end", &[])
            .fix(set)
    })
}

/// Outer addresses to which it sends and where no end of its network is.
fn strays(here: Tunnel<'_>) -> Vec<IpAddr> {
    let known =
        |ip: IpAddr| Tunnel::all(here.space.case).any(|end| here.is_like(&end) && end.space.after.owns(ip));
    here.remotes().filter(|ip| !ip.is_multicast() && !known(*ip)).collect()
}

/// The outer address of an end, as another one should know it.
fn address_of(there: Tunnel<'_>, here: Tunnel<'_>) -> Option<IpAddr> {
    let known = || there.remotes().find(|ip| here.space.after.owns(*ip));
    there.local.or_else(|| source_address(there.space, known().or(there.remote)?))
}

/// Ends that send here and get nothing back, neither from this end nor from another one beside it.
fn other_ends(here: Tunnel<'_>) -> Vec<Tunnel<'_>> {
    let all = || Tunnel::all(here.space.case);
    let served = |end: &Tunnel<'_>| {
        all().any(|other| other.space.same(here.space) && other.is_like(end) && other.sends_to(end))
    };
    let sends = |end: &Tunnel<'_>| end.sends_to(&here) && here.port == end.port;
    let unicast = here.remotes().next().is_some() && !here.remotes().any(|ip| ip.is_multicast());
    let lonely = all().filter(|end| here.is_like(end) && sends(end) && !served(end));
    lonely.filter(|_| unicast).collect()
}
