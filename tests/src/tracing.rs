//! `whydrop trace` as a running program.

use crate::{command, whydrop};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};

/// A running `whydrop trace --json`, ended when it is dropped or asked for its result.
#[derive(Debug)]
pub struct Trace {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

/// What a trace showed.
#[derive(Debug)]
pub struct Traced {
    /// The drops that were shown, in their order.
    pub lines: Vec<Value>,
    /// The last line.
    pub summary: Value,
    /// Everything on stderr.
    pub said: String,
}

/// A kind of drop in a summary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Target id.
    pub target: String,
    /// Reason; empty on kernels that have none.
    pub reason: String,
    /// Function.
    pub function: String,
    /// Stage.
    pub stage: String,
    /// Cause id, if one is named.
    pub cause: Option<String>,
    /// How many.
    pub drops: u64,
}

impl Trace {
    /// Starts it and waits until it says that it traces.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_as(whydrop(), arguments)
    }

    /// As [`Self::start`], with a command that runs the program in a way of its own.
    #[track_caller]
    pub fn start_as(mut program: Command, arguments: &[&str]) -> Self {
        let mut child = program
            .arg("trace")
            .args(arguments)
            .args(["--json", "--benign"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("whydrop starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("tracing drops") {
            let read = stderr.read_line(&mut said).expect("text");
            assert!(read > 0, "trace ended at once: {said}");
        }
        Self { child, stderr, said }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as Ctrl-C does.
    #[track_caller]
    pub fn stop(mut self) -> Traced {
        command(&format!("kill -INT {}", self.child.id()));
        let mut stdout = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
        self.stderr.read_to_string(&mut self.said).expect("text");
        let status = self.child.wait().expect("ends");
        assert!(status.success(), "trace ended with {status}: {}", self.said);
        let mut lines: Vec<Value> = stdout.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        let summary = lines.pop().expect("a summary")["summary"].take();
        assert!(summary.is_object(), "the last line is no summary\n{stdout}");
        Traced { lines, summary, said: std::mem::take(&mut self.said) }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Traced {
    /// Kinds of drops that are not harmless, sorted.
    pub fn harmful(&self) -> Vec<Row> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let rows = self.summary["by"].as_array().expect("a list").iter();
        let harmful = rows.filter(|row| row["class"] != "benign");
        let mut rows: Vec<Row> = harmful
            .map(|row| Row {
                target: text(&row["target"]).unwrap_or_default(),
                reason: text(&row["reason"]).expect("text"),
                function: text(&row["function"]).expect("text"),
                stage: text(&row["stage"]).expect("text"),
                cause: text(&row["cause"]),
                drops: row["drops"].as_u64().expect("a number"),
            })
            .collect();
        rows.sort();
        rows
    }
}
