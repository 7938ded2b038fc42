//! Chains and their policies.

use super::nftables::{Standing, Tables, chain_kind, is_nft, title};
use super::{Announce, Undo, changed, no_way_back, tool};
use crate::error::Result;
use crate::source::{iptables_legacy, nftables};
use whydrop_model::action::ChainRef;
use whydrop_model::netfilter::{Chain, Hook, RuleVerdict, Tool};
use whydrop_model::{Action, Phrase, Reading, text};

/// Makes a base or plain chain, and its table if there is none.
pub(super) fn add(
    chain: &ChainRef,
    hook: Option<(Hook, i32)>,
    policy: Option<&RuleVerdict>,
    announce: &mut Announce<'_>,
) -> Result<Vec<Undo>> {
    let back = Action::ChainDelete { chain: chain.clone(), hook, policy: policy.cloned() };
    let undo = vec![Undo::plain(back)];
    if !is_nft(chain.tool) {
        announce(&undo)?;
        tool::run(&[chain.tool.command(), "-t", &chain.table, "-N", &chain.name])?;
        return Ok(undo);
    }
    let mut tables = Tables::open()?;
    if tables.chain(chain)?.is_some() {
        return Err(changed(
            text!("the chain {chain}", "链 {chain}").fill(&[("chain", &title(chain))]),
            &text!("it is already there", "它已经存在").phrase(),
        ));
    }
    announce(&undo)?;
    tables.add_chain(chain, hook, policy)?;
    Ok(undo)
}

/// Deletes an empty chain, and its table if that is then empty.
pub(super) fn delete(
    chain: &ChainRef,
    hook: Option<(Hook, i32)>,
    announce: &mut Announce<'_>,
) -> Result<Vec<Undo>> {
    let now = find(chain)?;
    let object = text!("the chain {chain}", "链 {chain}").fill(&[("chain", &title(chain))]);
    if !now.rules.is_empty() {
        return Err(changed(
            object,
            &text!("it has {n} rules", "它含有 {n} 条规则").fill(&[("n", &now.rules.len())]),
        ));
    }
    let base = now.hook.zip(now.priority);
    if hook.is_some() && base != hook {
        return Err(changed(object, &text!("it is hooked elsewhere", "它挂在别的钩子上").phrase()));
    }
    let back = Action::ChainAdd { chain: chain.clone(), hook: base, policy: now.policy };
    let undo = vec![Undo::plain(back)];
    if !is_nft(chain.tool) {
        announce(&undo)?;
        tool::run(&[chain.tool.command(), "-t", &chain.table, "-X", &chain.name])?;
        return Ok(undo);
    }
    let mut tables = Tables::open()?;
    let Some(Standing { kind }) = tables.chain(chain)? else {
        return Err(changed(object, &text!("it is gone", "它已不存在").phrase()));
    };
    let usual = base.map(|(hook, _)| chain_kind(chain, hook));
    if kind.as_deref() != usual || now.device.is_some() {
        return Err(no_way_back(
            object,
            &text!(
                "it is of a type or on a device that a new chain would not have",
                "它的类型或所在设备是新建的链所没有的"
            )
            .phrase(),
        ));
    }
    announce(&undo)?;
    tables.delete_chain(chain)?;
    Ok(undo)
}

/// `iptables -P`, `nft chain … { policy … }`.
pub(super) fn policy(
    chain: &ChainRef,
    policy: &RuleVerdict,
    was: &RuleVerdict,
    announce: &mut Announce<'_>,
) -> Result<Vec<Undo>> {
    let now = find(chain)?.policy;
    if now.as_ref() == Some(policy) {
        return Ok(vec![]);
    }
    if now.as_ref() != Some(was) {
        return Err(changed(
            text!("the policy of {chain}", "{chain} 的默认策略").fill(&[("chain", &title(chain))]),
            &text!("it is {now}", "它现在是 {now}").fill(&[("now", &format!("{now:?}"))]),
        ));
    }
    let action = Action::ChainPolicy { chain: chain.clone(), policy: policy.clone(), was: was.clone() };
    let back = Action::ChainPolicy { chain: chain.clone(), policy: was.clone(), was: policy.clone() };
    let undo = vec![Undo::plain(back)];
    announce(&undo)?;
    if is_nft(chain.tool) {
        Tables::open()?.set_policy(chain, policy)?;
    } else {
        tool::run(&action.argv())?;
    }
    Ok(undo)
}

/// True if there is such a chain.
pub(super) fn exists(chain: &ChainRef) -> Result<bool> {
    Ok(look(chain)?.is_some())
}

/// The chain as it is now.
pub(super) fn find(chain: &ChainRef) -> Result<Chain> {
    look(chain)?.ok_or_else(|| {
        changed(
            text!("the chain {chain}", "链 {chain}").fill(&[("chain", &title(chain))]),
            &text!("it is gone", "它已不存在").phrase(),
        )
    })
}

fn look(chain: &ChainRef) -> Result<Option<Chain>> {
    let chains = match chain.tool {
        Tool::Nft | Tool::IptablesNft | Tool::Ip6tablesNft => nftables::read(),
        Tool::IptablesLegacy => iptables_legacy::read(false),
        Tool::Ip6tablesLegacy => iptables_legacy::read(true),
    };
    let chains = match chains {
        Reading::Present(chains) => chains,
        Reading::Absent(why) | Reading::Denied(why) | Reading::Failed(why) => {
            return Err(crate::Error::new(
                text!("read the chain {object}", "读取链 {object}"),
                title(chain),
                Phrase::same(why),
            ));
        }
    };
    // A table changes hands when the other tool puts something of its own into it.
    let same = |found: &Chain| {
        is_nft(found.tool) == is_nft(chain.tool)
            && found.family == chain.family
            && (&found.table, &found.name) == (&chain.table, &chain.name)
    };
    Ok(chains.into_iter().find(same))
}
