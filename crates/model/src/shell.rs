//! Quoting for a POSIX shell, and escaping of hostile text. whydrop never runs a shell; people do.

/// Quotes one word so that a POSIX shell reads it back unchanged.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Joins an argv into one line for a POSIX shell.
pub fn join<S: AsRef<str>>(argv: &[S]) -> String {
    argv.iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// Makes text from outside safe to show: control characters, escape sequences and bidirectional controls
/// become visible `\u{..}`, and more than `max` characters are cut with `...`.
pub fn sanitize(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == max {
            out.push_str("...");
            break;
        }
        let bidi = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || bidi {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_what_needs_it() {
        assert_eq!(join(&["ip", "link", "a b", "it's", ""]), r"ip link 'a b' 'it'\''s' ''");
    }

    #[test]
    fn sanitizes_escapes_and_length() {
        assert_eq!(sanitize("a\x1b[31mb\u{202e}", 80), "a\\u{1b}[31mb\\u{202e}");
        assert_eq!(sanitize("aaaa", 2), "aa...");
    }
}
