//! `cargo xtask docker`: the whole-program test with a real Docker engine.
//!
//! The image is made from Debian packages, so that nothing has to be pulled from anywhere else.

use crate::apt;
use crate::process::{cargo, output, run as must};
use crate::programs;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the container of the test has: a web server, and the tools to break its network.
const PACKAGES: &str = "nginx-light,iptables,iproute2";

/// How long a fresh engine may take to answer.
const ENGINE_START: Duration = Duration::from_secs(60);

/// Makes the image, runs the test, removes the image.
pub fn run() -> Result<()> {
    apt::install_missing(&[
        ("docker", "docker.io"),
        ("dockerd", "docker.io"),
        ("debootstrap", "debootstrap"),
    ])?;
    let _engine = Engine::answering()?;
    let directory = std::env::temp_dir().join(format!("whydrop-image-{}", std::process::id()));
    let image = format!("whydrop-test-nginx:{}", std::process::id());
    let made = make_image(&directory, &image);
    let outcome = made.and_then(|()| {
        must(
            cargo()
                .args(["test", "--workspace", "--test", "docker", "--", "--ignored"])
                .env("WHYDROP", programs::whydrop()?)
                .env("WHYDROP_TEST_IMAGE", &image),
        )
    });
    let removed =
        Command::new("docker").args(["image", "rm", "--force", &image]).stdout(Stdio::null()).status();
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    outcome?;
    if !removed?.success() {
        bail!("docker could not remove the image {image}");
    }
    Ok(())
}

fn make_image(directory: &Path, image: &str) -> Result<()> {
    println!("making a container image from Debian packages");
    let mut bootstrap = Command::new("debootstrap");
    bootstrap.args(["--variant=minbase", "--include", PACKAGES, "stable"]).arg(directory);
    output(bootstrap.arg(apt::mirror()?))?;
    let mut tar = Command::new("tar");
    tar.arg("--directory").arg(directory).args(["--exclude=./proc/*", "--exclude=./sys/*", "--create", "."]);
    let mut tar = tar.stdout(Stdio::piped()).spawn().context("cannot start tar")?;
    let archive = tar.stdout.take().context("tar writes an archive")?;
    output(Command::new("docker").args(["import", "-", image]).stdin(archive))?;
    if !tar.wait()?.success() {
        bail!("tar could not pack {}", directory.display());
    }
    Ok(())
}

/// The Docker engine of this machine: the one that runs, or one started for as long as this value lives.
pub struct Engine(Option<Child>);

impl Engine {
    /// Asks the one that runs, or starts one.
    pub fn answering() -> Result<Self> {
        if answers() {
            return Ok(Self(None));
        }
        println!("starting a Docker engine");
        let engine =
            Command::new("dockerd").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let engine = Self(Some(engine.context("cannot start dockerd")?));
        let started = Instant::now();
        while !answers() {
            if started.elapsed() > ENGINE_START {
                bail!("dockerd does not answer after {} s", ENGINE_START.as_secs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(engine) = &mut self.0 {
            engine.kill().ok();
            engine.wait().ok();
        }
    }
}

fn answers() -> bool {
    Command::new("docker").arg("info").output().is_ok_and(|output| output.status.success())
}
