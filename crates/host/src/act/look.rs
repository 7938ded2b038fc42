//! Looks whether the machine is already as a step of the way back would make it, so that no step is made twice,
//! whoever made it and wherever a crash fell.

use super::nftables::{Tables, is_nft};
use super::{Undo, address, bridge_port, chain, find_link, legacy, policy_rule, qdisc, route, rule, sysctl};
use crate::error::Result;
use crate::sys::netlink::Netlink;
use whydrop_model::Action;
use whydrop_model::action::RuleRef;

/// True if nothing is left to be done for this step. In the calling thread's namespace.
pub(super) fn as_before(undo: &Undo) -> Result<bool> {
    match &undo.action {
        Action::LinkState { dev, up } => Ok(find_link(&mut Netlink::route()?, dev)?.up == *up),
        Action::LinkMtu { dev, mtu, .. } => Ok(find_link(&mut Netlink::route()?, dev)?.mtu == *mtu),
        Action::BridgePort { dev, setting, value, .. } => bridge_port::stands(dev, setting, value),
        Action::QdiscAdd(spec) => qdisc::stands(spec),
        Action::QdiscDelete(spec) => Ok(!qdisc::stands(spec)?),
        Action::ChainAdd { chain, .. } => chain::exists(chain),
        Action::ChainDelete { chain, .. } => Ok(!chain::exists(chain)?),
        Action::ChainPolicy { chain, policy, .. } => Ok(chain::find(chain)?.policy.as_ref() == Some(policy)),
        Action::RuleInsert(rule) => came_back(rule, undo),
        Action::RuleDelete(rule) => went(rule, undo),
        Action::Exception(exception) => Ok(!went(&exception.as_rule(), undo)?),
        Action::Sysctl { name, value, .. } => sysctl::is(name, value),
        Action::RouteAdd(spec) => route::stands(spec),
        Action::RouteDelete(spec) => Ok(!route::stands(spec)?),
        Action::PolicyRuleAdd { rule } => policy_rule::stands(rule),
        Action::PolicyRuleDelete { rule } => Ok(!policy_rule::stands(rule)?),
        Action::AddressAdd { dev, ip, prefix } => address::stands(dev, *ip, *prefix),
        Action::AddressDelete { dev, ip, prefix } => Ok(!address::stands(dev, *ip, *prefix)?),
        Action::NeighbourAdd { dev, ip, mac } => address::neighbour_stands(dev, *ip, mac),
        Action::NeighbourDelete { dev, ip, mac } => Ok(!address::neighbour_stands(dev, *ip, mac)?),
    }
}

/// A deleted rule is back, or never went, if as many rules as then do what it does.
fn came_back(rule: &RuleRef, undo: &Undo) -> Result<bool> {
    let Some(wanted) = undo.twins else { return Ok(false) };
    if is_nft(rule.chain.tool) {
        let Some(own) = undo.own_rule()? else { return Ok(false) };
        return Ok(Tables::open()?.twins(&rule.chain, &own)? >= wanted);
    }
    let Some(words) = &undo.raw else { return Ok(false) };
    Ok(legacy::lines(&rule.chain)?.iter().filter(|line| *line == words).count() >= wanted)
}

/// An inserted rule went, or never came: by its handle, which is never given twice, else by how many read like it.
fn went(rule: &RuleRef, undo: &Undo) -> Result<bool> {
    if !chain::exists(&rule.chain)? {
        return Ok(true);
    }
    let now = chain::find(&rule.chain)?.rules;
    Ok(match (rule.rule.handle, undo.twins) {
        (Some(handle), _) => now.iter().all(|found| found.handle != Some(handle)),
        (None, Some(before)) => now.iter().filter(|found| rule::alike(found, &rule.rule)).count() <= before,
        (None, None) => now.iter().all(|found| !rule::alike(found, &rule.rule)),
    })
}
