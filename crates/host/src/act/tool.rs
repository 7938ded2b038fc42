//! Other tools, run without a shell in the calling thread's namespace.

use crate::error::{Error, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use whydrop_model::Phrase;
use whydrop_model::shell::sanitize;
use whydrop_model::text;

/// Where tools of the system are; nothing of the caller's own is run.
const PATH: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Longest complaint that is passed on.
const COMPLAINT: usize = 300;

fn find(program: &str) -> Option<std::path::PathBuf> {
    PATH.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.exists())
}

/// Runs a command that must succeed; its output.
pub(super) fn run<S: AsRef<str>>(argv: &[S]) -> Result<String> {
    let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
    let Some((program, arguments)) = words.split_first() else { return Ok(String::new()) };
    let path = find(program).ok_or_else(|| {
        Error::new(
            text!("run {object}", "运行 {object}"),
            *program,
            text!("it is not installed", "它没有安装").phrase(),
        )
        .with_hint(text!("install {tool}", "请安装 {tool}").fill(&[("tool", program)]))
    })?;
    // A child has the namespace of the thread that starts it.
    let output = Command::new(path)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH.join(":"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::io(text!("run {object}", "运行 {object}"), *program, &e))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = sanitize(&whydrop_model::shell::join(&words), COMPLAINT);
    Err(Error::new(
        text!("run {object}", "运行 {object}"),
        line,
        Phrase::same(sanitize(said.trim(), COMPLAINT)),
    ))
}
