//! The RPM package.

use super::{Platform, Release};
use crate::process::{fresh_directory, output, workspace};
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packs `root` as it is: nothing is compiled, stripped or compressed again.
pub fn build(root: &Path, platform: &Platform, release: &Release, to: &Path) -> Result<PathBuf> {
    let top = fresh_directory(&to.join("work").join(format!("rpmbuild-{}", platform.name)))?;
    for text in ["LICENSE-MIT", "LICENSE-APACHE"] {
        super::stage::install(
            &workspace().join(text),
            &root.join("usr/share/licenses/whydrop").join(text),
            0o644,
        )?;
    }
    release.date(root)?;
    let spec = top.join("whydrop.spec");
    fs::write(&spec, text(root, release))?;
    let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
    let mut build = Command::new("rpmbuild");
    build.arg("-bb").args(["--target", &format!("{}-linux", platform.name)]);
    build.args(define("_topdir", &top.display().to_string()));
    // Those of gzip are read by every rpm there is.
    build.args(define("_binary_payload", "w9.gzdio"));
    build.args(define("_build_id_links", "none"));
    build.args(define("use_source_date_epoch_as_buildtime", "1"));
    build.args(define("clamp_mtime_to_source_date_epoch", "1"));
    build.args(define("_buildhost", "whydrop"));
    output(build.env("SOURCE_DATE_EPOCH", &release.epoch).arg(&spec))?;
    let name = format!("whydrop-{}-1.{}.rpm", release.version, platform.name);
    let package = to.join(&name);
    fs::copy(top.join("RPMS").join(platform.name).join(&name), &package)?;
    Ok(package)
}

fn text(root: &Path, release: &Release) -> String {
    format!(
        "\
%global debug_package %{{nil}}
%global __os_install_post %{{nil}}
Name: whydrop
Version: {version}
Release: 1
Summary: Find where packets are lost, why, and what ends it
License: MIT OR Apache-2.0
URL: https://example.invalid/whydrop
Recommends: ca-certificates
AutoReqProv: no

%description
whydrop reads a machine's links, queues, rules, routes, sockets and counters
twice, traces the kernel's drop events in between, and charges every lost
packet to one place, with the command that mends it.

%install
cp --archive {root}/. %{{buildroot}}/

# The journal of fixes goes with the last package, not with an upgrade.
%postun
if [ \"$1\" = 0 ]; then rm -rf /var/lib/whydrop; fi

%files
# Those that a small system may lack: rpm removes only directories that it knows.
%dir /usr/share/bash-completion
%dir /usr/share/bash-completion/completions
%dir /usr/share/fish
%dir /usr/share/fish/vendor_completions.d
%dir /usr/share/licenses
%dir /usr/share/zsh
%dir /usr/share/zsh/site-functions
/usr/bin/whydrop
/usr/share/bash-completion/completions/whydrop
/usr/share/zsh/site-functions/_whydrop
/usr/share/fish/vendor_completions.d/whydrop.fish
/usr/share/man/man1/whydrop*.1.gz
%lang(zh_CN) /usr/share/man/zh_CN/man1/whydrop*.1.gz
%doc /usr/share/doc/whydrop
%license /usr/share/licenses/whydrop
",
        version = release.version,
        root = root.display(),
    )
}
