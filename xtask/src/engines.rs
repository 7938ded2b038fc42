//! `cargo xtask engines`: the whole-program tests with real containerd, Podman, compose, LXC and systemd-nspawn.
//!
//! The image is busybox and nothing else, so that nothing has to be pulled from anywhere. An engine that this machine
//! cannot have is skipped, and the end says which and why.

use crate::apt;
use crate::docker::Engine;
use crate::process::{cargo, output, run as must};
use crate::programs;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Name of the image in the tests.
const IMAGE: &str = "docker.io/whydrop/test:1";
/// What containerd holds the namespaces of a pod with.
const PAUSE: &str = "docker.io/whydrop/pause:1";
/// Programs of busybox in the image.
const APPLETS: [&str; 4] = ["sh", "sleep", "httpd", "cat"];
/// Bytes of the page that is served.
const PAGE: usize = 8192;
/// How long a fresh containerd may take to answer.
const START: Duration = Duration::from_secs(30);

/// One engine: its tests, and the programs that they need with their packages.
struct Kind {
    name: &'static str,
    needs: &'static [(&'static str, &'static str)],
    tests: &'static [&'static str],
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "containerd",
        needs: &[
            ("containerd", "containerd"),
            ("runc", "runc"),
            ("iptables", "iptables"),
            ("/usr/lib/cni/portmap", "containernetworking-plugins"),
        ],
        tests: &["containerd_pods_by_name", "containerd_source_case", "containerd_of_nerdctl_and_ctr"],
    },
    Kind { name: "podman", needs: &[("podman", "podman"), ("runc", "runc")], tests: &["podman_of_root"] },
    Kind {
        name: "rootless",
        needs: &[("podman", "podman"), ("runc", "runc"), ("newuidmap", "uidmap"), ("useradd", "passwd")],
        tests: &["podman_of_a_user"],
    },
    Kind {
        name: "compose",
        needs: &[("docker", "docker.io"), ("dockerd", "docker.io"), ("docker-compose", "docker-compose")],
        tests: &["docker_compose_services"],
    },
    Kind { name: "lxc", needs: &[("lxc-start", "lxc")], tests: &["lxc_by_name"] },
    Kind { name: "nspawn", needs: &[("systemd-nspawn", "systemd-container")], tests: &["nspawn_by_name"] },
];

