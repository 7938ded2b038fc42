//! The Debian package.

use super::stage::{pack, write};
use super::{Platform, Release};
use crate::process::{output, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MAINTAINER: &str = "whydrop maintainers <maintainers@example.invalid>";

const DESCRIPTION: &str = "\
Description: find where packets are lost, why, and what ends it
 whydrop reads a machine's links, queues, rules, routes, sockets and counters
 twice, traces the kernel's drop events in between, and charges every lost
 packet to one place, with the command that mends it.
 .
 It looks into network namespaces, containers and processes from the outside:
 nothing is installed there, and nothing is changed unless it is asked to.
";

/// What dpkg runs when the package has gone: `purge` takes the journal of fixes along, too.
const AFTERWARDS: &str = "\
#!/bin/sh
set -e
if [ \"$1\" = purge ]; then
    rm -rf /var/lib/whydrop
fi
";

/// Why lintian need not object.
const OVERRIDES: &str = "\
# One file that runs on any Linux, in an empty container too, is what this package is for.
whydrop: statically-linked-binary [usr/bin/whydrop]
# It may be loaded at any address, as a library may, but is none.
whydrop: shared-library-lacks-prerequisites [usr/bin/whydrop]
# Packed by the project itself, which has no bug number in Debian to close.
whydrop: initial-upload-closes-no-bugs [usr/share/doc/whydrop/changelog.gz:1]
";

/// Packs `root`, to which it adds what only Debian wants.
pub fn build(root: &Path, platform: &Platform, release: &Release, to: &Path) -> Result<PathBuf> {
    let documents = root.join("usr/share/doc/whydrop");
    write(&documents.join("copyright"), &copyright()?)?;
    let date = output(
        Command::new("date").args(["--utc", "--rfc-email", "--date"]).arg(format!("@{}", release.epoch)),
    )?;
    let entry = format!(
        "whydrop ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md in the sources.\n\n -- {MAINTAINER}  {date}",
        release.version
    );
    let changes = documents.join("changelog");
    write(&changes, &entry)?;
    pack(&changes)?;
    write(&root.join("usr/share/lintian/overrides/whydrop"), OVERRIDES)?;
    let control = root.join("DEBIAN");
    if control.exists() {
        fs::remove_dir_all(&control)?;
    }
    let sums = output(
        Command::new("sh")
            .current_dir(root)
            .args(["-c", "find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum"]),
    )?;
    let size = output(
        Command::new("du")
            .args(["--summarize", "--apparent-size", "--block-size=1024"])
            .arg(root.join("usr")),
    )?;
    let size = size.split_whitespace().next().context("du writes a size")?;
    let fields = format!(
        "Package: whydrop\nVersion: {}\nArchitecture: {}\nMaintainer: {MAINTAINER}\nInstalled-Size: {size}\n\
         Recommends: ca-certificates\nSection: net\nPriority: optional\n{DESCRIPTION}",
        release.version, platform.debian
    );
    write(&control.join("control"), &fields)?;
    write(&control.join("md5sums"), &sums)?;
    let afterwards = control.join("postrm");
    write(&afterwards, AFTERWARDS)?;
    release.date(root)?;
    output(Command::new("chmod").arg("0755").arg(&afterwards))?;
    let package = to.join(format!("whydrop_{}_{}.deb", release.version, platform.debian));
    // Debian 11 does not know the newer compression.
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", "-Zxz", "--build"]).arg(root).arg(&package);
    output(dpkg.env("SOURCE_DATE_EPOCH", &release.epoch))?;
    Ok(package)
}

/// Debian's machine-readable form.
fn copyright() -> Result<String> {
    let mit = fs::read_to_string(workspace().join("LICENSE-MIT"))?;
    let (holder, terms) = mit.split_once("\n\nPermission").context("LICENSE-MIT has terms")?;
    let holder =
        holder.lines().find_map(|line| line.strip_prefix("Copyright")).context("LICENSE-MIT has a holder")?;
    let holder = holder.trim().trim_start_matches("(c) ");
    let terms: String = format!("Permission{terms}")
        .lines()
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") })
        .collect();
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: whydrop\n\n\
         Files: *\nCopyright: {holder}\nLicense: Expat or Apache-2.0\n\
         Comment: The program contains libraries of others; LICENCES beside this file\n \
         names each of them and its licence.\n\n\
         License: Expat\n{terms}\n\
         License: Apache-2.0\n On Debian systems its full text is in /usr/share/common-licenses/Apache-2.0.\n"
    ))
}
