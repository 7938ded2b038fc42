//! Quoting for a POSIX shell, and escaping of hostile text. whydrop never runs a shell; people do.

/// True for what must never reach a terminal as it is: control characters and bidirectional controls.
fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Quotes one word so that a shell reads it back unchanged. The result is safe to show: hostile characters are
/// spelled as bytes in `$'...'` (POSIX 2024; bash, zsh, ksh, busybox).
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if !word.chars().any(hostile) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut out = "$'".to_owned();
    for c in word.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            c if hostile(c) => {
                let mut bytes = [0; 4];
                // Three octal digits: unlike \x they end by themselves.
                out.extend(c.encode_utf8(&mut bytes).bytes().map(|b| format!("\\{b:03o}")));
            }
            c => out.push(c),
        }
    }
    out + "'"
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
        if hostile(c) {
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
    fn a_quoted_word_cannot_steer_a_terminal() {
        assert_eq!(quote("a\x1b[31m'\u{202e}"), r"$'a\033[31m\'\342\200\256'");
    }

    #[test]
    fn sanitizes_escapes_and_length() {
        assert_eq!(sanitize("a\x1b[31mb\u{202e}", 80), "a\\u{1b}[31mb\\u{202e}");
        assert_eq!(sanitize("aaaa", 2), "aa...");
    }
}
