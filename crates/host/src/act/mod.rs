//! Changes to a namespace, and the way back.
//!
//! Every change first checks that the machine is still as the action says it was seen, then tells how it can be
//! taken back, and only then happens. What cannot be taken back exactly is refused. Changes go over netlink and
//! /proc/sys; only legacy iptables, and nf_tables rules whose parts whydrop does not write itself, are handed to
//! their own tools.

mod address;
mod chain;
mod encode;
mod journal;
mod link;
mod nftables;
mod policy_rule;
mod qdisc;
mod qdisc_options;
mod route;
mod rule;
mod sysctl;
mod tool;
mod transaction;

pub use encode::rule;
pub use journal::{Journal, Record, State, Undoing};
pub use transaction::Transaction;

use crate::error::{Error, Result};
use crate::sys::netlink::Netlink;
use crate::sys::netns::Netns;
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
}

impl Undo {
    fn plain(action: Action) -> Self {
        Self { action, raw: None }
    }

    fn raw(action: Action, bytes: &[u8]) -> Self {
        Self { action, raw: Some(to_hex(bytes)) }
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
    announced(netns, action, &mut |_| Ok(()))
}

/// Makes a change; `announce` is told how it can be taken back before it happens.
pub(crate) fn announced(netns: &Netns, action: &Action, announce: &mut Announce<'_>) -> Result<Done> {
    Ok(Done { undo: netns.run(|| perform(action, None, announce))?? })
}

/// Takes a change back.
pub fn take_back(netns: &Netns, undo: &Undo) -> Result<Done> {
    Ok(Done { undo: netns.run(|| perform(&undo.action, undo.raw.as_deref(), &mut |_| Ok(())))?? })
}

/// Makes a change in the calling thread's namespace.
fn perform(action: &Action, raw: Option<&str>, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    match action {
        Action::LinkState { dev, up } => link::state(dev, *up, announce),
        Action::LinkMtu { dev, mtu, was } => link::mtu(dev, *mtu, *was, announce),
        Action::QdiscAdd(spec) => qdisc::add(spec, raw, announce),
        Action::QdiscDelete(spec) => qdisc::delete(spec, announce),
        Action::ChainAdd { chain, hook, policy } => chain::add(chain, *hook, policy.as_ref(), announce),
        Action::ChainDelete { chain, hook, .. } => chain::delete(chain, *hook, announce),
        Action::ChainPolicy { chain, policy, was } => chain::policy(chain, policy, was, announce),
        Action::RuleInsert(rule) => rule::insert(rule, raw, announce),
        Action::RuleDelete(rule) => rule::delete(rule, announce),
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
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0);
    let digits = digits.ok_or_else(|| {
        Error::new(
            text!("take back {object}", "撤销{object}"),
            text!("a change", "改动"),
            text!("its record is damaged", "它的记录已损坏").phrase(),
        )
    })?;
    Ok(digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8))
        .collect())
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
