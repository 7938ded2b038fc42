//! The type information of the kernel (BTF, Documentation/bpf/btf.rst), read once, and cut down before the loader
//! parses it: of 126,000 types the program mentions some twenty, and all of them together take 20 MiB once parsed.

use crate::error::{Error, Result};
use std::collections::HashSet;
use std::fs;
use whydrop_model::text;

/// Where the kernel shows it: `vmlinux`, and a file for each module.
pub const DIRECTORY: &str = "/sys/kernel/btf";
const MAGIC: u16 = 0xeb9f;
const HEADER: u32 = 24;
/// Bytes of a type before what its kind adds: name, kind and count, size or type.
const TYPE: usize = 12;
/// Kinds (include/uapi/linux/btf.h) that are of interest here.
pub const ENUM: u32 = 6;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
/// Functions, variables and wide enumerations: no program of ours refers to one of the kernel's.
const NEVER: [u32; 6] = [12, 13, 14, 15, 17, 19];

/// Type information as the kernel hands it out.
pub struct Blob(Vec<u8>);

/// Its two parts; names are offsets into `strings`.
#[derive(Clone, Copy)]
pub struct Sections<'a> {
    types: &'a [u8],
    /// Texts, each ended by a zero byte.
    pub strings: &'a [u8],
}

/// One type.
#[derive(Clone, Copy)]
pub struct Type<'a> {
    /// Offset of its name.
    pub name: u32,
    /// What it is: `BTF_KIND_*`.
    pub kind: u32,
    bytes: &'a [u8],
}

impl Blob {
    /// Reads that of the kernel (`vmlinux`) or of a module. 5 MiB for a kernel of 2025.
    pub fn read(object: &str) -> Result<Self> {
        let path = format!("{DIRECTORY}/{object}");
        let blob = fs::read(&path)
            .map(Self)
            .map_err(|e| Error::io(text!("read {object}", "读取 {object}"), &path, &e))?;
        if blob.sections().is_none() {
            let what = text!("not the type information of a kernel", "不是内核的类型信息");
            return Err(Error::new(text!("read {object}", "读取 {object}"), &path, what.phrase()));
        }
        Ok(blob)
    }

    #[cfg(test)]
    pub fn of(types: &[u32], strings: &[u8]) -> Self {
        Self(assemble(types.iter().flat_map(|word| word.to_ne_bytes()).collect(), strings))
    }

    /// Both parts; none unless it is BTF.
    pub fn sections(&self) -> Option<Sections<'_>> {
        let blob = self.0.as_slice();
        let [magic_0, magic_1, ..] = *blob else { return None };
        if u16::from_ne_bytes([magic_0, magic_1]) != MAGIC {
            return None;
        }
        let header = word(blob, 4)? as usize;
        let section = |offset: u32, length: u32| {
            let start = header.checked_add(offset as usize)?;
            blob.get(start..start.checked_add(length as usize)?)
        };
        Some(Sections {
            types: section(word(blob, 8)?, word(blob, 12)?)?,
            strings: section(word(blob, 16)?, word(blob, 20)?)?,
        })
    }

    /// The same types under the same numbers, up to the last one that `object` can mean or that such a one is made of;
    /// the others are empty. `object` is a compiled program, each of whose strings may be the name of a type; `more`
    /// are names beside those.
    pub fn for_program(&self, object: &[u8], more: &[&str]) -> Option<Vec<u8>> {
        let sections = self.sections()?;
        let names = object.split(|&byte| byte == 0).map(without_flavour);
        let names: HashSet<&[u8]> = names.chain(more.iter().map(|name| name.as_bytes())).collect();
        let wanted = |name: u32| name != 0 && sections.bytes(name).is_some_and(|name| names.contains(name));
        let is_open = |of_kernel: &Type<'_>| match of_kernel.kind {
            kind if NEVER.contains(&kind) => false,
            ENUM => wanted(of_kernel.name),
            // Members without a name of their own lie in nameless ones.
            STRUCT | UNION => of_kernel.name == 0 || wanted(of_kernel.name),
            _ => true,
        };
        let named = |of_kernel: &Type<'_>| {
            matches!(of_kernel.kind, STRUCT | UNION | ENUM | TYPEDEF) && wanted(of_kernel.name)
        };
        let reached = sections.reached_from(named, is_open);
        let mut kept = Kept { types: vec![], strings: vec![0], end: 0, sections };
        for (of_kernel, reached) in sections.types().zip(reached) {
            match reached && is_open(&of_kernel) {
                true => kept.whole(of_kernel, named(&of_kernel))?,
                false => kept.nothing(),
            }
            if reached {
                kept.end = kept.types.len();
            }
        }
        let Kept { mut types, strings, end, .. } = kept;
        types.truncate(end);
        Some(assemble(types, &strings))
    }
}

