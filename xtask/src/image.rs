//! `cargo xtask image`: the container image, and with `--try` the documented lines in the engines of this machine.

use crate::dist;
use crate::process::{find_program, output, run as must};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// The fewest capabilities with which nothing is hidden.
const NEEDED: [&str; 5] = ["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "NET_RAW", "SYSLOG"];

/// What the program says when nothing is hidden.
const ALL_SEEN: &str = "whydrop sees everything";

/// Options of `cargo xtask image`.
#[derive(clap::Args)]
pub struct Options {
    /// Machine to build for
    #[arg(long = "arch", default_value = std::env::consts::ARCH)]
    platform: String,
    /// Load it into each engine of this machine, run the documented lines, and show what lesser privileges hide
    #[arg(long = "try")]
    try_it: bool,
}

/// Builds the image; with `--try` an error names the engines in which it does not do what is documented.
pub fn run(options: &Options) -> Result<()> {
    let image = dist::image(&options.platform)?;
    println!("{}: {:.1} MB", image.display(), image.metadata()?.len() as f64 / 1e6);
    if !options.try_it {
        println!(
            "docker load -i FILE, podman load -i FILE, or ctr images import FILE; then see docs/container.md"
        );
        return Ok(());
    }
    let tag = format!("{}:{}", dist::image::NAME, dist::version()?);
    let mut tried = 0;
    for (name, load) in [("docker", "load"), ("podman", "load")] {
        if find_program(name).is_none() || output(Command::new(name).arg("info")).is_err() {
            println!("{name} does not answer here");
            continue;
        }
        must(Command::new(name).args([load, "--input"]).arg(&image))?;
        let outcome = in_engine(name, &tag);
        output(Command::new(name).args(["image", "rm", "--force", &tag]))?;
        outcome.with_context(|| name.to_owned())?;
        tried += 1;
    }
    tried += usize::from(in_containerd(&image, &tag)?);
    if tried == 0 {
        bail!("no engine answers here");
    }
    Ok(())
}

/// `docker run` or `podman run` with these capabilities and more options.
fn line(engine: &str, tag: &str, capabilities: &[&str], more: &[&str]) -> Command {
    let mut command = Command::new(engine);
    if engine == "podman" {
        // crun refuses a machine with both kinds of cgroups; and what may not raise limits may keep its own.
        command.args(["--runtime=runc", "run", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]);
    } else {
        command.arg("run");
    }
    command.args(["--rm", "--pid=host", "--network=host", "--cap-drop=ALL"]);
    command.args(capabilities.iter().map(|name| format!("--cap-add={name}")));
    command.args(more).arg(tag);
    command
}

fn in_engine(engine: &str, tag: &str) -> Result<()> {
    let mut all = line(engine, tag, &NEEDED, &[]);
    println!("\n{}", shown(&all));
    let words = output(all.arg("self-check"))?;
    if !words.starts_with(ALL_SEEN) {
        bail!("not everything is seen:\n{words}");
    }
    println!("  {ALL_SEEN}");
    for without in NEEDED {
        let fewer: Vec<&str> = NEEDED.into_iter().filter(|name| *name != without).collect();
        hides(&format!("without {without}"), line(engine, tag, &fewer, &[]))?;
    }
    hides("--profile=netadmin", line(engine, tag, &["NET_ADMIN", "NET_RAW"], &[]))?;
    hides("no capability", line(engine, tag, &[], &[]))?;
    // `kubectl debug node/N --profile=sysadmin`: all capabilities, the host's root at /host.
    let mut node =
        line(engine, tag, &NEEDED, &["--ipc=host", "--volume=/:/host", "--security-opt=seccomp=unconfined"]);
    let words = output(node.arg("self-check"))?;
    println!("  as kubectl debug node/N --profile=sysadmin: {}", words.lines().next().unwrap_or_default());
    Ok(())
}

/// Shows what a lesser set of privileges hides.
fn hides(set: &str, mut command: Command) -> Result<()> {
    // Its status says that something is hidden.
    let output = command.args(["self-check"]).output().context("the engine does not start")?;
    let words = String::from_utf8_lossy(&output.stdout);
    let hidden: Vec<&str> = words
        .lines()
        .filter_map(|line| line.trim().split_once("  "))
        .filter(|(_, state)| ["not seen", "in part"].iter().any(|word| state.trim_start().starts_with(word)))
        .map(|(name, _)| name)
        .collect();
    if words.is_empty() {
        bail!("{set}: {}", String::from_utf8_lossy(&output.stderr));
    }
    println!("  {set}: {}", if hidden.is_empty() { "nothing hidden".to_owned() } else { hidden.join(", ") });
    Ok(())
}

/// The same in a containerd, if one answers.
fn in_containerd(image: &Path, tag: &str) -> Result<bool> {
    let socket = "/run/containerd/containerd.sock";
    if !Path::new(socket).exists() || find_program("ctr").is_none() {
        println!("no containerd answers here");
        return Ok(false);
    }
    let ctr = || {
        let mut command = Command::new("ctr");
        command.args(["--address", socket, "--namespace", "whydrop-try"]);
        command
    };
    let name = format!("docker.io/library/{tag}");
    must(ctr().args(["images", "import"]).arg(image))?;
    let mut command = ctr();
    command.args(["run", "--rm", "--net-host"]);
    command.args(NEEDED.map(|name| format!("--cap-add=CAP_{name}"))).args([&name, "whydrop"]);
    println!("\n{}", shown(&command));
    let words = output(command.args(["/whydrop", "self-check"]));
    output(ctr().args(["images", "rm", &name]))?;
    output(Command::new("ctr").args(["--address", socket, "namespaces", "rm", "whydrop-try"])).ok();
    let words = words?;
    if !words.starts_with(ALL_SEEN) {
        bail!("ctr: not everything is seen:\n{words}");
    }
    println!("  {ALL_SEEN}");
    Ok(true)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
