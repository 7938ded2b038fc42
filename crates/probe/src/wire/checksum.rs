//! The Internet checksum (RFC 1071).

/// Ones' complement of the ones' complement sum of 16-bit words; 0 over bytes that hold their own checksum.
pub fn internet(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| match pair {
        [a, b] => u32::from(u16::from_be_bytes([*a, *b])),
        [a] => u32::from(*a) << 8,
        _ => 0,
    };
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_the_example_of_rfc_1071() {
        assert_eq!(super::internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