/// Options of `cargo xtask engines`.
#[derive(clap::Args)]
pub struct Options {
    /// Only these: containerd, podman, rootless, compose, lxc, nspawn
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// All of them.
pub fn all() -> Result<()> {
    run(&Options { only: vec![] })
}

/// Makes the image, runs the tests of every engine that can be had, removes what it made.
pub fn run(options: &Options) -> Result<()> {
    if let Some(unknown) = options.only.iter().find(|name| KINDS.iter().all(|kind| kind.name != **name)) {
        bail!("no engine {unknown}; there are {}", KINDS.map(|kind| kind.name).join(", "));
    }
    apt::install_missing(&[("/bin/busybox", "busybox-static")])?;
    let directory = Directory::new()?;
    make_image(&directory.0)?;
    let (mut failed, mut skipped, mut passed) = (vec![], vec![], 0);
    let wanted = |kind: &&Kind| options.only.is_empty() || options.only.iter().any(|name| name == kind.name);
    for kind in KINDS.iter().filter(wanted) {
        println!("\n-- {}", kind.name);
        match prepare(kind, &directory.0) {
            Err(why) => skipped.push(format!("{}: {why:#}", kind.name)),
            Ok(ready) => match test(kind, &directory.0, &ready) {
                Ok(()) => passed += 1,
                Err(error) => failed.push(format!("{}: {error:#}", kind.name)),
            },
        }
    }
    for why in &skipped {
        println!("skipped {why}");
    }
    println!("{passed} engines passed, {} failed, {} skipped", failed.len(), skipped.len());
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// What runs or exists while the tests of an engine do.
#[derive(Default)]
struct Ready {
    _containerd: Option<Containerd>,
    /// Dropped in this order.
    _images: Option<Images>,
    _docker: Option<Engine>,
    user: Option<User>,
}

fn prepare(kind: &Kind, directory: &Path) -> Result<Ready> {
    apt::install_missing(kind.needs).context("its packages cannot be installed")?;
    let mut ready = Ready::default();
    match kind.name {
        "containerd" => ready._containerd = Some(Containerd::start(directory)?),
        "compose" => {
            ready._docker = Some(Engine::answering()?);
            ready._images = Some(Images);
            output(Command::new("docker").args(["load", "--input"]).arg(directory.join("image.tar")))?;
        }
        "rootless" => ready.user = Some(User::new()?),
        _ => (),
    }
    Ok(ready)
}

fn test(kind: &Kind, directory: &Path, ready: &Ready) -> Result<()> {
    let mut tests = cargo();
    tests.args([
        "test",
        "--workspace",
        "--test",
        "engines",
        "--",
        "--ignored",
        "--test-threads",
        "1",
        "--exact",
    ]);
    tests.args(kind.tests).env("WHYDROP", programs::whydrop()?).env("WHYDROP_ENGINES", directory);
    if let Some(user) = &ready.user {
        tests.env("WHYDROP_ENGINES_USER", &user.0);
    }
    must(&mut tests)
}

/// A directory of our own that every user may look into.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("whydrop-engines-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("xtask: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// `rootfs`, and `image.tar` of it as `docker save` writes it, under both names.
fn make_image(directory: &Path) -> Result<()> {
    let rootfs = directory.join("rootfs");
    for name in ["bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var", "www"] {
        std::fs::create_dir_all(rootfs.join(name))?;
    }
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox"))?;
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet))?;
    }
    std::fs::write(rootfs.join("www/index.html"), vec![b'x'; PAGE])?;
    // systemd-nspawn wants to see a system.
    std::fs::write(rootfs.join("etc/os-release"), "ID=whydrop-test\n")?;
    let layer = directory.join("layer.tar");
    output(Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&layer).arg("."))?;
    let sum = output(Command::new("sha256sum").arg(&layer))?;
    let sum = sum.split_whitespace().next().context("sha256sum says a sum")?;
    // Two images and not two names of one: an engine shows either name then.
    let image = |file: &str, name: &str| {
        let config = serde_json::json!({
            "architecture": match std::env::consts::ARCH { "aarch64" => "arm64", _ => "amd64" },
            "os": "linux",
            "config": { "Cmd": ["/bin/sleep", "100000"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
            "history": [{ "comment": name }],
        });
        std::fs::write(directory.join(file), config.to_string())?;
        Ok::<_, std::io::Error>(
            serde_json::json!({ "Config": file, "RepoTags": [name], "Layers": ["layer.tar"] }),
        )
    };
    let images = [image("test.json", IMAGE)?, image("pause.json", PAUSE)?];
    std::fs::write(directory.join("manifest.json"), serde_json::Value::from(images.to_vec()).to_string())?;
    let mut tar = Command::new("tar");
    tar.args(["-cf", "image.tar", "test.json", "pause.json", "layer.tar", "manifest.json"]);
    output(tar.current_dir(directory))?;
    Ok(())
}

/// A containerd of our own, beside whatever else runs here.
struct Containerd {
    process: Child,
    /// CNI's plug-ins made their chains for it, and leave them behind.
    chains: bool,
}

impl Containerd {
    fn start(directory: &Path) -> Result<Self> {
        let cni = directory.join("cni");
        std::fs::create_dir_all(&cni)?;
        std::fs::write(cni.join("10-whydrop.conflist"), NETWORK)?;
        let here = directory.display();
        let config = format!(
            "version = 2\nroot = \"{here}/containerd\"\nstate = \"{here}/containerd-state\"\n\
             [grpc]\naddress = \"{here}/containerd.sock\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{PAUSE}\"\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{here}/cni\"\n"
        );
        let file = directory.join("containerd.toml");
        std::fs::write(&file, config)?;
        let log = std::fs::File::create(directory.join("containerd.log"))?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let chains = output(Command::new("iptables").args(["-w", "-t", "nat", "-S", CHAINS[0]])).is_err();
        let containerd = Self { process: command.spawn().context("cannot start containerd")?, chains };
        let socket = directory.join("containerd.sock");
        let started = Instant::now();
        let import = || {
            let mut ctr = Command::new("ctr");
            ctr.arg("--address").arg(&socket).args(["--namespace", "k8s.io", "images", "import"]);
            output(ctr.args(["--snapshotter", "native"]).arg(directory.join("image.tar")))
        };
        while let Err(error) = import() {
            if started.elapsed() > START {
                return Err(error.context("containerd does not take an image"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(containerd)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        Command::new("ip").args(["link", "delete", "wdcni0"]).stderr(Stdio::null()).status().ok();
        std::fs::remove_dir_all("/var/lib/cni/networks/whydrop").ok();
        let nat = |words: &[&str]| {
            Command::new("iptables").args(["-w", "-t", "nat"]).args(words).stderr(Stdio::null()).status().ok()
        };
        if self.chains {
            for hook in ["PREROUTING", "OUTPUT"] {
                nat(&["-D", hook, "-m", "addrtype", "--dst-type", "LOCAL", "-j", CHAINS[0]]);
            }
            let comment = "CNI portfwd requiring masquerade";
            nat(&["-D", "POSTROUTING", "-m", "comment", "--comment", comment, "-j", CHAINS[1]]);
            for chain in CHAINS {
                nat(&["-F", chain]);
                nat(&["-X", chain]);
            }
        }
    }
}

/// Chains of the portmap plug-in (`plugins/meta/portmap/portmap.go`).
const CHAINS: [&str; 3] = ["CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK"];

/// A bridge with published ports, as a node has it.
const NETWORK: &str = r#"{ "cniVersion": "0.4.0", "name": "whydrop", "plugins": [
  { "type": "bridge", "bridge": "wdcni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.213.7.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }"#;

/// The images that Docker took, removed again.
struct Images;

impl Drop for Images {
    fn drop(&mut self) {
        let images = ["image", "rm", "--force", IMAGE, PAUSE];
        Command::new("docker").args(images).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

/// A user who runs containers, and goes with them.
struct User(String);

impl User {
    fn new() -> Result<Self> {
        let name = format!("wdtest{}", std::process::id());
        output(Command::new("useradd").args(["--create-home", "--shell", "/bin/sh", &name]))?;
        Ok(Self(name))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        Command::new("userdel").args(["--remove", "--force", &self.0]).stderr(Stdio::null()).status().ok();
    }
}
