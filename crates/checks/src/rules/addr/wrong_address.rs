//! `addr.wrong_address`: an interface has another address than the one its peers use.

use super::{Wanted, each, unanswered};
use crate::coverage::Source;
use crate::culprit::{Culprit, Story};
use crate::evidence::case::Space;
use crate::fixes::manual;
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "addr.wrong_address",
    title: text!("An interface has another address than the one its peers use", "接口的地址与对端所用的不同"),
    meaning: text!(
        "Peers ask for an address that the interface had before, or that its programs are bound to; it has another one now.",
        "对端查询的地址是该接口以前拥有的，或其程序所绑定的；而它现在是另一个地址。"
    ),
    seen_by: text!(
        "Nobody in view has the address that is asked for, and something says that it belongs to this interface: it had it at the start of the window, the asker still knows its MAC address by it, or a socket here is bound to it.",
        "可见范围内无人拥有被查询的地址，且有迹象表明它属于该接口：窗口开始时它拥有该地址，查询方仍以该地址记录其 MAC，或此处有套接字绑定在该地址上。"
    ),
    why_lost: text!(
        "The interface does not answer for an address that it does not have, and discards what is sent to it.",
        "接口不会为自己没有的地址应答，并丢弃发往该地址的包。"
    ),
    what_to_do: text!(
        "Give the interface the address that its peers use, or tell them the new one (DNS, configuration).",
        "把接口改回对端所用的地址，或把新地址告知对端（DNS、配置）。"
    ),
    when_wrong: text!(
        "When the address moved elsewhere on purpose, out of sight.",
        "地址被有意迁移到可见范围之外时。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Addresses, Source::Links, Source::Neighbours], judge };

const SUMMARY: Text =
    text!("{asker} sends to {ip}, but {dev} has {own}.", "{asker} 发往 {ip}，而 {dev} 的地址是 {own}。");
const HAD: Text = text!("{dev} had {ip} at the start of the window", "窗口开始时 {dev} 的地址是 {ip}");
const KNOWN: Text =
    text!("{asker} knows {ip} by the MAC address of {dev}", "{asker} 记录的 {ip} 的 MAC 地址正是 {dev} 的");
const BOUND: Text =
    text!("a socket here is bound to {ip}, which nobody has", "此处有套接字绑定在无人拥有的 {ip} 上");
const DO: Text = text!(
    "give the interface the address that its peers use (ip addr add {ip}/PREFIX dev {dev}), or tell them the new one",
    "为接口配置对端所用的地址（ip addr add {ip}/PREFIX dev {dev}），或把新地址告知对端"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let found = each(space, |link, wanted| {
        let near = |ip: &IpAddr| ip.is_ipv4() == wanted.ip.is_ipv4();
        let mut own = space.after.addresses.iter().filter(|a| a.link == link.index).map(|a| a.ip);
        let own = own.find(near)?;
        let signs = signs(space, link, wanted);
        (!signs.is_empty()).then(|| culprit(space, link, wanted, own, signs))
    });
    found.into()
}

/// What says that the address belongs to this interface, each with its source.
fn signs(space: Space<'_>, link: &Link, wanted: Wanted<'_>) -> Vec<(Phrase, &'static str)> {
    let Wanted { ip, asker, by } = wanted;
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("ip", &ip), ("dev", &link.name), ("asker", &asker.target().id)];
    let had = space.before.addresses.iter().any(|a| a.link == link.index && a.ip == ip);
    let mut entries = asker.after.neighbours.iter().chain(asker.before.neighbours.iter());
    let known = entries.any(|n| n.link == by.index && n.ip == ip && n.mac.is_some() && n.mac == link.mac);
    let bound = space.after.sockets.iter().any(|socket| socket.local.ip() == ip);
    let signs = [(had, HAD, "two readings"), (known, KNOWN, "neighbours"), (bound, BOUND, "sockets")];
    let seen = signs.into_iter().filter(|(holds, ..)| *holds);
    seen.map(|(_, text, source)| (text.fill(&words), source)).collect()
}

fn culprit<'a>(
    space: Space<'a>,
    link: &'a Link,
    wanted: Wanted<'a>,
    own: IpAddr,
    signs: Vec<(Phrase, &'static str)>,
) -> Culprit<'a> {
    unanswered(space, &CAUSE, link, wanted).tell(move |_| {
        let words: [(&str, &dyn std::fmt::Display); 4] =
            [("asker", &wanted.asker.target().id), ("ip", &wanted.ip), ("dev", &link.name), ("own", &own)];
        let mut fix = manual(DO);
        fix.title = DO.fill(&words);
        let story = Story::new(SUMMARY.fill(&words)).fix(fix);
        let show = ["ip", "addr", "show", "dev", &link.name];
        signs.iter().fold(story, |story, (claim, source)| story.evidence(claim.clone(), source, &show))
    })
}
