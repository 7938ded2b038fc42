//! Containers of real engines, seen from the host by their names: nothing is installed or run in any of them.
//!
//! `cargo xtask engines` makes the image, starts what has to run, and calls these tests. Each container serves a page
//! with busybox and is broken from outside, with what every kernel has.

use serde_json::Value;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use whydrop_tests::cri::Pod;
use whydrop_tests::{Diagnosis, command, diagnose, diagnose_as, whydrop};

const IMAGE: &str = "docker.io/whydrop/test:1";
const SERVE: [&str; 6] = ["/bin/httpd", "-f", "-p", "8080", "-h", "/www"];
const IDLE: [&str; 2] = ["/bin/sleep", "100000"];
/// Limits that a container is given, where the machine gives no more.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/// What `cargo xtask engines` made: `rootfs`, `image.tar`, `containerd.sock`.
fn made(name: &str) -> PathBuf {
    let directory =
        std::env::var_os("WHYDROP_ENGINES").expect("WHYDROP_ENGINES is set by cargo xtask engines");
    Path::new(&directory).join(name)
}

/// Runs a command when it is dropped.
struct Afterwards(Vec<String>);

impl Drop for Afterwards {
    fn drop(&mut self) {
        if let Some((program, words)) = self.0.split_first() {
            Command::new(program).args(words).output().ok();
        }
    }
}

fn afterwards(line: &str) -> Afterwards {
    Afterwards(line.split_whitespace().map(str::to_owned).collect())
}

/// A child that is ended when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A command line that must succeed; the last word may hold blanks.
#[track_caller]
fn must(words: &[&str]) -> String {
    let (program, rest) = words.split_first().expect("a program");
    let output =
        Command::new(program).args(rest).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits until a process of this namespace listens on port 8080.
#[track_caller]
fn serves(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let table = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")));
        let listens =
            |table: &str| table.lines().any(|line| line.contains(":1F90 ") && line.contains(" 0A "));
        if table.iter().flatten().any(|table| listens(table)) {
            return;
        }
        assert!(Instant::now() < deadline, "nothing listens in the namespace of {pid}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Joins the namespace of a process to this one and returns the address of its end.
fn wired(pid: &str, number: u8) -> (Afterwards, String) {
    let device = format!("wdeng{number}");
    command(&format!("ip link add {device} type veth peer name eth0 netns {pid}"));
    let gone = afterwards(&format!("ip link delete {device}"));
    command(&format!("ip address add 10.213.{number}.1/24 dev {device}"));
    command(&format!("ip link set {device} up"));
    for line in [format!("ip address add 10.213.{number}.2/24 dev eth0"), "ip link set eth0 up".to_owned()] {
        command(&format!("nsenter -t {pid} -n {line}"));
    }
    (gone, format!("10.213.{number}.2"))
}

/// The programs that run in a container's pid namespace; a server may have more processes of one by the time.
fn programs(pid: &str) -> BTreeSet<String> {
    let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = of(pid);
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let inside = all
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && of(name) == own);
    inside.filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()).collect()
}

/// Breaks the network of a container in the three ways of the source case, and finds them by its name.
#[track_caller]
fn source_case(word: &str, kind: &str, pid: &str, address: &str) -> Diagnosis {
    serves(pid);
    for line in [
        "iptables -A INPUT -m statistic --mode random --probability 0.30 -j DROP",
        "iptables -A OUTPUT -m statistic --mode random --probability 0.30 -j DROP",
        "ip link set eth0 mtu 100",
    ] {
        command(&format!("nsenter -t {pid} -n {line}"));
    }
    let before = programs(pid);
    let (tcp, http) = (format!("tcp://{address}:8080"), format!("http://{address}:8080/"));
    let found = diagnose(&["diagnose", word, "--probe", &tcp, "--probe", &http]);
    found.assert_causes(&["mtu.too_small", "netfilter.drop_rule", "netfilter.drop_rule"]);
    assert_eq!(found.report["targets"][0]["kind"], kind, "\n{}", found.said);
    assert_eq!(programs(pid), before, "something runs in the container that did not before");
    found
}

/// (name, image) of the containers of the first target.
fn containers(found: &Diagnosis) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = found.report["targets"][0]["containers"].as_array().expect("a list");
    list.iter().map(|container| (text(&container["name"]), text(&container["image"]))).collect()
}

