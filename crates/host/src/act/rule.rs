//! Rules: inserted at their position, deleted if they are still the same.

use super::nftables::{RawRule, Tables, is_nft, title};
use super::{Announce, Undo, chain, changed, encode, from_hex, no_way_back, tool};
use crate::error::{Error, Result};
use whydrop_model::Action;
use whydrop_model::action::{RuleRef, split_words};
use whydrop_model::netfilter::{Chain, Match, Rule, Tool};
use whydrop_model::text;

/// Inserts a rule at its position, or at the end of a chain that has become shorter.
pub(super) fn insert(rule: &RuleRef, raw: Option<&str>, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let before = chain::find(&rule.chain)?;
    let index = position(rule)?.min(before.rules.len());
    let undo = vec![Undo::plain(Action::RuleDelete(rule.clone()))];
    announce(&undo)?;
    if is_nft(rule.chain.tool) {
        insert_nft(rule, raw, &before, index)?;
    } else {
        insert_legacy(rule, raw, index)?;
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
    Ok(vec![Undo::plain(Action::RuleDelete(reference(rule, &after, new)))])
}

fn insert_nft(rule: &RuleRef, raw: Option<&str>, before: &Chain, index: usize) -> Result<()> {
    let next = before.rules.get(index).and_then(|rule| rule.handle);
    let attributes = match raw {
        Some(raw) => Some(from_hex(raw)?),
        None => encode::attributes(&rule.rule, &rule.chain),
    };
    if let Some(attributes) = attributes {
        return Tables::open()?.insert(&rule.chain, &attributes, next);
    }
    if !is_whole(&rule.rule) {
        return Err(no_way_back(
            text!("the rule {rule}", "规则 {rule}").fill(&[("rule", &rule.rule.text)]),
            &text!("its text is not whole", "它的文本不完整").phrase(),
        ));
    }
    if rule.chain.tool != Tool::Nft {
        return tool::run(&Action::RuleInsert(rule.clone()).argv()).map(drop);
    }
    let chain = &rule.chain;
    let handle = next.map(|handle| handle.to_string());
    let mut argv = vec!["nft", "add", "rule", chain.family.word(), &chain.table, &chain.name];
    if let Some(handle) = &handle {
        argv.splice(1..2, ["insert"]);
        argv.extend(["position", handle]);
    }
    // nft puts its arguments together again, so quotes must stay.
    argv.push(&rule.rule.text);
    tool::run(&argv).map(drop)
}

fn insert_legacy(rule: &RuleRef, raw: Option<&str>, index: usize) -> Result<()> {
    if raw.is_none() && !is_whole(&rule.rule) {
        return Err(no_way_back(
            text!("the rule {rule}", "规则 {rule}").fill(&[("rule", &rule.rule.text)]),
            &text!("its text is not whole", "它的文本不完整").phrase(),
        ));
    }
    let chain = &rule.chain;
    let number = (index + 1).to_string();
    let words = split_words(raw.unwrap_or(&rule.rule.text));
    let mut argv = vec![chain.tool.command(), "-t", &chain.table, "-I", &chain.name, &number];
    argv.extend(words.iter().map(String::as_str));
    tool::run(&argv).map(drop)
}

/// Deletes a rule that is still the same.
pub(super) fn delete(rule: &RuleRef, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let now = chain::find(&rule.chain)?;
    let found = locate(rule, &now)?;
    let back = Action::RuleInsert(reference(rule, &now, found));
    if !is_nft(rule.chain.tool) {
        let number = found.position.to_string();
        let chain = &rule.chain;
        let mut undo = Undo::plain(back);
        if !is_whole(found) {
            // Its own tool knows the words that whydrop has not.
            let listed = tool::run(&[chain.tool.command(), "-t", &chain.table, "-S", &chain.name, &number])?;
            let text = listed.trim().strip_prefix(&format!("-A {} ", chain.name)).map(str::to_owned);
            undo.raw = Some(text.ok_or_else(|| {
                no_way_back(
                    found.text.as_str(),
                    &text!("its tool does not show it", "所属工具没有列出它").phrase(),
                )
            })?);
        }
        let undo = vec![undo];
        announce(&undo)?;
        tool::run(&[chain.tool.command(), "-t", &chain.table, "-D", &chain.name, &number])?;
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
    let undo = vec![way_back(back, &raw, found)?];
    announce(&undo)?;
    tables.delete(&rule.chain, raw.handle)?;
    Ok(undo)
}

/// A set without a name goes with its rule, so such a rule can come back only by its text.
fn way_back(back: Action, raw: &RawRule, rule: &Rule) -> Result<Undo> {
    if !raw.anonymous_set {
        return Ok(Undo::raw(back, &raw.attributes));
    }
    if !is_whole(rule) || !tool::exists("nft") {
        return Err(no_way_back(
            text!("the rule {rule}", "规则 {rule}").fill(&[("rule", &rule.text)]),
            &text!("it has a set of its own", "它带有自己的集合").phrase(),
        ));
    }
    Ok(Undo::plain(back))
}

/// True if the rule's text says all of it.
fn is_whole(rule: &Rule) -> bool {
    !rule.matches.iter().any(|m| matches!(m, Match::Other(text) if text.starts_with('?')))
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
/// if no other rule has the same.
fn locate<'a>(rule: &RuleRef, now: &'a Chain) -> Result<&'a Rule> {
    let wanted = &rule.rule;
    let by_place = now.rules.iter().find(|found| match wanted.handle {
        Some(handle) => found.handle == Some(handle),
        None => found.position == wanted.position,
    });
    if let Some(found) = by_place.filter(|found| found.text == wanted.text) {
        return Ok(found);
    }
    let mut same = now.rules.iter().filter(|found| found.text == wanted.text);
    match (rule.unique && wanted.handle.is_none(), same.next(), same.next()) {
        (true, Some(found), None) => Ok(found),
        _ => {
            let object = text!("the rule {n} of {chain}", "{chain} 的规则 {n}")
                .fill(&[("n", &wanted.position), ("chain", &title(&rule.chain))]);
            let how = by_place.map_or_else(
                || text!("it is gone", "它已不存在").phrase(),
                |found| text!("it is {rule}", "它现在是 {rule}").fill(&[("rule", &found.text)]),
            );
            Err(changed(object, &how))
        }
    }
}

fn reference(rule: &RuleRef, chain: &Chain, found: &Rule) -> RuleRef {
    let twins = chain.rules.iter().filter(|other| other.text == found.text).count();
    RuleRef { chain: rule.chain.clone(), rule: found.clone(), unique: twins == 1, gone_before: 0 }
}
