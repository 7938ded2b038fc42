//! Sixteen characters that name a probe inside a payload, and that nobody off the path can guess.

use std::hash::{BuildHasher, RandomState};

/// Bytes of a token.
pub const LENGTH: usize = 16;

/// Makes and recognises tokens of one run.
#[derive(Debug, Default)]
pub struct Tokens {
    key: RandomState,
}

impl Tokens {
    /// Token of probe `seq`: its number and a keyed hash of it, in hexadecimal digits.
    pub fn make(&self, seq: u32) -> [u8; LENGTH] {
        let text = format!("{seq:08x}{:08x}", self.key.hash_one(seq) as u32);
        let mut token = [0; LENGTH];
        token.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        token
    }

    /// The probe whose token `bytes` begins with.
    pub fn read(&self, bytes: &[u8]) -> Option<u32> {
        let token = bytes.get(..LENGTH)?;
        let number = std::str::from_utf8(token.get(..8)?).ok()?;
        let seq = u32::from_str_radix(number, 16).ok()?;
        (self.make(seq) == token).then_some(seq)
    }

    /// The probe whose token stands anywhere in `bytes`: services put what they echo where they like.
    pub fn find(&self, bytes: &[u8]) -> Option<u32> {
        bytes.windows(LENGTH).find_map(|window| self.read(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_its_own_tokens_only() {
        let (ours, theirs) = (Tokens::default(), Tokens::default());
        for seq in [0, 1, 77, u32::MAX] {
            let token = ours.make(seq);
            let around = [b"ab".as_slice(), &token, b"c"].concat();
            assert_eq!(
                (ours.find(&around), ours.read(&around), theirs.find(&around)),
                (Some(seq), None, None)
            );
        }
        assert_eq!(ours.find(b"+0000001"), None);
    }
}
