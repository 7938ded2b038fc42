//! Lines for a terminal: display width, wrapping, columns. The one gate through which text from outside passes
//! before it meets a terminal: nothing written by a [`Page`] holds a control character of its data.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
use whydrop_model::{Lang, shell::sanitize};

/// Longest paragraph in characters; a rule's comment or a device's alias must not fill the screen.
const PARAGRAPH: usize = 600;
/// Longest name (target, interface, rule) in characters.
const NAME: usize = 120;

/// Columns that a terminal needs for `text`.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// `text` followed by spaces up to `columns`.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// A name from outside, escaped and cut.
pub(crate) fn name(text: &str) -> String {
    sanitize(text, NAME)
}

/// How a word is set off. Colour repeats what the word says; the sixteen colours of the user's own theme.
#[derive(Clone, Copy)]
pub(crate) enum Ink {
    Plain,
    Bold,
    Red,
    Yellow,
}

impl Ink {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Red => Some("1;31"),
            Self::Yellow => Some("33"),
        }
    }
}

/// How lines are laid out.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    /// Columns of a line.
    pub width: usize,
    /// Escape sequences for colour.
    pub colour: bool,
    /// For screen readers: `Label: text`, no columns, no bars, no indent.
    pub plain: bool,
    /// For the colon after a label where there are no columns.
    pub lang: Lang,
}

impl Style {
    const fn colon(&self) -> &'static str {
        match self.lang {
            Lang::En => ": ",
            Lang::Zh => "：",
        }
    }
}

/// A text under construction.
pub(crate) struct Page {
    style: Style,
    out: String,
}

impl Page {
    pub fn new(style: Style) -> Self {
        Self { style, out: String::new() }
    }

    pub fn finish(self) -> String {
        self.out
    }

    pub fn blank(&mut self) {
        self.out.push('\n');
    }

    /// A word that is set off, and its text in a column.
    pub fn marked(&mut self, ink: Ink, word: &str, column: usize, text: &str) {
        self.block(ink, word, column, column, text);
    }

    /// A word that is set off, its text right behind it, further lines indented by two.
    pub fn lead(&mut self, word: &str, text: &str) {
        self.block(Ink::Bold, word, width(word) + 1, 2, text);
    }

    /// A wrapped paragraph at an indent.
    pub fn paragraph(&mut self, indent: usize, text: &str) {
        self.block(Ink::Plain, "", indent, indent, text);
    }

    /// A label, and its text in a column.
    pub fn entry(&mut self, label: &str, column: usize, text: &str) {
        self.block(Ink::Plain, label, column, column, text);
    }

    /// A label, and a command in a column: never wrapped, never cut.
    pub fn command(&mut self, label: &str, column: usize, line: &str) {
        let line = sanitize(line, usize::MAX);
        let text = match (self.style.plain, bare(label)) {
            (true, "") => line,
            (true, label) => format!("{label}{}{line}", self.style.colon()),
            (false, _) => format!("{}{line}", pad(label, column)),
        };
        self.push(&text);
    }

    /// One line as it is, columns and all; only escaped.
    pub fn line(&mut self, text: &str) {
        let text = sanitize(text, PARAGRAPH);
        self.push(&text);
    }

    fn block(&mut self, ink: Ink, label: &str, column: usize, indent: usize, text: &str) {
        let text = sanitize(text, PARAGRAPH);
        let (head, indent) = match (self.style.plain, bare(label)) {
            (true, "") => (String::new(), 0),
            (true, label) => (format!("{label}{}", self.style.colon()), 0),
            (false, _) => (pad(label, column), indent),
        };
        let lines = wrap(&text, width(&head), indent, self.style.width);
        for (i, line) in lines.iter().enumerate() {
            if i == 0 {
                let head = self.paint(ink, label.trim(), &head);
                self.push(&format!("{head}{line}"));
            } else {
                self.push(&format!("{}{line}", " ".repeat(indent)));
            }
        }
    }

    fn paint(&self, ink: Ink, word: &str, head: &str) -> String {
        match ink.code() {
            Some(code) if self.style.colour && !word.is_empty() => {
                head.replacen(word, &format!("\x1b[{code}m{word}\x1b[0m"), 1)
            }
            _ => head.to_owned(),
        }
    }

    fn push(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }
}

/// A label without its own spaces and colon.
fn bare(label: &str) -> &str {
    label.trim().trim_end_matches([':', '：'])
}

