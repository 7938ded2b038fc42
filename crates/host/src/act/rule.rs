//! Rules: inserted at their position, deleted if they are still the same and can come back.

use super::nftables::{Tables, is_nft, title};
use super::own_rule::OwnRule;
use super::{Announce, Undo, chain, changed, encode, legacy, no_way_back, tool};
use crate::error::{Error, Result};
use whydrop_model::Action;
use whydrop_model::action::RuleRef;
use whydrop_model::netfilter::{Chain, Match, Rule, Tool};
use whydrop_model::text;

/// Inserts a rule at its position, or at the end of a chain that has become shorter; as a way `back` exactly the rule
/// that was deleted, in front of the one that followed it.
pub(super) fn insert(rule: &RuleRef, back: Option<&Undo>, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let before = chain::find(&rule.chain)?;
    let follower = back.and_then(|undo| undo.next);
    let follower = follower.and_then(|handle| before.rules.iter().position(|r| r.handle == Some(handle)));
    let index = follower.unwrap_or(position(rule)?).min(before.rules.len());
    let new = RuleRef { rule: Rule { handle: None, ..rule.rule.clone() }, ..rule.clone() };
    let alike = |chain: &Chain| chain.rules.iter().filter(|r| alike(r, &rule.rule)).count();
    let twins = Some(alike(&before));
    let undo = vec![Undo { twins, ..Undo::plain(Action::RuleDelete(new)) }];
    announce(&undo)?;
    if is_nft(rule.chain.tool) {
        insert_nft(rule, back, &before, index)?;
    } else {
        let raw = back.and_then(|undo| undo.raw.as_deref());
        if raw.is_none() && !is_whole(&rule.rule) {
            return Err(not_whole(&rule.rule));
        }
        legacy::insert(&rule.chain, index, raw.unwrap_or(&rule.rule.text))?;
    }
    let after = chain::find(&rule.chain)?;
    // What stands there now is what has to go when the change is taken back.
    let new = after.rules.get(index).filter(|_| after.rules.len() == before.rules.len() + 1);
    let new = new.ok_or_else(|| {
        changed(
            text!("the chain {chain}", "链 {chain}").fill(&[("chain", &title(&rule.chain))]),
            &text!("others change it, too", "有别的程序也在改动它").phrase(),
        )
    })?;
    Ok(vec![Undo { twins, ..Undo::plain(Action::RuleDelete(reference(rule, &after, new))) }])
}

fn insert_nft(rule: &RuleRef, back: Option<&Undo>, before: &Chain, index: usize) -> Result<()> {
    let next = before.rules.get(index).and_then(|rule| rule.handle);
    let known = back.map_or(Ok(None), Undo::own_rule)?;
    let written = || {
        let attributes = encode::attributes(&rule.rule, &rule.chain)?;
        Some(OwnRule { attributes, sets: vec![] })
    };
    match known.or_else(written) {
        Some(own) => Tables::open()?.insert(&rule.chain, &own, next),
        // iptables takes a list of arguments. nft takes a text, into which a comment could break out.
        None if rule.chain.tool != Tool::Nft && is_whole(&rule.rule) => {
            tool::run(&Action::RuleInsert(rule.clone()).argv()).map(drop)
        }
        None => Err(not_whole(&rule.rule)),
    }
}

fn not_whole(rule: &Rule) -> Error {
    no_way_back(
        text!("the rule {rule}", "规则 {rule}").fill(&[("rule", &rule.text)]),
        &text!("whydrop cannot write all of it", "whydrop 无法完整写出它").phrase(),
    )
}

