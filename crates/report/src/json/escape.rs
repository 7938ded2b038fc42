//! JSON writers that escape what could steer a terminal: serde_json leaves DEL, C1 and bidirectional controls as
//! they are.

use serde_json::ser::{Formatter, PrettyFormatter};
use std::io::{self, Write};
use whydrop_model::shell::is_hostile;

/// Writes a piece of a string, hostile characters as `\uXXXX`.
fn fragment<W: ?Sized + Write>(writer: &mut W, text: &str) -> io::Result<()> {
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_hostile(*c)) {
        let (before, after) = rest.split_at(at);
        write!(writer, "{before}")?;
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(writer, "\\u{unit:04x}")?;
        }
        rest = &after[c.len_utf8()..];
    }
    writer.write_all(rest.as_bytes())
}

/// One line.
pub(super) struct Compact;

impl Formatter for Compact {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        fragment(writer, text)
    }
}

/// Indented by two spaces.
#[derive(Default)]
pub(super) struct Indented(PrettyFormatter<'static>);

impl Formatter for Indented {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        fragment(writer, text)
    }
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }
    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }
    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn hostile_characters_are_escaped_and_come_back() {
        let text = "a\x1b[31m\u{7f}\u{9b}\u{202e}中\"\\";
        let (mut lines, mut pretty) = (Vec::new(), Vec::new());
        crate::json::line(&text, &mut lines).unwrap();
        crate::json::pretty(&[text], &mut pretty).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert!(lines.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{lines}");
        assert_eq!(serde_json::from_str::<String>(&lines).unwrap(), text);
        assert_eq!(serde_json::from_slice::<Vec<String>>(&pretty).unwrap(), [text]);
    }
}
