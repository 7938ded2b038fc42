//! Rules of legacy iptables. They go through their own tool, whose words are a list of arguments and no language.

use super::nftables::title;
use super::{Undo, changed, no_way_back, tool};
use crate::error::Result;
use whydrop_model::action::{ChainRef, split_words};
use whydrop_model::netfilter::Rule;
use whydrop_model::text;

/// The rules of a chain in the words of its tool, in order.
pub(super) fn lines(chain: &ChainRef) -> Result<Vec<String>> {
    let listed = tool::run(&[chain.tool.command(), "-t", &chain.table, "-S", &chain.name])?;
    let prefix = format!("-A {}", chain.name);
    let rules = listed.lines().filter_map(|line| line.strip_prefix(&prefix));
    Ok(rules.map(|rule| rule.trim_start().to_owned()).collect())
}

/// Words of a rule as arguments behind the chain's name.
fn command(chain: &ChainRef, verb: &str, place: Option<&str>, words: &str) -> Vec<String> {
    let mut argv: Vec<String> =
        [chain.tool.command(), "-t", &chain.table, verb, &chain.name].map(str::to_owned).into();
    argv.extend(place.map(str::to_owned));
    argv.extend(split_words(words));
    argv
}

/// The words that bring this rule back, and how many rules of its chain have the same. The tool itself says that the
/// words lead to a rule that is there: what it cannot find by them it could not make from them.
pub(super) fn way_back(chain: &ChainRef, rule: &Rule, count: usize, back: Undo) -> Result<Undo> {
    let lines = lines(chain)?;
    let index = usize::try_from(rule.position).ok().and_then(|position| position.checked_sub(1));
    let line = index.and_then(|index| lines.get(index)).filter(|_| lines.len() == count);
    let Some(line) = line else {
        return Err(changed(
            text!("the chain {chain}", "链 {chain}").fill(&[("chain", &title(chain))]),
            &text!("its tool shows other rules", "所属工具列出的规则与此不同").phrase(),
        ));
    };
    tool::run(&command(chain, "-C", None, line)).map_err(|_| {
        no_way_back(
            text!("the rule {rule}", "规则 {rule}").fill(&[("rule", &rule.text)]),
            &text!("its tool does not know it by its own words", "所属工具按自己列出的写法找不到它").phrase(),
        )
    })?;
    let twins = lines.iter().filter(|other| *other == line).count();
    Ok(Undo { raw: Some(line.clone()), twins: Some(twins), ..back })
}

/// Inserts a rule at this index.
pub(super) fn insert(chain: &ChainRef, index: usize, words: &str) -> Result<()> {
    tool::run(&command(chain, "-I", Some(&(index + 1).to_string()), words)).map(drop)
}

/// Deletes the rule at its position.
pub(super) fn delete(chain: &ChainRef, rule: &Rule) -> Result<()> {
    tool::run(&[chain.tool.command(), "-t", &chain.table, "-D", &chain.name, &rule.position.to_string()])
        .map(drop)
}
