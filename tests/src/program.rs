//! The program under test.

use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The program: the one named by the environment variable `WHYDROP`, else built by cargo once per test process.
pub fn whydrop() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(PROGRAM.get_or_init(|| match std::env::var_os("WHYDROP") {
        Some(path) => PathBuf::from(path),
        None => build(),
    }));
    // Texts are compared in English whatever the locale of the machine.
    command.env("WHYDROP_LANG", "en");
    command
}

/// `cargo test` builds the tests of this package only, not the program of another one. It is built as its caller was:
/// benches measure what people use.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--package", "whydrop", "--message-format", "json"])
        .args(if cfg!(debug_assertions) { &[] } else { &["--release"][..] })
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo starts");
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable
        .unwrap_or_else(|| panic!("whydrop was not built:\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// What one diagnosis gave.
#[derive(Debug)]
pub struct Diagnosis {
    /// Exit status of the process: 0 clear, 1 loss, 3 inconclusive.
    pub status: i32,
    /// The report, as in the contract `whydrop.report.v1`.
    pub report: Value,
    /// Everything that was said, for the message of a failed assertion.
    pub said: String,
}

/// Runs `whydrop ARGUMENTS --json`, which must answer with a report.
pub fn diagnose(arguments: &[&str]) -> Diagnosis {
    diagnose_as(whydrop(), arguments)
}

/// As [`diagnose`], with a command that runs the program in a way of its own.
pub fn diagnose_as(mut program: Command, arguments: &[&str]) -> Diagnosis {
    let output = program.args(arguments).arg("--json").output().expect("whydrop starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let said = format!(
        "whydrop {}\nended with {}\n{stdout}\n{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let report =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("not a report: {error}\n{said}"));
    let status = output.status.code().unwrap_or_else(|| panic!("ended by a signal\n{said}"));
    Diagnosis { status, report, said }
}

impl Diagnosis {
    /// The cause of every finding, sorted.
    pub fn causes(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array().expect("findings is a list");
        let mut causes: Vec<&str> = findings
            .iter()
            .map(|finding| finding["cause"].as_str().expect("a finding has a cause"))
            .collect();
        causes.sort_unstable();
        causes
    }

    /// Asserts exactly these findings, in any order, and the verdict and exit status that follow from them.
    #[track_caller]
    pub fn assert_causes(&self, expected: &[&str]) {
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(self.causes(), expected, "\n{}", self.said);
        let (verdict, status) = if expected.is_empty() { ("clear", 0) } else { ("loss", 1) };
        assert_eq!(self.report["verdict"], verdict, "\n{}", self.said);
        assert_eq!(self.status, status, "\n{}", self.said);
        self.assert_books();
    }

    /// Asserts that the ledger adds up, and that nothing in it is unexplained.
    #[track_caller]
    pub fn assert_books(&self) {
        let ledger = &self.report["ledger"];
        let number = |name: &str| ledger[name].as_u64().expect("a number");
        let sum = |name: &str| -> u64 {
            let rows = ledger[name].as_array().expect("a list").iter();
            rows.map(|row| row["packets"].as_u64().expect("a number")).sum()
        };
        assert_eq!(number("lost"), number("explained") + number("unexplained"), "\n{}", self.said);
        assert_eq!(number("explained"), sum("entries"), "\n{}", self.said);
        assert_eq!(number("unexplained"), sum("unexplained_at"), "\n{}", self.said);
        assert_eq!(number("unexplained"), 0, "\n{}", self.said);
    }

    /// Asserts that a note names this cause.
    #[track_caller]
    pub fn assert_note(&self, cause: &str) {
        let notes = self.report["notes"].as_array().expect("notes is a list");
        assert!(notes.iter().any(|note| note["cause"] == cause), "no note {cause}\n{}", self.said);
    }
}
