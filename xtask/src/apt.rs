//! Debian packages: installed on this machine for the tests, or only downloaded for the guests.

use crate::process::{find_program, output, run};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The keys that Debian's packages are signed with; other distributions have them in a package.
pub const DEBIAN_KEYS: (&str, &str) =
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring");

/// Where Debian's packages come from on a machine that names no mirror of its own.
const DEBIAN: &str = "http://deb.debian.org/debian";

/// What the tests call beyond Debian's essential packages, as (program or absolute path of a file, package).
pub const TEST_TOOLS: &[(&str, &str)] = &[
    ("/etc/protocols", "netbase"),
    ("conntrack", "conntrack"),
    ("dnsmasq", "dnsmasq-base"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("kill", "procps"),
    ("modprobe", "kmod"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("script", "bsdutils"),
    ("sysctl", "procps"),
    ("tcpdump", "tcpdump"),
    ("wg", "wireguard-tools"),
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

/// The mirror of Debian that this machine is set to use, or Debian's own.
pub fn mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let parts = Path::new("/etc/apt/sources.list.d");
    if parts.is_dir() {
        for entry in std::fs::read_dir(parts)? {
            files.push(entry?.path());
        }
    }
    files.sort_unstable();
    for file in files.iter().filter(|file| file.is_file()) {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        if let Some(mirror) = mirror_in(&text) {
            return Ok(mirror.to_owned());
        }
    }
    Ok(DEBIAN.to_owned())
}

/// The first mirror of the whole of Debian, in either format of apt's sources; updates and security are elsewhere.
fn mirror_in(sources: &str) -> Option<&str> {
    let lines = sources.lines().map(str::trim);
    let lines = lines.filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    lines
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.starts_with("http") && word.ends_with("/debian"))
}

/// The packages of one Debian release, read through lists of its own: the machine's apt sources stay as they are.
pub struct Release {
    options: Vec<String>,
}

impl Release {
    /// Fetches the lists of `suite` for one of Debian's architectures into `directory`.
    pub fn open(suite: &str, architecture: &str, directory: &Path) -> Result<Self> {
        let lists = directory.join("lists");
        std::fs::create_dir_all(lists.join("partial"))?;
        let sources = directory.join("sources.list");
        let line = format!("deb [signed-by={}] {} {suite} main\n", DEBIAN_KEYS.0, mirror()?);
        std::fs::write(&sources, line)?;
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=-".to_owned(),
            format!("Dir::State::Lists={}", lists.display()),
            format!("Dir::Cache={}", directory.join("cache").display()),
            "Dir::State::Status=/dev/null".to_owned(),
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
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

#[cfg(test)]
mod tests {
    use super::mirror_in;

    #[test]
    fn the_mirror_is_found_in_both_formats_and_only_where_all_of_debian_is() {
        let security = "Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: bookworm-security\n";
        assert_eq!(mirror_in(security), None);
        let new =
            format!("{security}\nTypes: deb\n# http://old.example/debian\nURIs: https://a.example/debian/\n");
        assert_eq!(mirror_in(&new), Some("https://a.example/debian"));
        let old = "# deb http://old.example/debian stable main\n\
                   deb [signed-by=/usr/share/keyrings/a.gpg] http://b.example/debian stable main\n";
        assert_eq!(mirror_in(old), Some("http://b.example/debian"));
        assert_eq!(mirror_in("deb http://archive.ubuntu.com/ubuntu noble main\n"), None);
    }
}
