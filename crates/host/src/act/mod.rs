//! Changes to a namespace, and the way back.
//!
//! Every change first checks that the machine is still as the action says it was seen, then tells how it can be
//! taken back, and only then happens. What cannot be taken back exactly is refused. Changes go over netlink and
//! /proc/sys; only legacy iptables, and rules of iptables with parts that whydrop does not write itself, are handed
//! to their own tools, as lists of arguments. Nothing is ever given to nft's parser.

mod address;
mod bridge_port;
mod chain;
mod encode;
mod exception;
mod journal;
mod legacy;
mod link;
mod look;
mod nftables;
mod own_rule;
mod place;
mod policy_rule;
mod qdisc;
mod qdisc_options;
mod route;
mod rule;
mod sysctl;
mod tool;
mod transaction;
mod worker;

pub use encode::rule;
pub use journal::{Journal, Listing, Progress, Record, State, Undoing};
pub use own_rule::OwnSet;
pub use place::Identity;
pub use transaction::{Outcome, TakenBack, Transaction, reachable};

use self::own_rule::OwnRule;
use crate::error::{Error, Result};
use crate::sys::netlink::Netlink;
use crate::sys::netns::Netns;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use whydrop_model::Action;
use whydrop_model::snapshot::Link;
use whydrop_model::{Phrase, text};

/// One step of the way back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// What to do.
    pub action: Action,
    /// The thing to be put back as the kernel showed it, in hexadecimal: expressions of a rule, options of a qdisc,
    /// a route's or an address's message. For a legacy rule the text of its tool. None if the action says it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// Sets that went with the rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<OwnSet>,
    /// For a rule: how many of its chain were like it before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twins: Option<usize>,
    /// Handle of the rule in front of which a deleted one stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl Undo {
    fn plain(action: Action) -> Self {
        Self { action, raw: None, sets: vec![], twins: None, next: None }
    }

    fn raw(action: Action, bytes: &[u8]) -> Self {
        Self { raw: Some(to_hex(bytes)), ..Self::plain(action) }
    }

    fn rule(action: Action, own: OwnRule) -> Self {
        Self { sets: own.sets, ..Self::raw(action, &own.attributes) }
    }

    /// The rule of nf_tables that this puts back, if it is one.
    fn own_rule(&self) -> Result<Option<OwnRule>> {
        let attributes = self.raw.as_deref().map(from_hex).transpose()?;
        Ok(attributes.map(|attributes| OwnRule { attributes, sets: self.sets.clone() }))
    }
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// The way back, in order; empty if everything was already as wanted.
    pub undo: Vec<Undo>,
}

/// Told the way back right before a change, so that it can be written down; an error stops the change.
pub(crate) type Announce<'a> = dyn FnMut(&[Undo]) -> Result<()> + Send + 'a;

/// Makes a change in a namespace.
pub fn apply(netns: &Netns, action: &Action) -> Result<Done> {
    Ok(Done { undo: netns.run(|| perform(action, None, &mut |_| Ok(())))?? })
}

/// Goes as far as right before the change: an error says why it would be refused, be it that the machine is not as the
/// action says, be it that the change could not be taken back exactly.
pub fn rehearse(netns: &Netns, action: &Action) -> Result<()> {
    let mut ready = false;
    let mut announce = |_: &[Undo]| {
        ready = true;
        // Any error ends it here.
        Err(changed("", &text!("only rehearsed", "仅为预演").phrase()))
    };
    let done = netns.run(|| perform(action, None, &mut announce))?;
    if ready { Ok(()) } else { done.map(drop) }
}

/// Takes a change back, unless all is as before already.
pub fn take_back(netns: &Netns, undo: &Undo) -> Result<()> {
    netns.run(|| match look::as_before(undo)? {
        true => Ok(()),
        false => perform(&undo.action, Some(undo), &mut |_| Ok(())).map(drop),
    })?
}

/// Makes a change in the calling thread's namespace; with `back` the change is that step of the way back.
fn perform(action: &Action, back: Option<&Undo>, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let raw = back.and_then(|undo| undo.raw.as_deref());
    match action {
        Action::LinkState { dev, up } => link::state(dev, *up, announce),
        Action::LinkMtu { dev, mtu, was } => link::mtu(dev, *mtu, *was, announce),
        Action::BridgePort { dev, setting, value, was } => {
            bridge_port::set(dev, setting, value, was, announce)
        }
        Action::QdiscAdd(spec) => qdisc::add(spec, raw, announce),
        Action::QdiscDelete(spec) => qdisc::delete(spec, back, announce),
        Action::ChainAdd { chain, hook, policy } => chain::add(chain, *hook, policy.as_ref(), announce),
        Action::ChainDelete { chain, hook, .. } => chain::delete(chain, *hook, announce),
        Action::ChainPolicy { chain, policy, was } => chain::policy(chain, policy, was, announce),
        Action::RuleInsert(rule) => rule::insert(rule, back, announce),
        Action::RuleDelete(rule) => rule::delete(rule, back, announce),
        Action::Exception(exception) => exception::add(exception, announce),
        Action::Sysctl { name, value, was } => sysctl::write(name, value, was, announce),
        Action::RouteAdd(spec) => route::add(spec, raw, announce),
        Action::RouteDelete(spec) => route::delete(spec, announce),
        Action::PolicyRuleAdd { rule } => policy_rule::add(rule, raw, announce),
        Action::PolicyRuleDelete { rule } => policy_rule::delete(rule, announce),
        Action::AddressAdd { dev, ip, prefix } => address::add(dev, *ip, *prefix, raw, announce),
        Action::AddressDelete { dev, ip, prefix } => address::delete(dev, *ip, *prefix, announce),
        Action::NeighbourAdd { dev, ip, mac } => address::neighbour_add(dev, *ip, mac, announce),
        Action::NeighbourDelete { dev, ip, mac } => address::neighbour_delete(dev, *ip, mac, announce),
    }
}

/// The machine is not as the action says.
fn changed(object: impl Into<Phrase>, how: &Phrase) -> Error {
    Error::new(
        text!("change {object}", "改动 {object}"),
        object,
        text!("it changed since it was seen: {how}", "它与所见时不同：{how}").with(&[("how", how)]),
    )
}

/// The way back would not be exact.
fn no_way_back(object: impl Into<Phrase>, why: &Phrase) -> Error {
    Error::new(
        text!("change {object}", "改动 {object}"),
        object,
        text!("it could not be put back: {why}", "它无法恢复原状：{why}").with(&[("why", why)]),
    )
}

/// The interface of this name.
fn find_link(netlink: &mut Netlink, dev: &str) -> Result<Link> {
    let found =
        crate::source::link::read(netlink)?.into_iter().map(|found| found.link).find(|l| l.name == dev);
    found.ok_or_else(|| {
        Error::new(
            text!("find the interface {object}", "找到接口 {object}"),
            dev,
            text!("there is none of this name", "没有这个名称的接口").phrase(),
        )
    })
}

fn to_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    HEXLOWER.decode(text.as_bytes()).map_err(|_| {
        Error::new(
            text!("take back {object}", "撤销{object}"),
            text!("a change", "改动"),
            text!("its record is damaged", "它的记录已损坏").phrase(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_comes_back_and_damage_is_an_error() {
        assert_eq!(from_hex(&to_hex(&[0, 0x7f, 0xff])).unwrap(), [0, 0x7f, 0xff]);
        assert!(from_hex("0").is_err() && from_hex("zz").is_err());
    }
}