impl<'a> Sections<'a> {
    /// All types, in the order of their numbers from 1 on; ends before a kind of a later kernel.
    pub fn types(self) -> impl Iterator<Item = Type<'a>> {
        let mut rest = self.types;
        std::iter::from_fn(move || {
            let (name, info) = (word(rest, 0)?, word(rest, 4)?);
            let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            let more = match kind {
                1 | 14 | 17 => 4,              // INT, VAR, DECL_TAG
                3 => 12,                       // ARRAY
                4 | 5 | 15 | 19 => count * 12, // STRUCT, UNION, DATASEC, ENUM64
                6 | 13 => count * 8,           // ENUM, FUNC_PROTO
                2 | 7..=12 | 16 | 18 => 0,     // PTR, FWD, TYPEDEF, qualifiers, FUNC, FLOAT, TYPE_TAG
                _ => return None,              // its length is unknown
            };
            let (bytes, behind) = rest.split_at_checked(TYPE + more)?;
            rest = behind;
            Some(Type { name, kind, bytes })
        })
    }

    /// For each type whether it is one of `first`, or what such a one is made of, looking only into those that are
    /// open. Types mention others before and behind them: looked through until nothing new is found.
    fn reached_from(
        self,
        first: impl Fn(&Type<'_>) -> bool,
        is_open: impl Fn(&Type<'_>) -> bool,
    ) -> Vec<bool> {
        let mut reached: Vec<bool> = self.types().map(|of_kernel| first(&of_kernel)).collect();
        loop {
            let mut again = false;
            for (index, of_kernel) in self.types().enumerate() {
                if reached.get(index) != Some(&true) || !is_open(&of_kernel) {
                    continue;
                }
                // Number 0 is `void`; the first type is number 1.
                for part in of_kernel.parts().filter_map(|number| (number as usize).checked_sub(1)) {
                    if let Some(known) = reached.get_mut(part).filter(|known| !**known) {
                        *known = true;
                        again |= part < index;
                    }
                }
            }
            if !again {
                return reached;
            }
        }
    }

    /// A name. `base` are the strings of the kernel when these are a module's.
    pub fn name(self, offset: u32, base: &'a [u8]) -> Option<&'a str> {
        let bytes = match (offset as usize).checked_sub(base.len()) {
            Some(own) => self.strings.get(own..)?,
            None => base.get(offset as usize..)?,
        };
        std::str::from_utf8(bytes.split(|&b| b == 0).next()?).ok()
    }

    fn bytes(self, offset: u32) -> Option<&'a [u8]> {
        self.strings.get(offset as usize..)?.split(|&b| b == 0).next()
    }
}

impl<'a> Type<'a> {
    /// Numbers of the types that it is made of.
    fn parts(self) -> impl Iterator<Item = u32> + 'a {
        let bytes = self.bytes;
        let (first, step): (&[usize], usize) = match self.kind {
            2 | 8..=11 | 18 => (&[8], 0), // PTR, TYPEDEF, qualifiers, TYPE_TAG
            3 => (&[TYPE, TYPE + 4], 0),  // ARRAY: element and index
            STRUCT | UNION => (&[], 12),  // members: name, type, offset
            _ => (&[], 0),
        };
        let members = bytes.get(TYPE..).filter(|_| step > 0).into_iter();
        let members = members.flat_map(move |m| m.chunks_exact(step.max(1))).filter_map(|m| word(m, 4));
        first.iter().filter_map(move |at| word(bytes, *at)).chain(members)
    }

    /// Offsets of the names of an enumeration's values, with the values.
    pub fn values(self) -> impl Iterator<Item = (u32, u32)> + 'a {
        let values = if self.kind == ENUM { self.bytes.get(TYPE..) } else { None };
        values
            .into_iter()
            .flat_map(|values| values.chunks_exact(8))
            .filter_map(|v| Some((word(v, 0)?, word(v, 4)?)))
    }
}

/// What is kept of a kernel's types.
struct Kept<'a> {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Where the last one that matters ends.
    end: usize,
    sections: Sections<'a>,
}

