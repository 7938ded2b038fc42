//! A Debian kernel, downloaded and unpacked, never installed.

use crate::apt::Release;
use crate::process::output;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is special about a guest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Usual,
    /// /sys/kernel/btf is hidden: as on a kernel that was built without its types.
    WithoutTypes,
    /// `lockdown=integrity`: as on a machine that booted with Secure Boot.
    LockedDown,
    /// Another processor, emulated.
    Arm,
}

/// The guests: name, Debian release that its kernel comes from, and what is special. Of Arm's kernels one whose modules
/// are not compressed, for busybox must load them.
pub const KERNELS: [(&str, &str, Kind); 7] = [
    ("5.10", "bullseye", Kind::Usual),
    ("6.1", "bookworm", Kind::Usual),
    ("6.12", "trixie", Kind::Usual),
    ("newest", "sid", Kind::Usual),
    ("without-btf", "bookworm", Kind::WithoutTypes),
    ("lockdown", "trixie", Kind::LockedDown),
    ("aarch64", "bookworm", Kind::Arm),
];

/// What whydrop may meet in the kernel's network, below `kernel/` of the modules' directory.
const MODULES: [&str; 17] = [
    "net/",
    "crypto/crc32",
    "arch/x86/crypto/crc32",
    "drivers/net/bonding/",
    "drivers/net/dummy.",
    "drivers/net/ethernet/amd/pcnet32.",
    "drivers/net/ethernet/intel/e1000/",
    "drivers/net/geneve.",
    "drivers/net/ifb.",
    "drivers/net/ipvlan/",
    "drivers/net/macvlan.",
    "drivers/net/tun.",
    "drivers/net/veth.",
    "drivers/net/virtio_net.",
    "drivers/net/vrf.",
    "drivers/net/vxlan",
    "drivers/net/wireguard/",
];

/// Modules of `net/` that only cost boot time here.
const NOT_NEEDED: [&str; 7] = [
    "net/bluetooth/",
    "net/ceph/",
    "net/mac80211/",
    "net/nfc/",
    "net/rxrpc/",
    "net/sunrpc/",
    "net/wireless/",
];

impl Kind {
    /// As Debian calls the processor.
    pub fn architecture(self) -> &'static str {
        if self == Self::Arm { "arm64" } else { "amd64" }
    }
}

/// An unpacked kernel.
pub struct Kernel {
    /// As in [`KERNELS`].
    pub name: String,
    /// What is special about the guest.
    pub kind: Kind,
    /// `uname -r`.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// Gets the kernel called `name`, from the cache where it is already there.
    pub fn fetch(name: &str, cache: &Path) -> Result<Self> {
        let Some(&(_, suite, kind)) = KERNELS.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<_> = KERNELS.iter().map(|(known, ..)| *known).collect();
            bail!("unknown kernel {name}; known are {}", known.join(", "));
        };
        let architecture = kind.architecture();
        let directory = match kind {
            Kind::Arm => cache.join(format!("{suite}-{architecture}")),
            _ => cache.join(suite),
        };
        let done = directory.join("unpacked");
        if !done.exists() {
            println!("[{name}] downloading the kernel of Debian {suite}");
            if directory.exists() {
                std::fs::remove_dir_all(&directory)?;
            }
            let release = Release::open(suite, architecture, &directory)?;
            for package in packages(&release, architecture)? {
                release.unpack(&package, &directory)?;
            }
            let modules = modules_directory(&directory)?;
            let version = file_name(&modules)?;
            output(Command::new("depmod").arg("-b").arg(base_of(&directory)).arg(version))
                .context("depmod is in the package kmod")?;
            std::fs::write(&done, "")?;
        }
        let modules = modules_directory(&directory)?;
        let release = file_name(&modules)?;
        let image = [directory.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")]
            .into_iter()
            .find(|candidate| candidate.exists())
            .with_context(|| format!("no bootable image for {release} below {}", directory.display()))?;
        Ok(Self { name: name.to_owned(), kind, release, image, modules })
    }

