//! Names of drop reasons. Numbers differ between kernels, even inside a stable series, so the names are read from
//! the running kernel's own type information (BTF).

use crate::error::{Error, Result};
use std::collections::HashMap;
use std::fs;
use whydrop_model::text;

const DIRECTORY: &str = "/sys/kernel/btf";
/// Enumerations whose values appear as reasons: include/net/dropreason-core.h and the subsystems registered with
/// drop_reasons_register_subsys(), whose values carry the subsystem in their upper 16 bits.
const ENUMS: [&str; 4] = ["skb_drop_reason", "ovs_drop_reason", "mac80211_drop_reason", "qdisc_drop_reason"];
/// Modules that bring such an enumeration.
const MODULES: [&str; 2] = ["openvswitch", "mac80211"];

/// Reason numbers of the running kernel and their names.
#[derive(Debug, Default)]
pub struct Reasons(HashMap<u32, String>);

impl Reasons {
    /// Reads the enumerations of the kernel and of loaded modules.
    pub fn read() -> Result<Self> {
        let path = format!("{DIRECTORY}/vmlinux");
        let kernel =
            fs::read(&path).map_err(|e| Error::io(text!("read {object}", "读取 {object}"), &path, &e))?;
        let mut names = HashMap::new();
        let strings = collect(&kernel, &[], &mut names).ok_or_else(|| {
            Error::new(
                text!("read {object}", "读取 {object}"),
                &path,
                text!("not the type information of a kernel", "不是内核的类型信息").phrase(),
            )
        })?;
        for module in MODULES {
            // Absent unless the module is loaded; its reasons cannot occur then.
            if let Ok(split) = fs::read(format!("{DIRECTORY}/{module}")) {
                collect(&split, strings, &mut names);
            }
        }
        Ok(Self(names))
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

/// `SKB_DROP_REASON_NO_SOCKET` -> `NO_SOCKET`.
fn short(name: &str) -> &str {
    name.strip_prefix("SKB_DROP_REASON_").or_else(|| name.strip_prefix("SKB_")).unwrap_or(name)
}

/// Adds the values of [`ENUMS`] found in one BTF blob; returns its strings. `base` are the strings of the kernel
/// when the blob is a module's. Layout: Documentation/bpf/btf.rst.
fn collect<'a>(blob: &'a [u8], base: &[u8], names: &mut HashMap<u32, String>) -> Option<&'a [u8]> {
    let word = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    let [magic_0, magic_1, ..] = *blob else { return None };
    if u16::from_ne_bytes([magic_0, magic_1]) != 0xeb9f {
        return None;
    }
    let header = word(blob, 4)? as usize;
    let section = |offset: u32, length: u32| -> Option<&'a [u8]> {
        let start = header.checked_add(offset as usize)?;
        blob.get(start..start.checked_add(length as usize)?)
    };
    let mut types = section(word(blob, 8)?, word(blob, 12)?)?;
    let strings = section(word(blob, 16)?, word(blob, 20)?)?;
    let string = |offset: u32| -> Option<&str> {
        let offset = offset as usize;
        let bytes = match offset.checked_sub(base.len()) {
            Some(own) => strings.get(own..)?,
            None => base.get(offset..)?,
        };
        std::str::from_utf8(bytes.split(|&b| b == 0).next()?).ok()
    };
    while let (Some(name), Some(info)) = (word(types, 0), word(types, 4)) {
        let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        let body = match kind {
            1 | 14 | 17 => 4,              // INT, VAR, DECL_TAG
            3 => 12,                       // ARRAY
            4 | 5 | 15 | 19 => count * 12, // STRUCT, UNION, DATASEC, ENUM64
            6 | 13 => count * 8,           // ENUM, FUNC_PROTO
            2 | 7..=12 | 16 | 18 => 0,     // PTR, FWD, TYPEDEF, qualifiers, FUNC, FLOAT, TYPE_TAG
            _ => return Some(strings),     // a kind of a later kernel: its length is unknown
        };
        if kind == 6 && string(name).is_some_and(|n| ENUMS.contains(&n)) {
            for value in types.get(12..12 + body)?.chunks_exact(8) {
                if let (Some(name), Some(number)) = (word(value, 0).and_then(string), word(value, 4)) {
                    names.entry(number).or_insert_with(|| short(name).to_owned());
                }
            }
        }
        types = types.get(12 + body..)?;
    }
    Some(strings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        out.extend(0xeb9f_u16.to_ne_bytes());
        out.extend([1, 0]);
        let length = types.len() as u32 * 4;
        for word in [24, 0, length, length, strings.len() as u32] {
            out.extend(word.to_ne_bytes());
        }
        types.iter().for_each(|word| out.extend(word.to_ne_bytes()));
        out.extend(strings);
        out
    }

    #[test]
    fn reads_an_enumeration_behind_other_types() {
        let strings = b"\0int\0skb_drop_reason\0SKB_NOT_DROPPED_YET\0SKB_DROP_REASON_NO_SOCKET\0";
        let types = [1, 1 << 24, 4, 32, 5, (6 << 24) | 2, 4, 21, 0, 41, 3];
        let mut names = HashMap::new();
        collect(&blob(&types, strings), &[], &mut names).expect("valid");
        let reasons = Reasons(names);
        assert_eq!(reasons.name(0), "NOT_DROPPED_YET");
        assert_eq!(reasons.name(3), "NO_SOCKET");
        assert_eq!(reasons.name(9), "REASON_9");
    }

    #[test]
    fn reads_a_module_with_the_strings_of_the_kernel() {
        let base = b"\0ovs_drop_reason\0";
        let types = [1, (6 << 24) | 1, 4, base.len() as u32, 0x20001];
        let mut names = HashMap::new();
        collect(&blob(&types, b"OVS_DROP_METER\0"), base, &mut names).expect("valid");
        assert_eq!(names.get(&0x20001).map(String::as_str), Some("OVS_DROP_METER"));
    }

    #[test]
    fn survives_cut_and_foreign_bytes() {
        let whole = blob(&[1, (6 << 24) | 900, 4], b"\0skb_drop_reason\0");
        for length in 0..whole.len() {
            collect(&whole[..length], &[], &mut HashMap::new());
        }
        assert!(collect(b"hello, this is no BTF at all", &[], &mut HashMap::new()).is_none());
    }

    #[test]
    fn a_kernel_without_reasons_gives_no_name() {
        assert_eq!(Reasons::default().name(0), "");
    }
}