/// Deletes a rule that is still the same, and that can come back.
pub(super) fn delete(rule: &RuleRef, back: Option<&Undo>, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let now = chain::find(&rule.chain)?;
    let on_the_way_back = back.is_some();
    let found = locate(rule, &now, on_the_way_back)?;
    let back = Undo::plain(Action::RuleInsert(reference(rule, &now, found)));
    if !is_nft(rule.chain.tool) {
        let undo = vec![legacy::way_back(&rule.chain, found, now.rules.len(), back)?];
        announce(&undo)?;
        legacy::delete(&rule.chain, found)?;
        return Ok(undo);
    }
    let mut tables = Tables::open()?;
    let raw = tables.rules(&rule.chain)?.into_iter().find(|raw| Some(raw.handle) == found.handle);
    let raw = raw.ok_or_else(|| {
        changed(
            text!("the rule {rule}", "规则 {rule}").fill(&[("rule", &found.text)]),
            &text!("it is gone", "它已不存在").phrase(),
        )
    })?;
    let own = tables.own_rule(&rule.chain, &raw.attributes)?;
    let index = usize::try_from(found.position).unwrap_or(usize::MAX);
    let next = now.rules.get(index).and_then(|rule| rule.handle);
    // What was only added need not come again.
    if !on_the_way_back {
        tables.rehearse_return(&rule.chain, raw.handle, &own, next).map_err(|e| {
            let object = text!("the rule {rule}", "规则 {rule}").fill(&[("rule", &found.text)]);
            no_way_back(
                object,
                &text!("the kernel would refuse it: {why}", "内核会拒绝它：{why}").fill(&[("why", &e)]),
            )
        })?;
    }
    let twins = Some(tables.twins(&rule.chain, &own)?);
    let undo = vec![Undo { twins, next, ..Undo::rule(back.action, own) }];
    announce(&undo)?;
    tables.delete(&rule.chain, raw.handle)?;
    Ok(undo)
}

/// True if the rule's text says all of it.
fn is_whole(rule: &Rule) -> bool {
    !rule.text.split_whitespace().any(|word| word.starts_with('?'))
        && !rule.matches.iter().any(|m| matches!(m, Match::Other(text) if text.starts_with('?')))
}

/// Index at which a rule is to stand.
fn position(rule: &RuleRef) -> Result<usize> {
    let index = rule.rule.position.checked_sub(1).and_then(|index| usize::try_from(index).ok());
    index.ok_or_else(|| {
        Error::new(
            text!("insert the rule into {object}", "在 {object} 中插入规则"),
            title(&rule.chain),
            text!("positions begin at 1", "位置从 1 开始").phrase(),
        )
    })
}

/// The rule as it stands now: by its handle, else at its position; after other changes of the chain by its text,
/// if no other rule has the same. On the way back any that reads the same will do, the newest first: there is one
/// too many of them.
pub(super) fn locate<'a>(rule: &RuleRef, now: &'a Chain, back: bool) -> Result<&'a Rule> {
    let wanted = &rule.rule;
    let by_place = now.rules.iter().find(|found| match wanted.handle {
        Some(handle) => found.handle == Some(handle),
        None => found.position == wanted.position,
    });
    if let Some(found) = by_place.filter(|found| found.text == wanted.text) {
        return Ok(found);
    }
    let mut same: Vec<&Rule> = now.rules.iter().filter(|found| alike(found, wanted)).collect();
    same.sort_by_key(|found| (found.handle, std::cmp::Reverse(found.position.abs_diff(wanted.position))));
    let exact = wanted.handle.is_none() && (back || rule.unique && same.len() == 1);
    same.pop().filter(|_| exact).ok_or_else(|| {
        let object = text!("the rule {n} of {chain}", "{chain} 的规则 {n}")
            .fill(&[("n", &wanted.position), ("chain", &title(&rule.chain))]);
        let how = by_place.map_or_else(
            || text!("it is gone", "它已不存在").phrase(),
            |found| text!("it is {rule}", "它现在是 {rule}").fill(&[("rule", &found.text)]),
        );
        changed(object, &how)
    })
}

/// True if both do the same: they read the same, or one is still in whydrop's own words and the other in its tool's.
pub(super) fn alike(a: &Rule, b: &Rule) -> bool {
    let conditions = |rule: &Rule| {
        let mut words: Vec<String> = rule.matches.iter().map(|m| format!("{m:?}")).collect();
        words.sort();
        words
    };
    a.text == b.text || a.verdict == b.verdict && conditions(a) == conditions(b)
}

fn reference(rule: &RuleRef, chain: &Chain, found: &Rule) -> RuleRef {
    let twins = chain.rules.iter().filter(|other| other.text == found.text).count();
    RuleRef { chain: rule.chain.clone(), rule: found.clone(), unique: twins == 1, gone_before: 0 }
}
