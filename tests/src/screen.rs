//! A program on a terminal of its own, and all that it wrote there.

use crate::whydrop;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `whydrop watch` on a terminal.
#[derive(Debug)]
pub struct Screen {
    child: Child,
    keys: Option<ChildStdin>,
    pieces: Receiver<Vec<u8>>,
    text: String,
}

impl Screen {
    /// Starts it on a terminal of that size; the time zone is UTC.
    pub fn start(arguments: &str, columns: usize, rows: usize) -> Self {
        let program = whydrop();
        let path = program.get_program().to_str().expect("a path in ASCII").to_owned();
        let line = format!(
            "stty columns {columns} rows {rows}; {path} watch {arguments}; echo ended with $?; stty -a"
        );
        let mut child = Command::new("script")
            .args(["-qefc", &line, "/dev/null"])
            .env("WHYDROP_LANG", "en")
            .env("TERM", "xterm")
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is in the package bsdutils");
        let (sender, pieces) = channel();
        let mut out = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n) = out.read(&mut piece)
                && n > 0
                && sender.send(piece[..n].to_vec()).is_ok()
            {}
        });
        let keys = child.stdin.take();
        Self { child, keys, pieces, text: String::new() }
    }

    /// Waits until that has been written, and gives all that was.
    #[track_caller]
    pub fn wait_for(&mut self, wanted: &str) -> &str {
        self.wait_until(wanted, |text| text.contains(wanted))
    }

    /// Waits until what has been written satisfies `found`, and gives it; `wanted` says what that is.
    #[track_caller]
    pub fn wait_until(&mut self, wanted: &str, found: impl Fn(&str) -> bool) -> &str {
        let until = Instant::now() + PATIENCE;
        while !found(&self.text) {
            match self.pieces.recv_timeout(Duration::from_millis(200)) {
                Ok(piece) => self.text.push_str(&String::from_utf8_lossy(&piece)),
                Err(_) => assert!(Instant::now() < until, "no {wanted:?} in\n{}", self.text),
            }
        }
        &self.text
    }

    /// Forgets what was written so far.
    pub fn forget(&mut self) {
        while self.pieces.try_recv().is_ok() {}
        self.text.clear();
    }

    /// Presses keys.
    pub fn press(&mut self, key: &str) {
        let keys = self.keys.as_mut().expect("a terminal");
        keys.write_all(key.as_bytes()).and_then(|()| keys.flush()).expect("typed");
    }

    /// The rest, after the program has given the terminal back.
    #[track_caller]
    pub fn end(mut self) -> String {
        self.wait_for("ended with");
        self.wait_for("baud");
        let after = self.text.rsplit("\u{1b}[?1049l").next().expect("the normal screen").to_owned();
        assert!(self.text.contains("\u{1b}[?25h"), "the cursor is back");
        // The last word of `stty -a`: what it says comes in pieces.
        self.wait_for("extproc");
        let settings = &self.text[self.text.rfind("baud").expect("stty")..];
        assert!(settings.contains(" icanon") && settings.contains(" echo"), "{settings}");
        drop(self.keys.take());
        self.child.wait().expect("ends");
        after
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Its end closes the terminal, which ends the view.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
