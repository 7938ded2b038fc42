//! Programs that own chains, tables, rules and routes: whoever changes these behind their back sees them come back, or
//! breaks what they keep.

use crate::tables;
use whydrop_model::Text;

/// RTPROT_STATIC: routes of the kernel, of `ip` at boot, and of an administrator have this number or a lower one
/// (rtnetlink.h); higher ones belong to programs.
const STATIC: u8 = 4;

/// A program that writes rules or routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `docker`.
    pub id: &'static str,
    /// Its name for people.
    pub name: Text,
    /// How to change there what it wrote.
    pub how: Text,
    /// Patterns of its chains' names.
    pub chains: &'static [&'static str],
    /// Patterns of its tables' names.
    pub tables: &'static [&'static str],
    /// Patterns of its rules' comments.
    pub comments: &'static [&'static str],
    /// Patterns of its sets' names.
    pub sets: &'static [&'static str],
    /// Chains among the above that it leaves to people.
    pub except: &'static [&'static str],
    /// Patterns of chains: the policy of a base chain that jumps to one of them is its work, too.
    pub policies: &'static [&'static str],
    /// Its route protocols (RTA_PROTOCOL).
    pub routes: &'static [u8],
}

/// All owners, by id.
pub const fn owners() -> &'static [Owner] {
    tables::OWNERS
}

/// Whose chain this is.
pub fn owner_of_chain(table: &str, chain: &str) -> Option<&'static Owner> {
    if tables::OWNERS.iter().any(|owner| owner.except.iter().any(|pattern| fits(pattern, chain))) {
        return None;
    }
    narrowest(chain, |owner| owner.chains).or_else(|| narrowest(table, |owner| owner.tables))
}

/// Who wrote a rule that stands in a chain of nobody, by its comment and the sets that its text names.
pub fn owner_of_rule(comment: Option<&str>, text: &str) -> Option<&'static Owner> {
    let by_comment = comment.and_then(|comment| narrowest(comment, |owner| owner.comments));
    let names = || text.split([' ', '@', '"']).filter(|word| !word.is_empty());
    by_comment.or_else(|| names().find_map(|name| narrowest(name, |owner| owner.sets)))
}

/// Who sets the policy of a base chain, by a chain to which it jumps.
pub fn owner_of_policy(jumps_to: &str) -> Option<&'static Owner> {
    narrowest(jumps_to, |owner| owner.policies)
}

/// Whose route this is, by its protocol: none if it is the kernel's or an administrator's.
pub fn owner_of_route(protocol: u8) -> Option<Option<&'static Owner>> {
    (protocol > STATIC).then(|| tables::OWNERS.iter().find(|owner| owner.routes.contains(&protocol)))
}

/// The owner whose pattern says most of the name.
fn narrowest(name: &str, patterns: fn(&Owner) -> &'static [&'static str]) -> Option<&'static Owner> {
    let all =
        tables::OWNERS.iter().flat_map(|owner| patterns(owner).iter().map(move |pattern| (owner, *pattern)));
    let fitting = all.filter(|(_, pattern)| fits(pattern, name));
    fitting.max_by_key(|(_, pattern)| pattern.len()).map(|(owner, _)| owner)
}

/// Does a name fit a pattern, in which `*` stands for any text?
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_chain(table: &str, chain: &str) -> Option<&'static str> {
        owner_of_chain(table, chain).map(|owner| owner.id)
    }

    #[test]
    fn chains_and_tables_have_owners() {
        for (table, chain, owner) in [
            ("filter", "DOCKER-ISOLATION-STAGE-2", Some("docker")),
            ("docker-bridges", "filter-forward-in", Some("docker")),
            ("filter", "DOCKER-USER", None),
            ("filter", "INPUT", None),
            ("filter", "f2b-sshd", Some("fail2ban")),
            ("filter", "KUBE-FIREWALL", Some("kube_proxy")),
            ("filter", "KUBE-POD-FW-ABC", Some("kube_network_policy")),
            ("filter", "cali-tw-eth0", Some("calico")),
            ("filter", "ufw-user-input", Some("ufw")),
            ("firewalld", "filter_INPUT", Some("firewalld")),
            ("filter", "IN_public_deny", Some("firewalld")),
            ("filter", "IN_public", None),
            ("libvirt_network", "guest_output", Some("libvirt")),
            ("filter", "LIBVIRT_FWI", Some("libvirt")),
            ("netavark", "INPUT", Some("podman")),
            ("filter", "CILIUM_FORWARD", Some("cilium")),
        ] {
            assert_eq!(of_chain(table, chain), owner, "{table} {chain}");
        }
    }

    #[test]
    fn rules_and_routes_have_owners() {
        let of_rule = |comment, text| owner_of_rule(comment, text).map(|owner| owner.id);
        assert_eq!(of_rule(Some("cali:Cz_u1IQiXIMmKD4c"), "-j DROP"), Some("calico"));
        let banned = "-p tcp -m multiport --dports 22 -m set --match-set f2b-sshd src -j REJECT";
        assert_eq!(of_rule(None, banned), Some("fail2ban"));
        assert_eq!(of_rule(None, "ip saddr @addr-set-sshd reject"), Some("fail2ban"));
        assert_eq!(of_rule(Some("no f2b-sshd here"), "-j DROP"), None);
        assert_eq!(owner_of_route(4), None);
        assert_eq!(owner_of_route(80).flatten().map(|owner| owner.id), Some("calico"));
        assert_eq!(owner_of_route(186).flatten().map(|owner| owner.id), Some("routing_daemon"));
        assert_eq!(owner_of_route(77), Some(None), "of a program without a name");
        assert_eq!(owner_of_policy("ufw-before-input").map(|owner| owner.id), Some("ufw"));
    }

    #[test]
    fn a_star_is_any_text() {
        assert!(fits("a*", "a") && fits("a*c", "abc") && fits("IN_*_deny", "IN_a_b_deny") && fits("x", "x"));
        assert!(!fits("a*", "ba") && !fits("ab*bc", "abc") && !fits("x", "xy") && !fits("", "x"));
    }
}
