//! Actions as the classic commands that people type.

use super::{Action, ChainRef, Exception, QdiscSpec, RouteSpec, RuleRef, TC_INGRESS, TC_ROOT};
use crate::command;
use crate::netfilter::{Hook, Match, RuleVerdict, Tool};
use crate::snapshot::{PolicyRule, QdiscOptions};
use crate::text;
use crate::text::{Phrase, Text};

const NO_HANDLE: Text = text!(
    "nft deletes a rule by the handle that it gets when it is made: the command above prints it, and `whydrop undo` keeps it",
    "nft 按规则创建时获得的句柄删除规则：上面的命令会打印该句柄，`whydrop undo` 也会记住它"
);

impl Action {
    /// The classic command that does the same, to be run inside the namespace; none fit to be shown is a reason.
    ///
    /// # Errors
    /// Why there is no such command, or why it is not safe to paste.
    pub fn command(&self) -> Result<Vec<String>, Phrase> {
        if let Self::RuleDelete(RuleRef { chain, rule, .. }) = self
            && (chain.tool, rule.handle) == (Tool::Nft, None)
        {
            return Err(NO_HANDLE.phrase());
        }
        let argv = self.argv();
        command::check(&argv)?;
        Ok(argv)
    }

    /// The words of [`Action::command`], unchecked.
    pub fn argv(&self) -> Vec<String> {
        let line = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        match self {
            Self::LinkState { dev, up } => {
                line(&["ip", "link", "set", "dev", dev, if *up { "up" } else { "down" }])
            }
            Self::LinkMtu { dev, mtu, .. } => {
                line(&["ip", "link", "set", "dev", dev, "mtu", &mtu.to_string()])
            }
            Self::BridgePort { dev, setting, value, .. } => {
                line(&["bridge", "link", "set", "dev", dev, setting, value])
            }
            Self::QdiscAdd(spec) => spec.argv("add"),
            Self::QdiscDelete(spec) => spec.argv("del"),
            Self::ChainAdd { chain, hook, policy } => chain.add_argv(hook.as_ref(), policy.as_ref()),
            Self::ChainDelete { chain, .. } => match chain.tool {
                Tool::Nft => {
                    line(&["nft", "delete", "chain", chain.family.word(), &chain.table, &chain.name])
                }
                _ => line(&[chain.tool.command(), "-t", &chain.table, "-X", &chain.name]),
            },
            Self::ChainPolicy { chain, policy, .. } => chain.policy_argv(policy),
            Self::RuleInsert(rule) => rule.insert_argv(),
            Self::RuleDelete(rule) => rule.delete_argv(),
            Self::Exception(exception) => exception.argv(),
            Self::Sysctl { name, value, .. } => line(&["sysctl", "-w", &format!("{name}={value}")]),
            Self::RouteAdd(spec) => spec.argv("add"),
            Self::RouteDelete(spec) => spec.argv("del"),
            Self::PolicyRuleAdd { rule } => policy_rule_argv(rule, "add"),
            Self::PolicyRuleDelete { rule } => policy_rule_argv(rule, "del"),
            Self::AddressAdd { dev, ip, prefix } => {
                line(&["ip", "addr", "add", &format!("{ip}/{prefix}"), "dev", dev])
            }
            Self::AddressDelete { dev, ip, prefix } => {
                line(&["ip", "addr", "del", &format!("{ip}/{prefix}"), "dev", dev])
            }
            Self::NeighbourAdd { dev, ip, mac } => line(&[
                "ip",
                "neigh",
                "replace",
                &ip.to_string(),
                "lladdr",
                mac,
                "dev",
                dev,
                "nud",
                "permanent",
            ]),
            Self::NeighbourDelete { dev, ip, .. } => {
                line(&["ip", "neigh", "del", &ip.to_string(), "dev", dev])
            }
        }
    }
}

/// Renders a tc handle: `1:10`, `800d:`.
pub fn tc_handle(handle: u32) -> String {
    let (major, minor) = (handle >> 16, handle & 0xffff);
    if minor == 0 { format!("{major:x}:") } else { format!("{major:x}:{minor:x}") }
}

