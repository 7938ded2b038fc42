//! Names of drop reasons. Numbers differ between kernels, even inside a stable series, so the names are read from
//! the running kernel's own type information (BTF).

use super::btf::{Blob, ENUM, Sections};
use std::collections::HashMap;

/// Enumerations whose values appear as reasons: include/net/dropreason-core.h and the subsystems registered with
/// drop_reasons_register_subsys(), whose values carry the subsystem in their upper 16 bits.
const ENUMS: [&str; 4] = ["skb_drop_reason", "ovs_drop_reason", "mac80211_drop_reason", "qdisc_drop_reason"];
/// Modules that bring such an enumeration.
const MODULES: [&str; 2] = ["openvswitch", "mac80211"];

/// Reason numbers of the running kernel and their names.
#[derive(Debug, Default)]
pub struct Reasons(HashMap<u32, String>);

impl Reasons {
    /// Finds the enumerations of the kernel and of loaded modules.
    pub fn of(kernel: &Blob) -> Self {
        let mut names = HashMap::new();
        let Some(kernel) = kernel.sections() else { return Self(names) };
        collect(kernel, &[], &mut names);
        for module in MODULES {
            // Absent unless the module is loaded; its reasons cannot occur then.
            let split = Blob::read(module).ok();
            if let Some(split) = split.as_ref().and_then(Blob::sections) {
                collect(split, kernel.strings, &mut names);
            }
        }
        Self(names)
    }

    /// True if a reason has this name.
    pub fn knows(&self, name: &str) -> bool {
        self.0.values().any(|known| known == name)
    }

    /// `NETFILTER_DROP`; `REASON_n` if the kernel did not tell; empty if it has no reasons at all (before 5.17).
    pub fn name(&self, reason: u32) -> String {
        match self.0.get(&reason) {
            Some(name) => name.clone(),
            None if self.0.is_empty() => String::new(),
            None => format!("REASON_{reason}"),
        }
    }
}

/// Why TCP sends a reset, by number (enum sk_rst_reason, since 6.10): `NO_SOCKET`.
pub fn of_resets(kernel: &Blob) -> HashMap<u32, String> {
    let Some(types) = kernel.sections() else { return HashMap::new() };
    let is_it = |name: u32| types.name(name, &[]) == Some("sk_rst_reason");
    let values = types.types().filter(|t| t.kind == ENUM && is_it(t.name)).flat_map(|t| t.values());
    let named =
        |(name, number)| Some((number, types.name(name, &[])?.strip_prefix("SK_RST_REASON_")?.to_owned()));
    values.filter_map(named).collect()
}

/// `SKB_DROP_REASON_NO_SOCKET` -> `NO_SOCKET`.
fn short(name: &str) -> &str {
    name.strip_prefix("SKB_DROP_REASON_").or_else(|| name.strip_prefix("SKB_")).unwrap_or(name)
}

/// Adds the values of [`ENUMS`]. `base` are the strings of the kernel when the types are a module's.
fn collect<'a>(types: Sections<'a>, base: &'a [u8], names: &mut HashMap<u32, String>) {
    let wanted = |name: u32| types.name(name, base).is_some_and(|name| ENUMS.contains(&name));
    let values = types.types().filter(|t| t.kind == ENUM && wanted(t.name)).flat_map(|t| t.values());
    for (name, number) in values {
        if let Some(name) = types.name(name, base) {
            names.entry(number).or_insert_with(|| short(name).to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_enumeration_behind_other_types() {
        let strings = b"\0int\0skb_drop_reason\0SKB_NOT_DROPPED_YET\0SKB_DROP_REASON_NO_SOCKET\0";
        let types = [1, 1 << 24, 4, 32, 5, (6 << 24) | 2, 4, 21, 0, 41, 3];
        let reasons = Reasons::of(&Blob::of(&types, strings));
        assert_eq!(reasons.name(0), "NOT_DROPPED_YET");
        assert_eq!(reasons.name(3), "NO_SOCKET");
        assert_eq!(reasons.name(9), "REASON_9");
        assert!(reasons.knows("NO_SOCKET") && !reasons.knows("NO_SOCKETS"));
    }

    #[test]
    fn reads_a_module_with_the_strings_of_the_kernel() {
        let base = b"\0ovs_drop_reason\0";
        let types = [1, (6 << 24) | 1, 4, base.len() as u32, 0x20001];
        let mut names = HashMap::new();
        let module = Blob::of(&types, b"OVS_DROP_METER\0");
        collect(module.sections().expect("valid"), base, &mut names);
        assert_eq!(names.get(&0x20001).map(String::as_str), Some("OVS_DROP_METER"));
    }

    #[test]
    fn a_kernel_without_reasons_gives_no_name() {
        assert_eq!(Reasons::default().name(0), "");
    }
}