/// A piece that stays on one line, and the spaces before it.
struct Atom {
    spaces: usize,
    text: String,
}

/// Chinese punctuation that must not begin a line, or must not end one.
const CLOSING: &str = "，。；：！？、）」》%,.;:!?)";
const OPENING: &str = "（「《(";

/// Units that stay on the line of their number.
const UNITS: [&str; 3] = ["ms", "%", "s"];

/// Cuts text where a line may break: at spaces, except before units, and beside wide characters except at punctuation.
fn atoms(text: &str) -> Vec<Atom> {
    let mut out: Vec<Atom> = Vec::new();
    for atom in pieces(text) {
        let unit = atom.spaces == 1 && UNITS.contains(&atom.text.trim_end_matches([',', '.', ':', ')']));
        match out.last_mut() {
            Some(number) if unit && number.text.ends_with(|c: char| c.is_ascii_digit()) => {
                number.text.push(' ');
                number.text.push_str(&atom.text);
            }
            _ => out.push(atom),
        }
    }
    out
}

fn pieces(text: &str) -> Vec<Atom> {
    let mut out: Vec<Atom> = Vec::new();
    let (mut spaces, mut previous) = (0, None::<char>);
    for c in text.chars() {
        if c == ' ' {
            spaces += 1;
            previous = None;
            continue;
        }
        let wide = |c: char| c.width() == Some(2);
        let joined =
            previous.is_some_and(|p| CLOSING.contains(c) || OPENING.contains(p) || !(wide(p) || wide(c)));
        match out.last_mut() {
            Some(last) if joined => last.text.push(c),
            _ => out.push(Atom { spaces, text: c.to_string() }),
        }
        spaces = 0;
        previous = Some(c);
    }
    out
}

/// Breaks text into lines: the first starts at column `first`, the others at `indent`, none passes `limit`.
/// Only a piece longer than a whole line is broken inside.
pub(crate) fn wrap(text: &str, first: usize, indent: usize, limit: usize) -> Vec<String> {
    let room = |line: usize| limit.saturating_sub(if line == 0 { first } else { indent }).max(8);
    let mut lines = vec![String::new()];
    for atom in atoms(text) {
        let used = width(lines.last().map_or("", String::as_str));
        let spaces = if used == 0 { 0 } else { atom.spaces };
        if used > 0 && used + spaces + width(&atom.text) > room(lines.len() - 1) {
            lines.push(String::new());
        } else if let Some(line) = lines.last_mut() {
            line.push_str(&" ".repeat(spaces));
        }
        for c in atom.text.chars() {
            let used = width(lines.last().map_or("", String::as_str));
            if used + c.width().unwrap_or(0) > room(lines.len() - 1) {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push(c);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style { width: 20, colour: true, plain: false, lang: Lang::En };

    #[test]
    fn wraps_at_spaces_and_beside_wide_characters() {
        assert_eq!(wrap("aaa bbb ccc", 0, 0, 8), ["aaa bbb", "ccc"]);
        assert_eq!(wrap("规则随机丢弃 30% 的包。", 0, 0, 12), ["规则随机丢弃", "30% 的包。"]);
        assert_eq!(wrap("wait 0.05 ms, ok", 0, 0, 9), ["wait", "0.05 ms,", "ok"]);
        // A full stop never begins a line.
        assert_eq!(wrap("一二三四。", 0, 0, 8), ["一二三", "四。"]);
    }

    #[test]
    fn breaks_inside_only_what_no_line_can_hold() {
        assert_eq!(wrap("abcdefghij", 0, 0, 8), ["abcdefgh", "ij"]);
    }

    #[test]
    fn columns_follow_the_display_width() {
        let mut page = Page::new(STYLE);
        page.entry("  证据", 10, "x y");
        page.entry("  check", 10, "x y");
        assert_eq!(page.finish(), "  证据    x y\n  check   x y\n");
    }

    #[test]
    fn data_cannot_send_escape_sequences() {
        let mut page = Page::new(STYLE);
        page.marked(Ink::Red, "LOSS", 6, "a\x1b[2Jb\nc");
        page.command("", 0, "ip link \x1b]0;x\x07");
        let text = page.finish();
        assert!(text.starts_with("\x1b[1;31mLOSS\x1b[0m  "), "{text}");
        assert_eq!(text.matches('\x1b').count(), 2, "{text}");
    }
}
