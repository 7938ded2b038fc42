//! Policy rules of routing. One that was deleted is put back from the message in which the kernel showed it.

use super::address::CREATE;
use super::{Announce, Undo, changed, from_hex};
use crate::error::{Error, Result};
use crate::source::policy_rule as source;
use crate::sys::netlink::Netlink;
use netlink_bindings::rt_rule;
use netlink_bindings::traits::NetlinkRequest;
use whydrop_model::snapshot::PolicyRule;
use whydrop_model::{Action, text};

/// `ip rule add`; with `raw` exactly the rule that was deleted.
pub(super) fn add(rule: &PolicyRule, raw: Option<&str>, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let payload = raw.map_or_else(|| encode(rule), from_hex)?;
    let undo = vec![Undo::plain(Action::PolicyRuleDelete { rule: rule.clone() })];
    announce(&undo)?;
    Netlink::route()?.execute_raw(libc::RTM_NEWRULE, CREATE, &payload).map_err(|e| {
        Error::io(text!("add the policy rule {object}", "添加策略规则 {object}"), title(rule), &e)
    })?;
    Ok(undo)
}

/// `ip rule del`.
pub(super) fn delete(rule: &PolicyRule, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let found = source::read_raw(&mut netlink)?.into_iter().find(|(known, _)| known == rule);
    let Some((_, message)) = found else {
        return Err(changed(
            text!("the policy rule {rule}", "策略规则 {rule}").fill(&[("rule", &title(rule))]),
            &text!("it is gone", "它已不存在").phrase(),
        ));
    };
    let undo = vec![Undo::raw(Action::PolicyRuleAdd { rule: rule.clone() }, &message)];
    announce(&undo)?;
    // The whole message: of several rules with one priority it names this one.
    netlink.execute_raw(libc::RTM_DELRULE, 0, &message).map_err(|e| {
        Error::io(text!("delete the policy rule {object}", "删除策略规则 {object}"), title(rule), &e)
    })?;
    Ok(undo)
}

/// True if there is such a rule.
pub(super) fn stands(rule: &PolicyRule) -> Result<bool> {
    Ok(source::read_raw(&mut Netlink::route()?)?.iter().any(|(known, _)| known == rule))
}

fn title(rule: &PolicyRule) -> String {
    format!("{} {}", rule.priority, rule.action)
}

/// Message of a new rule. A rule with conditions that have no field of their own is refused: it would match more.
fn encode(rule: &PolicyRule) -> Result<Vec<u8>> {
    let refuse = |why: whydrop_model::Text| {
        Error::new(
            text!("write {object}", "写入{object}"),
            text!("the policy rule {rule}", "策略规则 {rule}").fill(&[("rule", &title(rule))]),
            why.phrase(),
        )
    };
    let action = source::action_number(&rule.action)
        .ok_or_else(|| refuse(text!("its action is not known", "它的动作未知")))?;
    if !rule.conditions.is_empty() {
        return Err(refuse(text!("it has further conditions", "它还有其他条件")));
    }
    let prefix = |network: Option<(_, u8)>| network.map_or(0, |(_, prefix)| prefix);
    let header = rt_rule::FibRuleHdr {
        family: if rule.family == 6 { libc::AF_INET6 as u8 } else { libc::AF_INET as u8 },
        dst_len: prefix(rule.to),
        src_len: prefix(rule.from),
        action,
        ..Default::default()
    };
    let mut request = rt_rule::Request::new().op_newrule_do(&header);
    let mut attributes = request.encode().push_priority(rule.priority);
    if let Some(table) = rule.table {
        attributes = attributes.push_table(table);
    }
    if let Some((ip, _)) = rule.from {
        attributes = attributes.push_src(ip);
    }
    if let Some((ip, _)) = rule.to {
        attributes = attributes.push_dst(ip);
    }
    if let Some(dev) = &rule.iif {
        attributes = attributes.push_iifname_bytes(dev.as_bytes());
    }
    if let Some(dev) = &rule.oif {
        attributes = attributes.push_oifname_bytes(dev.as_bytes());
    }
    if let Some((mark, mask)) = rule.fwmark {
        attributes = attributes.push_fwmark(mark).push_fwmask(mask);
    }
    // Its end closes what is still open in the message.
    drop(attributes);
    Ok(request.payload().to_vec())
}