    /// Copies the modules that the guests need, and what those need, into the root of a guest.
    pub fn install_modules(&self, root: &Path) -> Result<()> {
        let target = root.join("lib/modules").join(&self.release);
        let table = std::fs::read_to_string(self.modules.join("modules.dep"))?;
        for module in closure(&table) {
            let to = target.join(&module);
            std::fs::create_dir_all(to.parent().context("a module has a directory")?)?;
            std::fs::copy(self.modules.join(&module), &to).with_context(|| format!("copying {module}"))?;
        }
        // Newer packages leave these out.
        for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
            if self.modules.join(list).exists() {
                std::fs::copy(self.modules.join(list), target.join(list))?;
            }
        }
        output(Command::new("depmod").arg("-b").arg(root).arg(&self.release))?;
        Ok(())
    }
}

/// The packages that hold the image and the modules: one up to Debian 13, then one for each.
fn packages(release: &Release, architecture: &str) -> Result<BTreeSet<String>> {
    let named = |package: &String| {
        ["linux-image-", "linux-binary-", "linux-modules-"].iter().any(|prefix| package.starts_with(prefix))
    };
    let current = release.depends(&format!("linux-image-{architecture}"))?.into_iter().find(named);
    let current = current.with_context(|| format!("linux-image-{architecture} depends on no kernel"))?;
    let mut packages: BTreeSet<String> = release.depends(&current)?.into_iter().filter(named).collect();
    packages.insert(current);
    Ok(packages)
}

/// The root that depmod wants: releases with a merged /usr put the modules below usr/.
fn base_of(directory: &Path) -> PathBuf {
    let merged = directory.join("usr");
    if merged.join("lib/modules").exists() { merged } else { directory.to_owned() }
}

fn modules_directory(directory: &Path) -> Result<PathBuf> {
    let modules = base_of(directory).join("lib/modules");
    let mut entries =
        std::fs::read_dir(&modules).with_context(|| format!("reading {}", modules.display()))?;
    Ok(entries.next().context("the package holds no modules")??.path())
}

fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(name.with_context(|| format!("{} has no name", path.display()))?.to_owned())
}

/// The wanted modules and all that they depend on, from the lines `module: dependency …` of modules.dep.
fn closure(table: &str) -> BTreeSet<String> {
    let lines: BTreeMap<&str, &str> = table.lines().filter_map(|line| line.split_once(':')).collect();
    let wanted = |module: &str| {
        let module = module.strip_prefix("kernel/").unwrap_or(module);
        MODULES.iter().any(|prefix| module.starts_with(prefix))
            && !NOT_NEEDED.iter().any(|prefix| module.starts_with(prefix))
    };
    let mut found = BTreeSet::new();
    for (module, dependencies) in lines.iter().filter(|(module, _)| wanted(module)) {
        found.insert((*module).to_owned());
        found.extend(dependencies.split_whitespace().map(str::to_owned));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::closure;

    #[test]
    fn a_module_comes_with_what_it_needs_and_nothing_else() {
        let table = "kernel/net/sched/sch_netem.ko:\n\
                     kernel/net/netfilter/nf_tables.ko: kernel/lib/libcrc32c.ko kernel/net/netfilter/nfnetlink.ko\n\
                     kernel/net/bluetooth/bluetooth.ko: kernel/crypto/ecc.ko\n\
                     kernel/drivers/gpu/drm/drm.ko: kernel/lib/cordic.ko\n";
        let found: Vec<String> = closure(table).into_iter().collect();
        assert_eq!(
            found,
            [
                "kernel/lib/libcrc32c.ko",
                "kernel/net/netfilter/nf_tables.ko",
                "kernel/net/netfilter/nfnetlink.ko",
                "kernel/net/sched/sch_netem.ko"
            ]
        );
    }
}
