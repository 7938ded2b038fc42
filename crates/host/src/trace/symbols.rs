//! Addresses to function names, from /proc/kallsyms: the kernel and its modules.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use whydrop_model::text;

const PATH: &str = "/proc/kallsyms";
/// KSYM_NAME_LEN is 512, and a module's name follows.
const LONGEST_LINE: u64 = 1024;
/// A location further than this from the symbol before it lies in something that came after the list was read.
const LONGEST_FUNCTION: u64 = 1 << 20;

/// Functions of the kernel, sorted by address.
#[derive(Debug, Default)]
pub struct Symbols {
    names: String,
    /// Address, start in `names`, length.
    entries: Vec<(u64, u32, u16)>,
}

impl Symbols {
    /// Reads the list. Fails if the kernel hides addresses (kptr_restrict without CAP_SYSLOG).
    pub fn read() -> Result<Self> {
        let fail = |e: std::io::Error| Error::io(text!("read {object}", "读取 {object}"), PATH, &e);
        let file = BufReader::with_capacity(64 * 1024, File::open(PATH).map_err(fail)?);
        let symbols = Self::parse(file).map_err(fail)?;
        if symbols.entries.is_empty() {
            return Err(Error::new(
                text!("read {object}", "读取 {object}"),
                PATH,
                text!(
                    "addresses are hidden (kptr_restrict, needs CAP_SYSLOG)",
                    "地址被隐藏（kptr_restrict，需要 CAP_SYSLOG）"
                )
                .phrase(),
            ));
        }
        Ok(symbols)
    }

    /// Reads lines of `ffffffff81000000 T name [module]`; functions only, hidden addresses left out.
    fn parse(mut list: impl BufRead) -> std::io::Result<Self> {
        let mut symbols = Self::default();
        let mut line = vec![];
        while list.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
            symbols.add(line.trim_ascii_end());
            line.clear();
        }
        // Stable: of several names of one address the first listed stays first, as %pS in the kernel has it.
        symbols.entries.sort_by_key(|&(address, ..)| address);
        symbols.entries.shrink_to_fit();
        symbols.names.shrink_to_fit();
        Ok(symbols)
    }

    fn add(&mut self, line: &[u8]) {
        let mut words = line.splitn(3, |&b| b == b' ');
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        if !matches!(kind, b"t" | b"T" | b"w" | b"W") {
            return;
        }
        let name = name.split(|&b| b == b'\t').next().and_then(|n| std::str::from_utf8(n).ok());
        let address = std::str::from_utf8(address).ok().and_then(|a| u64::from_str_radix(a, 16).ok());
        let (Some(name), Some(address @ 1..)) = (name, address) else { return };
        let (Ok(start), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else {
            return;
        };
        self.names.push_str(name);
        self.entries.push((address, start, length));
    }

    /// Function and offset of a return address; none if it is in no known function.
    pub fn find(&self, return_address: u64) -> Option<(&str, u32)> {
        // The call itself lies before its return address, which may already belong to the next function.
        let call = return_address.checked_sub(1)?;
        let after = self.entries.partition_point(|&(address, ..)| address <= call);
        let &(base, ..) = self.entries.get(after.checked_sub(1)?)?;
        let first = self.entries.partition_point(|&(address, ..)| address < base);
        let &(base, start, length) = self.entries.get(first)?;
        let offset = return_address - base;
        if offset > LONGEST_FUNCTION {
            return None;
        }
        let start = start as usize;
        let name = self.names.get(start..start + usize::from(length))?;
        Some((without_suffix(name), u32::try_from(offset).ok()?))
    }
}

/// `ip_rcv_core.isra.0` -> `ip_rcv_core`: copies that the compiler made are the same function to people.
pub fn without_suffix(name: &str) -> &str {
    name.split('.').next().filter(|n| !n.is_empty()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"ffffffff81000000 T _stext\nffffffff81000000 T _text\nffffffff81000100 t ip_rcv_core.isra.0\n\
        ffffffff81000200 D data\nffffffffc0000000 t nft_do_chain\t[nf_tables]\nbroken\n0000000000000000 T hidden\n";

    #[test]
    fn finds_functions_of_kernel_and_modules() {
        let symbols = Symbols::parse(TEXT).expect("memory");
        assert_eq!(symbols.find(0xffff_ffff_8100_0010), Some(("_stext", 0x10)));
        assert_eq!(symbols.find(0xffff_ffff_8100_0150), Some(("ip_rcv_core", 0x50)));
        assert_eq!(symbols.find(0xffff_ffff_c000_0020), Some(("nft_do_chain", 0x20)));
    }

    #[test]
    fn a_call_that_ends_a_function_belongs_to_it() {
        assert_eq!(
            Symbols::parse(TEXT).expect("memory").find(0xffff_ffff_8100_0100),
            Some(("_stext", 0x100))
        );
    }

    #[test]
    fn knows_what_it_does_not_know() {
        let symbols = Symbols::parse(TEXT).expect("memory");
        assert_eq!(symbols.find(0), None);
        assert_eq!(symbols.find(0x1000), None);
        assert_eq!(symbols.find(0xffff_ffff_ffff_0000), None);
    }
}