impl Kept<'_> {
    /// A type of no meaning, so that those behind it keep their numbers.
    fn nothing(&mut self) {
        self.types.extend([0, FORWARD << 24, 0].into_iter().flat_map(u32::to_ne_bytes));
    }

    /// A type with its members. Only a name that matters is kept.
    fn whole(&mut self, of_kernel: Type<'_>, named: bool) -> Option<()> {
        let name = if named { self.string(of_kernel.name)? } else { 0 };
        self.types.extend(name.to_ne_bytes());
        self.types.extend(of_kernel.bytes.get(4..TYPE)?);
        let body = of_kernel.bytes.get(TYPE..)?;
        let member = match of_kernel.kind {
            STRUCT | UNION => 12,
            ENUM => 8,
            _ => {
                self.types.extend(body);
                0
            }
        };
        if member > 0 {
            for member in body.chunks_exact(member) {
                let name = self.string(word(member, 0)?)?;
                self.types.extend(name.to_ne_bytes());
                self.types.extend(member.get(4..)?);
            }
        }
        Some(())
    }

    fn string(&mut self, offset: u32) -> Option<u32> {
        if offset == 0 {
            return Some(0);
        }
        let at = u32::try_from(self.strings.len()).ok()?;
        self.strings.extend(self.sections.bytes(offset)?);
        self.strings.push(0);
        Some(at)
    }
}

/// `sock_cgroup_data___5_14` -> `sock_cgroup_data`: what follows three underscores tells layouts of one type apart.
fn without_flavour(name: &[u8]) -> &[u8] {
    name.windows(3).position(|three| three == b"___").and_then(|at| name.get(..at)).unwrap_or(name)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn assemble(types: Vec<u8>, strings: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER as usize + types.len() + strings.len());
    out.extend(MAGIC.to_ne_bytes());
    out.extend([1, 0]);
    // The parts of a kernel's BTF are below 4 GiB, for it says so itself in 32 bits.
    let (length, texts) = (types.len() as u32, strings.len() as u32);
    for word in [HEADER, 0, length, length, texts] {
        out.extend(word.to_ne_bytes());
    }
    out.extend(types);
    out.extend(strings);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::{Btf, Endianness};

    /// 1 int, 2 func_proto, 3 struct `other`, 4 struct `sock` with a member of a nameless union, 5 that union,
    /// 6 typedef `btf_trace_kfree_skb`, 7 struct `other`.
    fn kernel() -> Blob {
        let strings = b"\0int\0other\0sock\0family\0btf_trace_kfree_skb\0";
        let (int, other, sock, family, trace) = (1, 5, 11, 16, 23);
        let types: [&[u32]; 7] = [
            &[int, 1 << 24, 4, 32],
            &[0, (13 << 24) | 1, 1, 0, 1],
            &[other, (4 << 24) | 1, 4, family, 1, 0],
            &[sock, (4 << 24) | 1, 4, 0, 5, 0],
            &[0, (5 << 24) | 1, 4, family, 1, 0],
            &[trace, 8 << 24, 1],
            &[other, (4 << 24) | 1, 4, family, 1, 0],
        ];
        Blob::of(&types.concat(), strings)
    }

    #[test]
    fn what_a_program_means_keeps_its_number_and_its_members() {
        let cut = kernel().for_program(b"sock___5_14\0", &["btf_trace_kfree_skb"]).expect("valid");
        let cut = Blob(cut);
        let sections = cut.sections().expect("valid");
        let told: Vec<_> =
            sections.types().map(|t| (sections.name(t.name, &[]).expect("text"), t.kind)).collect();
        let expected = [("", 1), ("", 7), ("", 7), ("sock", 4), ("", 5), ("btf_trace_kfree_skb", 8)];
        assert_eq!(told, expected);
        let members = sections.types().nth(4).expect("the union").bytes;
        assert_eq!(sections.name(word(members, 12).expect("a member"), &[]), Some("family"));
    }

    #[test]
    fn what_a_type_is_made_of_may_stand_behind_it() {
        // 1 struct `sock` of a nameless union, 2 that union, 3 struct `other`, 4 the int inside the union.
        let types: [&[u32]; 4] = [
            &[1, (4 << 24) | 1, 4, 0, 2, 0],
            &[0, (5 << 24) | 1, 4, 12, 4, 0],
            &[6, 4 << 24, 0],
            &[0, 1 << 24, 4, 32],
        ];
        let kernel = Blob::of(&types.concat(), b"\0sock\0other\0family\0");
        let cut = Blob(kernel.for_program(b"sock\0", &[]).expect("valid"));
        let kinds: Vec<_> = cut.sections().expect("valid").types().map(|t| t.kind).collect();
        assert_eq!(kinds, [4, 5, 7, 1]);
    }

    #[test]
    fn the_loader_reads_what_is_left() {
        let cut = kernel().for_program(b"sock\0", &[]).expect("valid");
        Btf::parse(&cut, Endianness::default()).expect("valid");
    }

    #[test]
    fn survives_cut_and_foreign_bytes() {
        let Blob(whole) = kernel();
        for length in 0..whole.len() {
            Blob(whole[..length].to_vec()).for_program(b"sock\0", &[]);
        }
        assert!(Blob(b"hello, this is no BTF at all".to_vec()).sections().is_none());
    }
}
