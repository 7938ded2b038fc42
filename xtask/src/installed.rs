//! `cargo xtask installed`: every artefact of this machine's kind, installed, run, upgraded and removed in fresh Debians.
//!
//! The kernel is that of this machine: `cargo xtask vm` runs the same program under others.

use crate::dist::{self, Artefacts, Platform};
use crate::machine::{Machine, at};
use crate::process::{find_program, output, workspace};
use crate::{apt, dist::image};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::Instant;

/// What a fresh machine has for the sake of this test.
const PACKAGES: &str = "rpm";

/// A recording that says the same everywhere, and the status of a loss.
const RECORDING: &str = "scenarios/netfilter.drop_rule/basic/record.json";

/// Options of `cargo xtask installed`.
#[derive(clap::Args)]
pub struct Options {
    /// Releases of Debian
    #[arg(long, value_delimiter = ',', default_values = ["bullseye", "bookworm", "trixie", "sid"])]
    suite: Vec<String>,
}

/// Builds what is for this machine, and tries it on each release.
pub fn run(options: &Options) -> Result<()> {
    let suites: Vec<&str> = options.suite.iter().map(String::as_str).collect();
    on(&suites)
}

/// Tries the artefacts on these releases; an error names those that failed.
pub fn on(suites: &[&str]) -> Result<()> {
    apt::install_missing(&[("busybox", "busybox-static"), ("lintian", "lintian")])?;
    let built = dist::build(&[Platform::own()?])?;
    let artefacts = built.first().context("one platform was built")?;
    // Its own words for what it objects to are the error.
    output(std::process::Command::new("lintian").args(["--fail-on", "error,warning"]).arg(&artefacts.deb))?;
    println!("lintian has nothing to say about {}", artefacts.deb.display());
    let mut failed = Vec::new();
    for suite in suites {
        println!("\n== Debian {suite}");
        let started = Instant::now();
        let outcome = Machine::with(suite, PACKAGES).and_then(|machine| try_all(&machine, artefacts));
        match outcome {
            Ok(()) => println!("Debian {suite}: all artefacts in {} s", started.elapsed().as_secs()),
            Err(error) => {
                eprintln!("xtask: Debian {suite}: {error:#}");
                failed.push(*suite);
            }
        }
    }
    println!("{} passed, {} failed", suites.len() - failed.len(), failed.len());
    if !failed.is_empty() {
        bail!("failed on Debian {}", failed.join(", "));
    }
    Ok(())
}

fn try_all(machine: &Machine, artefacts: &Artefacts) -> Result<()> {
    output(machine.enter("mkdir").arg(at("/root/try")))?;
    let busybox = find_program("busybox").context("busybox is in the package busybox-static")?;
    let recording = workspace().join(RECORDING);
    let brought: [(&Path, &str); 8] = [
        (&artefacts.archive, "archive.tar.gz"),
        (&artefacts.deb, "whydrop.deb"),
        (&artefacts.next_deb, "next.deb"),
        (&artefacts.rpm, "whydrop.rpm"),
        (&artefacts.next_rpm, "next.rpm"),
        (&artefacts.image, "image.tar"),
        (&busybox, "busybox"),
        (&recording, "record.json"),
    ];
    for (from, name) in brought {
        output(machine.enter("cp").arg(from).arg(at(&format!("/root/try/{name}"))))?;
    }
    for (name, commands) in STEPS {
        println!("\n-- {name}");
        machine.shell(&format!("cd /root/try\n{commands}")).with_context(|| name.to_owned())?;
    }
    println!("\n-- the image {}, unpacked by hand", image::NAME);
    machine.shell(IMAGE)
}

/// Each step leaves nothing behind. Status 1 is a loss that was found.
const STEPS: [(&str, &str); 5] = [
    (
        "the archive, in a directory of its own",
        "\
tar -xzf archive.tar.gz -C /opt
cd /opt/whydrop-*-linux
./bin/whydrop --version
./bin/whydrop licences | head -n 1
./bin/whydrop demo
rm -r /opt/whydrop-*-linux",
    ),
    (
        "the program in an empty root: no /proc, no /sys, no library, no shell",
        "\
mkdir /opt/empty
tar -xzf archive.tar.gz -C /opt
cp /opt/whydrop-*-linux/bin/whydrop record.json /opt/empty/
rm -r /opt/whydrop-*-linux
chroot /opt/empty /whydrop --version
chroot /opt/empty /whydrop explain netfilter.drop_rule | head -n 2
chroot /opt/empty /whydrop diagnose --replay /record.json | head -n 1 | grep '^LOSS'
chroot /opt/empty /whydrop self-check > /dev/null || test $? -le 3",
    ),
    (
        "the program beside nothing but busybox",
        "\
mkdir /opt/empty/bin /opt/empty/dev /opt/empty/proc /opt/empty/sys /opt/empty/run /opt/empty/tmp
cp busybox /opt/empty/bin/
mount --rbind /dev /opt/empty/dev
chroot /opt/empty /bin/busybox sh -ec '/bin/busybox mount -t proc proc /proc; /bin/busybox mount -t sysfs sys /sys; /whydrop demo'
umount /opt/empty/proc /opt/empty/sys
while mountpoint --quiet /opt/empty/run/netns; do umount /opt/empty/run/netns; done
umount --recursive /opt/empty/dev
rm -r /opt/empty",
    ),
    (
        "the Debian package: install, run, upgrade, purge",
        "\
ls_all() { find / -xdev -path /root/try -prune -o -path /var/log -prune -o -print | grep -v '^/var/lib/dpkg/[^/]*-old$' | sort; }
ls_all > /root/try/before
dpkg --install whydrop.deb
whydrop --version
whydrop demo > /dev/null
test -s /usr/share/man/man1/whydrop-diagnose.1.gz
bash -n /usr/share/bash-completion/completions/whydrop
test -s /usr/share/doc/whydrop/LICENCES
mkdir -p /var/lib/whydrop && touch /var/lib/whydrop/journal
dpkg --install next.deb
test -e /var/lib/whydrop/journal
dpkg --verify whydrop
dpkg --purge whydrop
ls_all > /root/try/after
diff before after",
    ),
    (
        "the RPM package: install, run, upgrade, erase",
        "\
ls_all() { find / -xdev -path /root/try -prune -o -path /var/lib/rpm -prune -o -path /root/.rpmdb -prune -o -print | sort; }
rpm --initdb
ls_all > /root/try/before
rpm --force-debian --nodeps --install whydrop.rpm
whydrop --version
whydrop demo > /dev/null
mkdir -p /var/lib/whydrop && touch /var/lib/whydrop/journal
rpm --force-debian --nodeps --upgrade next.rpm
test -e /var/lib/whydrop/journal
rpm --verify --nodeps whydrop
rpm --force-debian --nodeps --erase whydrop
ls_all > /root/try/after
diff before after",
    ),
];

/// Engines are tried by `cargo xtask image --try`; here only that the layers hold what runs.
const IMAGE: &str = "\
cd /root/try
mkdir layout rootfs
tar -xf image.tar -C layout
for blob in layout/blobs/sha256/*; do
    test \"$(sha256sum < $blob | cut -d' ' -f1)\" = \"${blob##*/}\"
    tar -tf $blob > /dev/null 2>&1 && tar -xf $blob -C rootfs
done
chroot rootfs /whydrop --version";