impl QdiscSpec {
    fn argv(&self, verb: &str) -> Vec<String> {
        let mut out: Vec<String> = ["tc", "qdisc", verb, "dev", &self.dev].map(String::from).into();
        match self.parent {
            TC_ROOT => out.push("root".into()),
            TC_INGRESS => out.push(self.kind.clone()),
            parent => out.extend(["parent".into(), tc_handle(parent)]),
        }
        if verb == "del" || self.parent == TC_INGRESS {
            return out;
        }
        if self.handle != 0 {
            out.extend(["handle".into(), tc_handle(self.handle)]);
        }
        out.push(self.kind.clone());
        let mut opt = |name: &str, value: String| out.extend([name.to_owned(), value]);
        match &self.options {
            QdiscOptions::Netem {
                loss,
                limit,
                delay_us,
                jitter_us,
                corrupt,
                duplicate,
                reorder,
                rate,
                ..
            } => {
                opt("limit", limit.to_string());
                if *delay_us > 0 {
                    opt("delay", format!("{delay_us}us"));
                    if *jitter_us > 0 {
                        out.push(format!("{jitter_us}us"));
                    }
                }
                for (name, share) in
                    [("loss", loss), ("corrupt", corrupt), ("duplicate", duplicate), ("reorder", reorder)]
                {
                    if *share > 0.0 {
                        out.extend([name.to_owned(), percent(*share)]);
                    }
                }
                if *rate > 0 {
                    out.extend(["rate".into(), format!("{}bit", rate * 8)]);
                }
            }
            QdiscOptions::Tbf { rate, burst, limit } => {
                opt("rate", format!("{}bit", rate * 8));
                opt("burst", format!("{burst}b"));
                opt("limit", format!("{limit}b"));
            }
            QdiscOptions::Htb { default, .. } => opt("default", format!("{default:x}")),
            QdiscOptions::Fifo { limit } => opt("limit", limit.to_string()),
            QdiscOptions::FqCodel { limit, target_us, .. } => {
                opt("limit", limit.to_string());
                opt("target", format!("{target_us}us"));
            }
            QdiscOptions::Other => {}
        }
        out
    }
}

/// A policy rule in the words of `ip rule`, its action last.
fn policy_rule_argv(rule: &PolicyRule, verb: &str) -> Vec<String> {
    let mut out = vec!["ip".to_owned()];
    if rule.family == 6 {
        out.push("-6".into());
    }
    let mut word = |name: &str, value: String| out.extend([name.to_owned(), value]);
    word("rule", verb.to_owned());
    word("priority", rule.priority.to_string());
    for (name, network) in [("from", rule.from), ("to", rule.to)] {
        if let Some((ip, prefix)) = network {
            word(name, format!("{ip}/{prefix}"));
        }
    }
    for (name, dev) in [("iif", &rule.iif), ("oif", &rule.oif)] {
        if let Some(dev) = dev {
            word(name, dev.clone());
        }
    }
    if let Some((mark, mask)) = rule.fwmark {
        word("fwmark", format!("{mark:#x}/{mask:#x}"));
    }
    match rule.table {
        Some(table) => word(&rule.action, table.to_string()),
        None => out.push(rule.action.clone()),
    }
    out
}