fn look(word: &str, socket: Option<&Path>) -> Diagnosis {
    let mut program = whydrop();
    if let Some(socket) = socket {
        program.env("CONTAINERD_ADDRESS", socket).env("CONTAINER_RUNTIME_ENDPOINT", socket);
    }
    diagnose_as(program, &["diagnose", word, "--passive", "--duration", "200ms"])
}

fn stopped(word: &str) {
    let output = whydrop().args(["diagnose", word]).output().expect("whydrop starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{word}: {said}");
    assert!(said.contains("it is stopped"), "{word}: {said}");
}

#[test]
#[ignore = "needs containerd with CRI and CNI: cargo xtask engines"]
fn containerd_pods_by_name() {
    let socket = made("containerd.sock");
    let web = Pod::run(&socket, "wd-shop", "wd-web", &[]);
    web.start("server", IMAGE, &SERVE);
    let sidecar = web.start("sidecar", IMAGE, &IDLE);
    let port = TcpListener::bind("0.0.0.0:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let api = Pod::run(&socket, "wd-shop", "wd-api", &[(port.into(), 9_999)]);
    api.start("server", IMAGE, &SERVE);
    api.start("sidecar", IMAGE, &IDLE);
    let both = [("server".to_owned(), IMAGE.to_owned()), ("sidecar".to_owned(), IMAGE.to_owned())];

    // With its interfaces, and from files and processes alone: the same names.
    for socket in [Some(socket.as_path()), None] {
        for word in ["pod:wd-shop/wd-web", "wd-shop/wd-web", "wd-web"] {
            let found = look(word, socket);
            assert_eq!(found.status, 0, "{word}: {}", found.said);
            let target = &found.report["targets"][0];
            assert_eq!((&target["id"], &target["kind"]), (&"pod:wd-shop/wd-web".into(), &"pod".into()));
            assert_eq!(target["pod"]["namespace"], "wd-shop");
            assert_eq!(containers(&found), both, "{word} with {socket:?}: {}", found.said);
        }
        for word in [format!("containerd:{sidecar}"), format!("cri:{}", &sidecar[..12])] {
            let found = look(&word, socket);
            assert_eq!(found.report["targets"][0]["pod"]["name"], "wd-web", "{word}: {}", found.said);
        }
        // A name that both pods have is no choice.
        let mut program = whydrop();
        if let Some(socket) = socket {
            program.env("CONTAINERD_ADDRESS", socket).env("CONTAINER_RUNTIME_ENDPOINT", socket);
        }
        let output = program.args(["diagnose", "cri:sidecar"]).output().expect("whydrop starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("more than one") && said.contains("pod:wd-shop/wd-api"), "{said}");
    }

    let with = |words: &[&str]| {
        let mut program = whydrop();
        program.env("CONTAINERD_ADDRESS", &socket).env("CONTAINER_RUNTIME_ENDPOINT", &socket);
        let output = program.args(words).output().expect("whydrop starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(with(&["completions", "--names"]).lines().any(|line| line == "pod:wd-shop/wd-web"));
    let census: Value = serde_json::from_str(&with(&["targets", "--json"])).expect("JSON");
    let row =
        census["namespaces"].as_array().expect("a list").iter().find(|row| row["id"] == "pod:wd-shop/wd-web");
    let row = row.unwrap_or_else(|| panic!("{census:#}"));
    assert_eq!(
        (&row["containers"][0]["engine"], &row["pod"]["name"]),
        (&"containerd".into(), &"wd-web".into())
    );
    assert!(row["processes"].as_u64() >= Some(3), "{row:#}");
    let all = with(&["diagnose", "--all-containers", "--passive", "--duration", "200ms", "--json"]);
    let all: Value = serde_json::from_str(&all).expect("a report");
    // The host is joined to the pods, hence in view, but nobody asked about it.
    let asked = all["targets"].as_array().expect("a list").iter().filter(|target| target["role"] == "target");
    let ids: Vec<&str> = asked.filter_map(|target| target["id"].as_str()).collect();
    assert!(["pod:wd-shop/wd-web", "pod:wd-shop/wd-api"].iter().all(|id| ids.contains(id)), "{ids:?}");
    assert!(!ids.contains(&"host"), "{ids:?}");

    // A rule as a network policy leaves it: others are let in, this client is not.
    let pid =
        diagnose(&["diagnose", "pod:wd-shop/wd-web", "--passive", "--duration", "200ms"]).report["targets"]
            [0]["pid"]
            .to_string();
    serves(&pid);
    for line in [
        "iptables -N WD-POLICY",
        "iptables -A WD-POLICY -s 192.0.2.0/24 -j RETURN",
        "iptables -A WD-POLICY -p tcp --dport 8080 -j DROP",
        "iptables -A INPUT -j WD-POLICY",
    ] {
        command(&format!("nsenter -t {pid} -n {line}"));
    }
    let url = format!("tcp://{}:8080", web.address());
    let found = diagnose(&["diagnose", "pod:wd-shop/wd-web", "--probe", &url, "--duration", "2s"]);
    found.assert_causes(&["netfilter.drop_rule"]);
    assert_eq!(found.report["findings"][0]["target"], "pod:wd-shop/wd-web", "{}", found.said);

    // Another pod's published port leads to a port on which nothing listens.
    let gateway = command("ip -4 -o address show dev wdcni0");
    let gateway = gateway.split_whitespace().find(|word| word.contains('/')).expect("an address");
    let gateway = gateway.split('/').next().expect("an address");
    let url = format!("tcp://{gateway}:{port}");
    let found = diagnose(&["diagnose", "pod:wd-shop/wd-api", "--probe", &url, "--duration", "2s"]);
    found.assert_causes(&["container.port_map_wrong"]);
}

#[test]
#[ignore = "needs containerd with CRI and CNI: cargo xtask engines"]
fn containerd_source_case() {
    let pod = Pod::run(&made("containerd.sock"), "wd-case", "wd-case", &[]);
    pod.start("server", IMAGE, &SERVE);
    let found = look("pod:wd-case/wd-case", None);
    let pid = found.report["targets"][0]["pid"].to_string();
    source_case("pod:wd-case/wd-case", "pod", &pid, &pod.address());
}

#[test]
#[ignore = "needs containerd: cargo xtask engines"]
fn containerd_of_nerdctl_and_ctr() {
    let socket = made("containerd.sock");
    let socket = socket.to_str().expect("a path");
    let ctr =
        |words: &[&str]| must(&[&["ctr", "--address", socket, "--namespace", "wd-other"], words].concat());
    ctr(&["images", "import", "--snapshotter", "native", made("image.tar").to_str().expect("a path")]);
    let run =
        ["run", "--detach", "--snapshotter", "native", "--label", "nerdctl/name=wd-nerd", IMAGE, "wd-ctr"];
    ctr(&run);
    let _gone = afterwards(&format!("ctr --address {socket} --namespace wd-other container rm wd-ctr"));
    let _killed = afterwards(&format!("ctr --address {socket} --namespace wd-other task rm --force wd-ctr"));
    let found = look("nerdctl:wd-nerd", Some(Path::new(socket)));
    assert_eq!(found.report["targets"][0]["containers"][0]["image"], IMAGE, "{}", found.said);
    // nerdctl writes its labels into the specification, too; ctr does not.
    for (word, socket) in [("wd-ctr", Some(socket)), ("containerd:wd-other/wd-ctr", None), ("wd-ctr", None)] {
        let found = look(word, socket.map(Path::new));
        assert_eq!(found.report["targets"][0]["container"], "wd-ctr", "{word}: {}", found.said);
    }
}

#[test]
#[ignore = "needs Podman: cargo xtask engines"]
fn podman_of_root() {
    let podman = ["podman", "--runtime", "runc", "--storage-driver", "vfs"];
    let store = made("podman");
    let (root, run) = (store.join("root"), store.join("run"));
    let places = ["--root", root.to_str().expect("a path"), "--runroot", run.to_str().expect("a path")];
    let call = |words: &[&str]| must(&[&podman[..], &places, words].concat());
    call(&["load", "--input", made("image.tar").to_str().expect("a path")]);
    let _gone = Afterwards(
        [&podman[..], &places, &["rm", "--all", "--force"]].concat().iter().map(|w| (*w).into()).collect(),
    );
    call(&[&["run", "--detach", "--name", "wd-podman"], &LIMITS[..], &[IMAGE], &SERVE].concat());
    let pid = call(&["inspect", "--format", "{{.State.Pid}}", "wd-podman"]);
    let address = call(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", "wd-podman"]);
    let found = source_case("podman:wd-podman", "podman", &pid, &address);
    assert_eq!(containers(&found), [("wd-podman".to_owned(), IMAGE.to_owned())], "{}", found.said);

    // Its interface says the same, and of a pod's containers that they are one.
    let socket = store.join("podman.sock");
    let url = format!("unix://{}", socket.display());
    let mut service = Command::new(podman[0]);
    service.args(&podman[1..]).args(places).args(["system", "service", "--time", "0", &url]);
    let _service = Running(service.stderr(Stdio::null()).spawn().expect("podman starts"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline, "podman does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut program = whydrop();
    program.env("CONTAINER_HOST", &url);
    let found = diagnose_as(program, &["diagnose", "wd-podman", "--passive", "--duration", "200ms"]);
    assert_eq!(found.report["targets"][0]["id"], "podman:wd-podman", "{}", found.said);
    let answered = |row: &Value| row["source"].as_str().is_some_and(|source| source.contains("podman"));
    assert!(!found.report["coverage"].as_array().expect("a list").iter().any(answered), "{}", found.said);
    call(&["stop", "--time", "0", "wd-podman"]);
    let output = whydrop().env("CONTAINER_HOST", &url).args(["diagnose", "podman:wd-podman"]).output();
    let said = String::from_utf8_lossy(&output.expect("whydrop starts").stderr).into_owned();
    assert!(said.contains("it is stopped"), "{said}");
}

#[test]
#[ignore = "needs Podman and a user: cargo xtask engines"]
fn podman_of_a_user() {
    let user = std::env::var("WHYDROP_ENGINES_USER").expect("a user's name");
    let podman = |words: &str| {
        let line = format!("cd; unset XDG_RUNTIME_DIR; podman --storage-driver vfs --runtime runc {words}");
        must(&["su", "-", &user, "-c", &line])
    };
    let image = made("image.tar");
    podman(&format!("load --input {}", image.display()));
    let line = "cd; unset XDG_RUNTIME_DIR; podman --storage-driver vfs rm --all --force --time 0";
    let gone = ["su", "-", &user, "-c", line].map(str::to_owned).to_vec();
    let _gone = Afterwards(gone);
    podman(&format!("run --detach --name wd-rootless --network none {IMAGE} {}", SERVE.join(" ")));
    let pid = podman("inspect --format '{{.State.Pid}}' wd-rootless");
    let (_link, address) = wired(&pid, 101);
    let found = source_case("podman:wd-rootless", "podman", &pid, &address);
    assert_eq!(containers(&found), [("wd-rootless".to_owned(), IMAGE.to_owned())], "{}", found.said);
    podman("stop --time 0 wd-rootless");
    stopped("wd-rootless");
}

#[test]
#[ignore = "needs Docker and compose: cargo xtask engines"]
fn docker_compose_services() {
    let directory = made("wdshop");
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("docker-compose.yml");
    let service = |name: &str| format!("  {name}:\n    image: {IMAGE}\n    command: {SERVE:?}\n");
    std::fs::write(&file, format!("version: '2.4'\nservices:\n{}{}", service("web"), service("api")))
        .expect("a file");
    let file = file.to_str().expect("a path");
    let _gone = afterwards(&format!("docker-compose --file {file} down --timeout 0"));
    must(&["docker-compose", "--file", file, "up", "--detach", "--no-color"]);
    let id = must(&["docker-compose", "--file", file, "ps", "--quiet", "web"]);
    let inspect = |format: &str| must(&["docker", "inspect", "--format", format, &id]);
    let pid = inspect("{{.State.Pid}}");
    let address = inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    for word in ["wdshop/api", "compose:wdshop/api", "docker:wdshop/api"] {
        let found = look(word, None);
        assert_eq!(found.status, 0, "{word}: {}", found.said);
    }
    source_case("compose:wdshop/web", "docker", &pid, &address);
    must(&["docker", "stop", "--time", "0", &id]);
    stopped("wdshop/web");
}

#[test]
#[ignore = "needs LXC: cargo xtask engines"]
fn lxc_by_name() {
    let directory = made("lxc");
    let container = directory.join("wd-lxc");
    std::fs::create_dir_all(&container).expect("a directory");
    let config = format!(
        "lxc.uts.name = wd-lxc\nlxc.rootfs.path = dir:{}\nlxc.net.0.type = empty\nlxc.init.cmd = {}\n\
         lxc.apparmor.profile = unconfined\n",
        made("rootfs").display(),
        SERVE.join(" ")
    );
    std::fs::write(container.join("config"), config).expect("a file");
    let directory = directory.to_str().expect("a path");
    must(&["lxc-start", "--lxcpath", directory, "--name", "wd-lxc", "--daemon"]);
    let stop = afterwards(&format!("lxc-stop --lxcpath {directory} --name wd-lxc --kill"));
    let pid = must(&["lxc-info", "--lxcpath", directory, "--name", "wd-lxc", "--no-humanize", "--pid"]);
    let (_link, address) = wired(&pid, 102);
    source_case("lxc:wd-lxc", "lxc", &pid, &address);
    assert_eq!(look("wd-lxc", None).report["targets"][0]["id"], "lxc:wd-lxc");
    drop(stop);
}

#[test]
#[ignore = "needs systemd-nspawn: cargo xtask engines"]
fn nspawn_by_name() {
    let mut nspawn = Command::new("systemd-nspawn");
    nspawn.args(["--quiet", "--machine=wd-nspawn", "--register=no", "--keep-unit", "--private-network"]);
    nspawn.arg("--directory").arg(made("rootfs")).args(SERVE);
    let nspawn = Running(nspawn.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("nspawn starts"));
    let deadline = Instant::now() + Duration::from_secs(20);
    let pid = loop {
        let children = format!("/proc/{0}/task/{0}/children", nspawn.0.id());
        let children = std::fs::read_to_string(children).expect("nspawn runs");
        let own = std::fs::read_link("/proc/self/ns/net").ok();
        let inside =
            |pid: &&str| std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| Some(ns) != own);
        if let Some(pid) = children.split_whitespace().find(inside) {
            break pid.to_owned();
        }
        assert!(Instant::now() < deadline, "no machine");
        std::thread::sleep(Duration::from_millis(50));
    };
    let (_link, address) = wired(&pid, 103);
    source_case("machine:wd-nspawn", "machine", &pid, &address);
    assert_eq!(look("nspawn:wd-nspawn", None).report["targets"][0]["id"], "machine:wd-nspawn");
}
