//! Netlink attributes: type, length, value.
//!
//! The typed decoders of `netlink_bindings` fill structures that are shorter than expected with zeros and end lists
//! at the first unknown entry. A reading must do neither, so values are taken out one by one here, each `None` when
//! it is not there or too short.

use netlink_bindings::utils::{IterableChunks, parse_u16, parse_u32, parse_u64};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A run of attributes, such as follows the fixed header of a message or fills a nested attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes behind a fixed header of `length` bytes (4-aligned, as all netlink headers are).
    pub fn after(message: &'a [u8], length: usize) -> Option<Self> {
        message.get(length..).map(Self)
    }

    /// All attributes in order, as type (without its flag bits) and value; ends at the first one that is not whole.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        IterableChunks::new(self.0).map(|(header, value)| (header.r#type, value))
    }

    /// Value of the first attribute of this type.
    pub fn bytes(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(k, _)| *k == kind).map(|(_, value)| value)
    }

    /// Attributes inside an attribute.
    pub fn nested(self, kind: u16) -> Option<Self> {
        self.bytes(kind).map(Self)
    }

    /// One byte.
    pub fn u8(self, kind: u16) -> Option<u8> {
        self.bytes(kind)?.first().copied()
    }

    /// 16 bits in host order.
    pub fn u16(self, kind: u16) -> Option<u16> {
        parse_u16(self.bytes(kind)?)
    }

    /// 16 bits in network order.
    pub fn be16(self, kind: u16) -> Option<u16> {
        self.u16(kind).map(u16::from_be)
    }

    /// 32 bits in host order.
    pub fn u32(self, kind: u16) -> Option<u32> {
        parse_u32(self.bytes(kind)?)
    }

    /// 64 bits in host order.
    pub fn u64(self, kind: u16) -> Option<u64> {
        parse_u64(self.bytes(kind)?)
    }

    /// An address of 4 or 16 bytes.
    pub fn ip(self, kind: u16) -> Option<IpAddr> {
        ip(self.bytes(kind)?)
    }

    /// Text up to the first NUL; bytes that are not UTF-8 become U+FFFD.
    pub fn text(self, kind: u16) -> Option<String> {
        let bytes = self.bytes(kind)?;
        let text = bytes.split(|b| *b == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// An address of 4 or 16 bytes.
pub fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| Ipv4Addr::from(b).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|b| Ipv6Addr::from(b).into()),
        _ => None,
    }
}

/// A link-layer address as `aa:bb:…`; none for an empty one.
pub fn mac(bytes: &[u8]) -> Option<String> {
    let octets: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    (!octets.is_empty()).then(|| octets.join(":"))
}

/// Names of the bits that are set, from a table of (bit, name).
pub fn flags(bits: u32, names: &[(u32, &str)]) -> Vec<String> {
    names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned()).collect()
}

/// Builds messages for tests: attributes appended to a header.
#[cfg(test)]
pub mod build {
    /// One attribute with padding.
    pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    /// Gives every prefix of a message, and the message with each of its bytes set to extreme values, to a parser
    /// that must not panic.
    pub fn torture<R>(message: &[u8], mut parse: impl FnMut(&[u8]) -> R) {
        for length in 0..=message.len() {
            parse(&message[..length]);
        }
        let mut bent = message.to_vec();
        for index in 0..bent.len() {
            for value in [0, 1, 3, 5, 0x7f, 0xff] {
                let old = std::mem::replace(&mut bent[index], value);
                parse(&bent);
                bent[index] = old;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_and_never_invents_one() {
        let mut bytes = build::attribute(3, b"eth0\0");
        bytes.extend(build::attribute(0x8004, &7u32.to_ne_bytes()));
        bytes.extend(build::attribute(5, &[1]));
        let attributes = Attributes(&bytes);
        assert_eq!(attributes.text(3).as_deref(), Some("eth0"));
        assert_eq!(attributes.u32(4), Some(7));
        assert_eq!(attributes.u32(5), None, "one byte is no u32");
        assert_eq!(attributes.u8(6), None);
        build::torture(&bytes, |b| Attributes(b).iter().count());
    }
}
