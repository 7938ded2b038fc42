//! The root file system of a guest: programs of this machine with their libraries, a kernel's modules, the tests.

use crate::apt::Release;
use crate::process::{find_program, fresh_directory, output, workspace};
use crate::vm::kernel::Kernel;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs that the guests need, each with the names that it is called by.
const PROGRAMS: [(&str, &[&str]); 13] = [
    ("bridge", &[]),
    ("conntrack", &[]),
    // A shell that runs the real programs, not the smaller ones inside busybox.
    ("dash", &["sh"]),
    ("ethtool", &[]),
    ("ip", &[]),
    ("kmod", &["modprobe", "insmod", "lsmod"]),
    ("nft", &[]),
    ("nginx", &[]),
    ("ss", &[]),
    ("tc", &[]),
    ("wg", &[]),
    ("xtables-legacy-multi", &["iptables-legacy", "ip6tables-legacy"]),
    (
        "xtables-nft-multi",
        &["iptables", "iptables-nft", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-nft"],
    ),
];

/// Data and plug-ins that those programs open by name.
const DATA: [&str; 3] = ["/usr/lib/x86_64-linux-gnu/xtables", "/etc/protocols", "/etc/services"];

/// What the tests read, below the root of the workspace.
const TEST_DATA: [&str; 2] = ["scenarios", "tests/bpf"];

const INIT: &str = include_str!("init.sh");

/// The part of a guest that is the same for all kernels.
pub struct Base {
    archive: PathBuf,
}

impl Base {
    /// Builds it below `directory`; `payload` are the programs to run, by name, in this order.
    pub fn build(directory: &Path, payload: &[(String, PathBuf)]) -> Result<Self> {
        let root = skeleton(&directory.join("base"))?;
        let busybox = find_program("busybox").context("busybox is in the package busybox-static")?;
        let mut needed = BTreeSet::from_iter(libraries(&busybox)?);
        std::fs::copy(busybox, root.join("bin/busybox"))?;
        for (name, aliases) in PROGRAMS {
            let program = find_program(name).with_context(|| format!("{name} is not installed"))?;
            needed.extend(libraries(&program)?);
            std::fs::copy(&program, root.join("bin").join(name))?;
            for alias in aliases {
                symlink(name, root.join("bin").join(alias))?;
            }
        }
        for (name, program) in payload {
            needed.extend(libraries(program)?);
            let to = root.join("payload").join(name);
            // Debugging symbols would only be copied into the guest's memory.
            output(Command::new("strip").arg("-o").arg(&to).arg(program))
                .context("strip is in the package binutils")?;
        }
        for data in DATA {
            copy_tree(Path::new(data), &root.join(data.trim_start_matches('/')))?;
        }
        for data in TEST_DATA {
            // The test programs look for it where it was when they were built.
            let data = workspace().join(data).canonicalize()?;
            copy_tree(&data, &root.join(data.strip_prefix("/")?))?;
        }
        for library in needed {
            let to = root.join(library.strip_prefix("/").context("ldd names absolute paths")?);
            std::fs::create_dir_all(to.parent().context("a library has a directory")?)?;
            std::fs::copy(&library, &to).with_context(|| format!("copying {}", library.display()))?;
        }
        let archive = directory.join("base.cpio");
        pack(&root, &archive)?;
        Ok(Self { archive })
    }

    /// The same for another processor: busybox of Debian's package, and a program that needs nothing else.
    pub fn foreign(directory: &Path, architecture: &str, program: &Path) -> Result<Self> {
        let root = skeleton(&directory.join(format!("base-{architecture}")))?;
        let unpacked = fresh_directory(&directory.join(format!("busybox-{architecture}")))?;
        let release = Release::open("bookworm", architecture, &unpacked)?;
        release.unpack("busybox-static", &unpacked)?;
        let busybox = ["bin/busybox", "usr/bin/busybox"].map(|path| unpacked.join(path));
        let busybox = busybox.iter().find(|path| path.is_file()).context("the package holds busybox")?;
        std::fs::copy(busybox, root.join("bin/busybox"))?;
        symlink("busybox", root.join("bin/sh"))?;
        std::fs::copy(program, root.join("payload/whydrop"))?;
        let archive = directory.join(format!("base-{architecture}.cpio"));
        pack(&root, &archive)?;
        Ok(Self { archive })
    }

    /// The whole root file system for one kernel, which runs `script`.
    pub fn with_modules(&self, kernel: &Kernel, script: &str, directory: &Path) -> Result<PathBuf> {
        let root = fresh_directory(&directory.join(format!("modules-{}", kernel.name)))?;
        kernel.install_modules(&root)?;
        std::fs::write(root.join("payload.sh"), script)?;
        let modules = directory.join(format!("modules-{}.cpio", kernel.name));
        pack(&root, &modules)?;
        // The kernel unpacks archives that follow each other, one after the other.
        let image = directory.join(format!("{}.cpio", kernel.name));
        let mut file = std::fs::File::create(&image)?;
        for part in [&self.archive, &modules] {
            std::io::copy(&mut std::fs::File::open(part)?, &mut file)?;
        }
        Ok(image)
    }
}

/// The directories and files of every guest.
fn skeleton(root: &Path) -> Result<PathBuf> {
    let root = fresh_directory(root)?;
    for name in [
        "bin",
        "dev",
        "etc",
        "proc",
        "root",
        "run/netns",
        "sys",
        "tmp",
        "payload",
        "usr",
        "var/lib/nginx",
        "var/log/nginx",
    ] {
        std::fs::create_dir_all(root.join(name))?;
    }
    for (from, to) in [("bin", "sbin"), ("../bin", "usr/bin"), ("../bin", "usr/sbin")] {
        symlink(from, root.join(to))?;
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    )?;
    std::fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    executable(&root.join("init"), INIT)?;
    Ok(root)
}

fn executable(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// The libraries that a program loads at start, with the dynamic loader itself. None for a static program.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listing = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&listing.stdout);
    if text.contains("not found") {
        bail!("{} lacks a library: {text}", program.display());
    }
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        std::fs::create_dir_all(to.parent().context("a file has a directory")?)?;
        std::fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
        return Ok(());
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        copy_tree(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Writes a directory as a cpio archive, which is what the kernel takes as its first root file system.
fn pack(root: &Path, archive: &Path) -> Result<()> {
    let mut names = Vec::new();
    list(root, root, &mut names)?;
    let mut child = Command::new("busybox")
        .args(["cpio", "--create", "--format=newc", "--owner=0:0"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(archive)?)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start busybox")?;
    child.stdin.take().context("cpio reads names")?.write_all(names.join("\n").as_bytes())?;
    if !child.wait()?.success() {
        bail!("busybox cpio could not pack {}", root.display());
    }
    Ok(())
}

fn list(root: &Path, directory: &Path, names: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        names.push(path.strip_prefix(root)?.to_str().context("names are text")?.to_owned());
        if entry.file_type()?.is_dir() {
            list(root, &path, names)?;
        }
    }
    Ok(())
}
