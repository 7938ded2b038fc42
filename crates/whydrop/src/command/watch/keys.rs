//! From the bytes of a terminal to keys.

use whydrop_report::watch::Key;

/// The keys in what was read at once. A lone escape is the key; one before `[` or `O` begins an arrow.
pub fn parse(bytes: &[u8]) -> Vec<Key> {
    let mut out = vec![];
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            3 => out.push(Key::Interrupt),
            8 | 127 => out.push(Key::Backspace),
            9 => out.push(Key::Tab),
            18 => out.push(Key::Reset),
            b'\r' | b'\n' => out.push(Key::Enter),
            0x1b => match after {
                [b'[' | b'O', code, more @ ..] => {
                    rest = more;
                    match code {
                        b'A' => out.push(Key::Up),
                        b'B' => out.push(Key::Down),
                        // Longer sequences (PgUp is ESC [ 5 ~) end with a letter or `~`.
                        b'0'..=b'9' => {
                            let end = more.iter().position(|b| b.is_ascii_alphabetic() || *b == b'~');
                            rest = end.and_then(|end| more.get(end + 1..)).unwrap_or_default();
                            match (code, end) {
                                (b'5', Some(0)) => out.push(Key::PageUp),
                                (b'6', Some(0)) => out.push(Key::PageDown),
                                _ => {}
                            }
                        }
                        _ => {}
                    }
                }
                _ => out.push(Key::Escape),
            },
            byte if byte.is_ascii_graphic() || *byte == b' ' => out.push(Key::Char(char::from(*byte))),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_are_no_escape_and_nothing_unknown_is_a_key() {
        assert_eq!(parse(b"\x1b"), [Key::Escape]);
        assert_eq!(parse(b"\x1b[Aj\x1bOB"), [Key::Up, Key::Char('j'), Key::Down]);
        assert_eq!(parse(b"\x1b[5~q\x1b[3~"), [Key::PageUp, Key::Char('q')]);
        assert_eq!(parse(b"\x03\t\r "), [Key::Interrupt, Key::Tab, Key::Enter, Key::Char(' ')]);
        assert_eq!(parse("é\x01".as_bytes()), []);
        assert_eq!(parse(b"\x1b[1;5"), []);
    }
}