/// A share as tc takes it: `30%`, at most six decimals.
fn percent(share: f64) -> String {
    let text = format!("{:.6}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

impl RouteSpec {
    fn argv(&self, verb: &str) -> Vec<String> {
        let route = &self.route;
        let v6 = route.destination.is_ipv6();
        let mut out: Vec<String> = vec!["ip".into()];
        if v6 {
            out.push("-6".into());
        }
        out.extend(["route".into(), verb.into()]);
        if route.kind != "unicast" {
            out.push(route.kind.clone());
        }
        out.push(match route.prefix {
            0 => "default".into(),
            prefix => format!("{}/{prefix}", route.destination),
        });
        if let Some(hop) = route.next_hops.first().filter(|_| route.next_hops.len() == 1) {
            if let Some(gateway) = hop.gateway {
                out.extend(["via".into(), gateway.to_string()]);
            }
            if let Some(dev) = &self.dev {
                out.extend(["dev".into(), dev.clone()]);
            }
        }
        if route.metric != 0 && !(v6 && route.metric == 1024) {
            out.extend(["metric".into(), route.metric.to_string()]);
        }
        if !matches!(route.table, 0 | 254) {
            out.extend(["table".into(), route.table.to_string()]);
        }
        if let Some(mtu) = route.mtu {
            out.extend(["mtu".into(), mtu.to_string()]);
        }
        out
    }
}

impl ChainRef {
    fn policy_argv(&self, policy: &RuleVerdict) -> Vec<String> {
        match self.tool {
            Tool::Nft => {
                let word = if *policy == RuleVerdict::Drop { "drop" } else { "accept" };
                [
                    "nft",
                    "chain",
                    self.family.word(),
                    &self.table,
                    &self.name,
                    &format!("{{ policy {word} ; }}"),
                ]
                .map(String::from)
                .into()
            }
            _ => {
                let word = if *policy == RuleVerdict::Drop { "DROP" } else { "ACCEPT" };
                let mut out = self.iptables();
                out.extend(["-P", &self.name, word].map(String::from));
                out
            }
        }
    }

    fn add_argv(&self, hook: Option<&(Hook, i32)>, policy: Option<&RuleVerdict>) -> Vec<String> {
        let mut out: Vec<String> =
            ["nft", "add", "chain", self.family.word(), &self.table, &self.name].map(String::from).into();
        if let Some((hook, priority)) = hook {
            let policy = if policy == Some(&RuleVerdict::Drop) { "drop" } else { "accept" };
            out.push(format!(
                "{{ type filter hook {} priority {priority} ; policy {policy} ; }}",
                hook.word()
            ));
        }
        out
    }

    /// `iptables [-t TABLE]`; the filter table is the default and is left out, as people type it.
    fn iptables(&self) -> Vec<String> {
        let mut out = vec![self.tool.command().to_owned()];
        if self.table != "filter" {
            out.extend(["-t".into(), self.table.clone()]);
        }
        out
    }
}

impl RuleRef {
    fn delete_argv(&self) -> Vec<String> {
        let chain = &self.chain;
        match (chain.tool, self.rule.handle) {
            (Tool::Nft, Some(handle)) => {
                let mut out: Vec<String> =
                    ["nft", "delete", "rule", chain.family.word()].map(String::from).into();
                out.extend([chain.table.clone(), chain.name.clone(), "handle".into(), handle.to_string()]);
                out
            }
            (Tool::Nft, None) => {
                ["nft", "-a", "list", "chain", chain.family.word(), &chain.table, &chain.name]
                    .map(String::from)
                    .into()
            }
            _ => {
                let mut out = chain.iptables();
                out.extend(["-D".to_owned(), chain.name.clone()]);
                match self.words().filter(|_| self.unique) {
                    // By text: still right after an earlier rule of the chain was deleted.
                    Some(words) => out.extend(words),
                    None => out.push(self.rule.position.to_string()),
                }
                out
            }
        }
    }

    fn insert_argv(&self) -> Vec<String> {
        let chain = &self.chain;
        if chain.tool == Tool::Nft {
            // nft counts from 0, and inserts in front of a rule that must exist: a later place is told by the rule
            // before it.
            let (verb, after) = match self.rule.position.checked_sub(2) {
                None => ("insert", None),
                Some(index) => ("add", Some(index.to_string())),
            };
            let mut out: Vec<String> = ["nft", verb, "rule", chain.family.word()].map(String::from).into();
            out.extend([chain.table.clone(), chain.name.clone()]);
            out.extend(after.into_iter().flat_map(|index| ["index".to_owned(), index]));
            // nft puts its arguments together again, so quotes must stay.
            out.push(self.rule.text.clone());
            return out;
        }
        let mut out = chain.iptables();
        out.extend(["-I".to_owned(), chain.name.clone(), self.rule.position.to_string()]);
        out.extend(self.words().unwrap_or_else(|| vec![self.rule.text.clone()]));
        out
    }

    /// The rule's text as words, unless a part of it was not decoded.
    pub(super) fn words(&self) -> Option<Vec<String>> {
        let whole =
            !self.rule.matches.iter().any(|m| matches!(m, Match::Other(text) if text.starts_with('?')));
        whole.then(|| split_words(&self.rule.text))
    }
}

impl Exception {
    fn argv(&self) -> Vec<String> {
        let chain = &self.chain;
        if chain.tool != Tool::Nft {
            let mut out = chain.iptables();
            match &self.before {
                Some(before) => {
                    out.extend(["-I".to_owned(), chain.name.clone(), before.position.to_string()])
                }
                None => out.extend(["-A".to_owned(), chain.name.clone()]),
            }
            out.extend(split_words(&self.rule.text));
            return out;
        }
        // With echo and handles, so that the new rule's handle is seen.
        let verb = if self.before.is_some() { "insert" } else { "add" };
        let mut out: Vec<String> =
            ["nft", "-e", "-a", verb, "rule", chain.family.word(), &chain.table, &chain.name]
                .map(String::from)
                .into();
        let place = self.before.as_ref().map(|before| match before.handle {
            Some(handle) => ["handle".to_owned(), handle.to_string()],
            None => ["index".to_owned(), before.position.saturating_sub(1).to_string()],
        });
        out.extend(place.into_iter().flatten());
        out.push(self.rule.text.clone());
        out
    }
}

/// Splits a rule's text at spaces, keeping double-quoted parts (comments) together without their quotes.
pub fn split_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any, mut escaped) =
        (vec![], String::new(), false, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                any = true;
            }
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::{Family, Rule};

    fn netem() -> QdiscSpec {
        let options = QdiscOptions::Netem {
            loss: 0.3,
            model: None,
            limit: 1000,
            delay_us: 0,
            jitter_us: 0,
            corrupt: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            rate: 0,
        };
        QdiscSpec { dev: "eth0".into(), kind: "netem".into(), parent: TC_ROOT, handle: 0x800d_0000, options }
    }

    #[test]
    fn a_deleted_qdisc_comes_back_with_its_options() {
        let delete = Action::QdiscDelete(netem());
        assert_eq!(delete.argv().join(" "), "tc qdisc del dev eth0 root");
        let back = delete.inverse().unwrap();
        assert_eq!(
            back.argv().join(" "),
            "tc qdisc add dev eth0 root handle 800d: netem limit 1000 loss 30%"
        );
    }

    fn deleted(tool: Tool, position: u32, matches: Vec<crate::netfilter::Match>) -> Action {
        let (family, table, name) = (Family::Inet, "fw".to_owned(), "in".to_owned());
        let rule = Rule {
            position,
            handle: None,
            packets: None,
            bytes: None,
            verdict: RuleVerdict::Drop,
            matches,
            comment: None,
            text: "tcp dport 80 drop".into(),
        };
        let chain = ChainRef { tool, family, table, name };
        Action::RuleDelete(RuleRef { chain, rule, unique: true, gone_before: 0 })
    }

    #[test]
    fn a_deleted_rule_comes_back_to_its_place() {
        let back = |position| deleted(Tool::Nft, position, vec![]).inverse().unwrap().argv().join(" ");
        assert_eq!(back(1), "nft insert rule inet fw in tcp dport 80 drop");
        assert_eq!(back(5), "nft add rule inet fw in index 3 tcp dport 80 drop");
        let Action::RuleDelete(mut rule) = deleted(Tool::IptablesNft, 3, vec![]) else { unreachable!() };
        rule.gone_before = 2;
        let back = Action::RuleDelete(rule).inverse().unwrap().argv();
        assert_eq!(back.join(" "), "iptables-nft -t fw -I in 1 tcp dport 80 drop");
    }

    #[test]
    fn a_rule_that_was_not_understood_cannot_come_back() {
        let unknown = vec![crate::netfilter::Match::Other("?comment".into())];
        assert!(deleted(Tool::IptablesNft, 1, unknown).inverse().is_none());
    }

    #[test]
    fn words_keep_comments_together() {
        assert_eq!(split_words(r#"-m comment --comment "a \"b\" c" -j DROP"#)[3], r#"a "b" c"#);
    }
}
