//! Debian packages: installed on this machine for the tests, or only downloaded for the guests.

use crate::process::{find_program, output, run};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The keys that Debian's packages are signed with; other distributions have them in a package.
pub const DEBIAN_KEYS: (&str, &str) =
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring");

/// What the tests call, as (program, package).
pub const TEST_TOOLS: &[(&str, &str)] = &[
    ("conntrack", "conntrack"),
    ("dnsmasq", "dnsmasq-base"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("python3", "python3"),
    ("script", "bsdutils"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("xtables-nft-multi", "iptables"),
];

/// Installs the packages whose program is not found. Each item is (program or absolute path of a file, package).
///
/// Needs root only when something is missing.
pub fn install_missing(wanted: &[(&str, &str)]) -> Result<()> {
    let mut packages: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|&(_, package)| package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    println!("installing by apt: {}", packages.join(" "));
    // The lists may be older than the packages that they name.
    run(apt_get().arg("update")).context("run as root, or install these packages by hand")?;
    run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&packages))
        .context("run as root, or install these packages by hand")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "Acquire::Retries=3"]);
    command.args(["-o", "Dpkg::Use-Pty=0"]).stdin(std::process::Stdio::null());
    command
}

/// The packages of one Debian release, read through lists of its own: the machine's apt sources stay as they are.
pub struct Release {
    options: Vec<String>,
}

impl Release {
    /// Fetches the lists of `suite` into `directory`.
    pub fn open(suite: &str, directory: &Path) -> Result<Self> {
        let lists = directory.join("lists");
        std::fs::create_dir_all(lists.join("partial"))?;
        let sources = directory.join("sources.list");
        let line = format!("deb [signed-by={}] http://deb.debian.org/debian {suite} main\n", DEBIAN_KEYS.0);
        std::fs::write(&sources, line)?;
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=-".to_owned(),
            format!("Dir::State::Lists={}", lists.display()),
            format!("Dir::Cache={}", directory.join("cache").display()),
            "Dir::State::Status=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ];
        let release =
            Self { options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() };
        output(Command::new("apt-get").args(&release.options).args(["-qq", "update"]))
            .with_context(|| format!("reading the package lists of Debian {suite}"))?;
        Ok(release)
    }

    /// The names of the packages that `package` depends on.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = output(Command::new("apt-cache").args(&self.options).args(["depends", package]))?;
        Ok(text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ").map(str::to_owned)).collect())
    }

    /// Downloads a package into `directory` and unpacks it there, without installing it.
    pub fn unpack(&self, package: &str, directory: &Path) -> Result<()> {
        let download = directory.join("download");
        std::fs::create_dir_all(&download)?;
        let mut command = Command::new("apt-get");
        command.args(&self.options).args(["-qq", "download", package]).current_dir(&download);
        output(&mut command)?;
        let archives: Vec<PathBuf> =
            std::fs::read_dir(&download)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
        for archive in archives {
            run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(directory))?;
        }
        Ok(std::fs::remove_dir_all(&download)?)
    }
}
