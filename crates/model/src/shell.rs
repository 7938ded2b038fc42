//! Quoting for a POSIX shell, and escaping of hostile text. whydrop never runs a shell; people do.

/// True for what must never reach a terminal as it is: control characters, bidirectional controls, and what is not seen
/// (Default_Ignorable_Code_Point of Unicode 16, DerivedCoreProperties.txt).
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Quotes one word so that a shell reads it back unchanged. The result is safe to show: hostile characters are
/// spelled as bytes in `$'...'` (POSIX 2024; bash, zsh, ksh, busybox). A shell that does not know this (dash) reads
/// plain quotes there: it gets another word, but one word, for no quote and no backslash stands in it by itself.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if !word.chars().any(is_hostile) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut out = "$'".to_owned();
    for c in word.chars() {
        match c {
            c if matches!(c, '\'' | '\\') || is_hostile(c) => {
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
        if is_hostile(c) {
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
        assert_eq!(quote("a\x1b[31m'\u{202e}"), r"$'a\033[31m\047\342\200\256'");
        assert_eq!(quote("\u{7}'; reboot #\\"), r"$'\007\047; reboot #\134'");
    }

    #[test]
    fn sanitizes_escapes_and_length() {
        assert_eq!(sanitize("a\x1b[31mb\u{202e}", 80), "a\\u{1b}[31mb\\u{202e}");
        assert_eq!(sanitize("aaaa", 2), "aa...");
        assert_eq!(sanitize("a\u{ad}b\u{61c}c\u{2060}", 80), "a\\u{ad}b\\u{61c}c\\u{2060}");
    }
}
