//! Standard output for answers that come whole: a reader that has gone is no error and changes no exit status.

use std::io::{BufWriter, ErrorKind, Result, StdoutLock, Write};

/// Buffered standard output that goes on into nothing when nobody reads any more.
pub struct Answer {
    out: BufWriter<StdoutLock<'static>>,
    unread: bool,
}

/// Standard output for one answer.
pub fn answer() -> Answer {
    Answer { out: BufWriter::new(std::io::stdout().lock()), unread: false }
}

/// Writes an answer that is already whole.
pub fn print(bytes: &[u8]) -> Result<()> {
    let mut out = answer();
    out.write_all(bytes)?;
    out.flush()
}

impl Answer {
    /// True once a write found that nobody reads any more.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    fn pass<T>(&mut self, result: Result<T>, otherwise: T) -> Result<T> {
        match result {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.unread = true;
                Ok(otherwise)
            }
            other => other,
        }
    }
}

impl Write for Answer {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.unread {
            return Ok(bytes.len());
        }
        let written = self.out.write(bytes);
        self.pass(written, bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        if self.unread {
            return Ok(());
        }
        let flushed = self.out.flush();
        self.pass(flushed, ())
    }
}
