//! The terminal: taken for the time of the view and given back as it was, whatever ends it.

use super::keys;
use crate::failure::Refusal;
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use whydrop_model::text;
use whydrop_report::watch::{Key, Line, Tone};

/// Settings of the terminal before the view; none while there is no view.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The other screen, and no cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J";
/// The normal screen, and the cursor.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";
/// Bytes that are read at once.
const PIECE: usize = 256;
/// Size of a terminal that does not tell.
const USUAL: (usize, usize) = (80, 24);

/// A terminal that shows the view. Dropping it gives it back.
pub struct Terminal {
    colour: bool,
    last: Vec<Line>,
    size: (usize, usize),
}

impl Terminal {
    /// Takes the terminal of stdin and stdout.
    pub fn open(colour: bool) -> Result<Self> {
        let cannot = || Refusal::new(text!("cannot take the terminal", "无法接管终端"));
        let before = tcgetattr(std::io::stdin()).with_context(cannot)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        // What a panic says belongs on the normal screen.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            hook(panic);
        }));
        let terminal = Self { colour, last: vec![], size: USUAL };
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).with_context(cannot)?;
        let mut out = std::io::stdout().lock();
        out.write_all(ENTER)?;
        out.flush()?;
        drop(out);
        Ok(terminal)
    }

    /// Columns and rows.
    pub fn size(&mut self) -> (usize, usize) {
        let asked = tcgetwinsize(std::io::stdout()).ok();
        let size = asked.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        let size = size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(USUAL);
        if size != self.size {
            // What stands there was laid out for another size.
            self.last.clear();
            self.size = size;
        }
        size
    }

    /// Writes the lines that differ from those that stand there.
    pub fn draw(&mut self, lines: &[Line]) -> Result<()> {
        let mut bytes = vec![];
        if self.last.is_empty() {
            bytes.extend(b"\x1b[2J");
        }
        for (row, line) in lines.iter().enumerate() {
            if self.last.get(row) != Some(line) {
                let tone = match (line.tone, self.colour) {
                    (Tone::Plain, _) => "",
                    // Reversed and bold are no colours: they stay without them.
                    (Tone::Bar, _) => "\x1b[7m",
                    (Tone::Bold, _) => "\x1b[1m",
                    (Tone::Dim, true) => "\x1b[2m",
                    (Tone::Dim, false) => "",
                };
                write!(bytes, "\x1b[{};1H{tone}{}\x1b[K\x1b[0m", row + 1, line.text)?;
            }
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&bytes)?;
        out.flush()?;
        self.last = lines.to_vec();
        Ok(())
    }

    /// Gives a text to the clipboard of the terminal (OSC 52), if it takes one.
    pub fn copy(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        write!(out, "\x1b]52;c;{}\x07", base64(text.as_bytes()))?;
        Ok(out.flush()?)
    }

    /// Keys that were pressed; waits for the first at most so long.
    pub fn keys(&self, wait: Duration) -> Result<Vec<Key>> {
        let stdin = std::io::stdin();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        let wait = Timespec::try_from(wait).ok();
        match poll(&mut ready, wait.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(vec![]),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; PIECE];
        match rustix::io::read(&stdin, &mut bytes) {
            // The terminal is gone.
            Ok(0) => Ok(vec![Key::Interrupt]),
            Ok(n) => Ok(keys::parse(bytes.get(..n).unwrap_or_default())),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(vec![]),
            Err(rustix::io::Errno::IO) => Ok(vec![Key::Interrupt]),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
        // The hook that was there before is lost to us; the usual one says the same.
        drop(std::panic::take_hook());
    }
}

/// The normal screen and the settings of before; does nothing the second time.
fn give_back() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        let mut out = std::io::stdout().lock();
        // Nothing is left to be done if the terminal is gone.
        out.write_all(LEAVE).and_then(|()| out.flush()).ok();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &before).ok();
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize).copied().map_or('=', char::from);
            out.push(if place <= three.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (text, coded) in cases {
            assert_eq!(base64(text.as_bytes()), coded);
        }
    }
}
