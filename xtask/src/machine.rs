//! A fresh Debian as a root file system of its own.
//!
//! It is an image whose name is gone as soon as it is mounted, and the mounts are in a namespace of their own, held by a
//! program that waits for our end of a pipe and by what runs in it, which is killed when we end: however a task ends, the
//! kernel removes everything. Processes and networks are those of the machine.

use crate::apt;
use crate::process::{cache_directory, output, run as must, target_directory};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Room for a release build and a build with all tests, in bytes. The image takes what is used.
const SIZE: u64 = 24 << 30;

/// Where the root is seen in the mount namespace; nothing is made on the machine for it.
pub const ROOT: &str = "/mnt";

/// A path of the fresh machine, as its mount namespace sees it.
pub fn at(path: &str) -> String {
    format!("{ROOT}{path}")
}

/// A root file system in a mount namespace of its own, gone when this value is dropped or its process ends.
pub struct Machine {
    /// In the namespace until its stdin ends.
    holder: Child,
}

impl Machine {
    /// Installs this release of Debian with these packages beyond the smallest set, separated by commas.
    pub fn with(suite: &str, packages: &str) -> Result<Self> {
        apt::install_missing(&[
            ("debootstrap", "debootstrap"),
            ("mkfs.ext4", "e2fsprogs"),
            apt::DEBIAN_KEYS,
        ])?;
        let machine = Self::empty()?;
        println!("installing Debian {suite}");
        let mut bootstrap = machine.enter("debootstrap");
        let kept = cache_directory(&format!("debootstrap/{suite}"))?;
        bootstrap.arg("--cache-dir").arg(kept).args([
            "--variant=minbase",
            "--include",
            packages,
            suite,
            ROOT,
        ]);
        bootstrap.arg(apt::mirror()?);
        output(&mut bootstrap)?;
        for folder in ["/proc", "/sys", "/dev"] {
            output(machine.enter("mount").args(["--rbind", folder, &at(folder)]))?;
        }
        output(machine.enter("cp").args(["--dereference", "/etc/resolv.conf", &at("/etc/resolv.conf")]))?;
        Ok(machine)
    }

    /// The namespace and an empty file system.
    fn empty() -> Result<Self> {
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut machine = Self { holder: holder.spawn().context("cannot start unshare")? };
        // Its answer shows that the namespace is there and that no mount leaves it.
        machine.holder.stdin.as_mut().context("a pipe")?.write_all(b"ready\n")?;
        let mut answer = String::new();
        BufReader::new(machine.holder.stdout.take().context("a pipe")?).read_line(&mut answer)?;
        if answer != "ready\n" {
            bail!("unshare could not make a mount namespace: run as root");
        }
        let image = target_directory()?.join(format!("fresh-{}.img", std::process::id()));
        let mounted = machine.mount(&image);
        fs::remove_file(&image).with_context(|| format!("cannot remove {}", image.display()))?;
        mounted?;
        Ok(machine)
    }

    fn mount(&self, image: &Path) -> Result<()> {
        let file = File::create(image).with_context(|| format!("cannot create {}", image.display()))?;
        file.set_len(SIZE)?;
        output(Command::new("mkfs.ext4").arg("-q").arg(image))?;
        output(self.enter("mount").args(["--options", "loop"]).arg(image).arg(ROOT))?;
        Ok(())
    }

    /// A program of this machine, in the namespace, killed when we end.
    pub fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// A program of the fresh machine, with the environment of a fresh login.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = self.enter("chroot");
        command.args([ROOT, "env", "--ignore-environment"]);
        command.args(["HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", program]);
        command
    }

    /// Runs a shell's commands in the fresh machine, with their output shown.
    pub fn shell(&self, commands: &str) -> Result<()> {
        must(self.inside("sh").args(["-ec", commands]))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}
