//! Names that lead nowhere, engines that misbehave, and neighbours: none of them costs the diagnosis, and nobody is
//! probed who was not asked about.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use whydrop_host::Netns;
use whydrop_tests::{Namespace, diagnose, whydrop};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file, gone at the end.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// An engine that does `answer` with each client; its address as DOCKER_HOST has it.
fn engine(name: &str, answer: fn(std::os::unix::net::UnixStream)) -> (Gone, String) {
    let path = std::env::temp_dir().join(format!("whydrop-engine-{name}-{}", std::process::id()));
    let listener = UnixListener::bind(&path).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    let address = format!("unix://{}", path.display());
    (Gone(path), address)
}

#[test]
fn a_name_that_leads_nowhere_is_passed_over_and_named() {
    let namespace = Namespace::new("passed");
    let found =
        diagnose(&["diagnose", &namespace.target(), "netns:wd-no-such", "--passive", "--duration", "100ms"]);
    let rows = found.report["coverage"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["target"] == "netns:wd-no-such").expect("a row");
    assert_eq!(row["status"], "failed", "{}", found.said);
    assert!(rows.iter().any(|row| row["target"] == namespace.target().as_str() && row["status"] == "read"));
    // It may hide anything.
    assert_eq!(found.report["verdict"], "inconclusive", "{}", found.said);
}

#[test]
fn all_passes_over_what_is_stale_or_comes_and_goes() {
    fs::create_dir_all("/run/netns").expect("root");
    let name = format!("wd-test-stale-{}", std::process::id());
    let stale = Gone(PathBuf::from("/run/netns").join(&name));
    fs::write(&stale.0, "").expect("root");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                drop(Namespace::new("churn"));
            }
        });
        for _ in 0..5 {
            let arguments = ["diagnose", "--all", "--passive", "--no-trace", "--duration", "100ms"];
            let output = whydrop().args(arguments).arg("--json").output().expect("whydrop starts");
            let report: Result<serde_json::Value, _> = serde_json::from_slice(&output.stdout);
            let row = report.as_ref().ok().and_then(|report| {
                let rows = report["coverage"].as_array()?;
                rows.iter().find(|row| row["target"] == format!("netns:{name}"))
            });
            if row.is_none_or(|row| row["status"] != "absent") {
                over.store(true, Ordering::Relaxed);
                panic!("{row:?}: {}", said(&output));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_engine_that_drips_or_never_ends_costs_seconds() {
    let drips = |mut stream: std::os::unix::net::UnixStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let endless = |mut stream: std::os::unix::net::UnixStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
        while stream.write_all(&[b' '; 1 << 20]).is_ok() {}
    };
    for (name, answer) in [("drips", drips as fn(_)), ("endless", endless)] {
        let (_file, address) = engine(name, answer);
        let mut program = whydrop();
        let began = Instant::now();
        let output = program
            .args(["diagnose", "docker:web"])
            .env("DOCKER_HOST", address)
            .output()
            .expect("whydrop starts");
        assert_eq!(output.status.code(), Some(2), "{name}: {}", said(&output));
        assert!(said(&output).contains("docker engine at"), "{name}: {}", said(&output));
        assert!(began.elapsed() < Duration::from_secs(10), "{name}: {:?}", began.elapsed());
    }
}

#[test]
fn the_first_signal_ends_the_wait_for_an_engine() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let (_file, address) = engine("silent", |mut stream| {
        let mut request = [0; 64];
        ASKED.store(stream.read(&mut request).is_ok(), Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(20));
    });
    let mut program = whydrop();
    let mut child = program
        .args(["diagnose", "docker:web"])
        .env("DOCKER_HOST", address)
        .stderr(Stdio::null())
        .spawn()
        .expect("whydrop starts");
    let began = Instant::now();
    while !ASKED.load(Ordering::Relaxed) {
        assert!(began.elapsed() < Duration::from_secs(20), "the engine is not asked");
        std::thread::sleep(Duration::from_millis(5));
    }
    let signalled = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let status = child.wait().expect("a child");
    assert!(!status.success() && signalled.elapsed() < Duration::from_secs(2), "{:?}", signalled.elapsed());
}

/// What an engine answers that has one container, `web`, whose process is `PID`.
fn one_container(mut stream: std::os::unix::net::UnixStream) {
    let mut request = [0; 512];
    let n = stream.read(&mut request).unwrap_or(0);
    let list = request.get(..n).is_some_and(|r| r.starts_with(b"GET /containers/json"));
    let body = if list {
        r#"[{"Id":"abcdef123456","Names":["/web"],"State":"running"}]"#.to_owned()
    } else {
        format!(r#"{{"State":{{"Pid":{}}}}}"#, PID.load(Ordering::Relaxed))
    };
    let size = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n")
        .ok();
}

static PID: AtomicU32 = AtomicU32::new(0);

#[test]
fn a_container_that_is_killed_in_the_window_is_not_clear() {
    let mut container =
        Command::new("unshare").args(["--net", "sleep", "60"]).spawn().expect("unshare starts");
    PID.store(container.id(), Ordering::Relaxed);
    let own = fs::read_link("/proc/self/ns/net").expect("a namespace");
    let path = format!("/proc/{}/ns/net", container.id());
    let deadline = Instant::now() + Duration::from_secs(60);
    let inside = loop {
        match fs::read_link(&path) {
            Ok(namespace) if namespace != own => break namespace,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (_file, address) = engine("one", one_container);
    let mut program = whydrop();
    let child = program
        .args(["diagnose", "docker:web", "--passive", "--duration", "500ms", "--json"])
        .env("DOCKER_HOST", address)
        .stdout(Stdio::piped())
        .spawn()
        .expect("whydrop starts");
    // It ends as soon as its namespace is open.
    let holds = || {
        let files = fs::read_dir(format!("/proc/{}/fd", child.id())).expect("it runs");
        files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link == inside))
    };
    while !holds() {
        assert!(Instant::now() < deadline, "the namespace is not opened");
        std::thread::sleep(Duration::from_millis(5));
    }
    container.kill().expect("it runs");
    container.wait().expect("a child");
    let output = child.wait_with_output().expect("a child");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((&report["verdict"], output.status.code()), (&"inconclusive".into(), Some(3)), "{report:#}");
    let rows = report["coverage"].as_array().expect("a list");
    let told = |row: &serde_json::Value| {
        row["status"] == "failed" && row["detail"].as_str().is_some_and(|why| why.starts_with("docker:web"))
    };
    assert!(rows.iter().any(told), "{report:#}");
    assert!(rows.iter().any(|row| row["target"] == "docker:web" && row["status"] == "read"), "{report:#}");
}

#[test]
fn a_neighbour_whose_address_is_on_lo_is_not_probed_unasked() {
    let (host, web, neighbour) =
        (Namespace::new("r-host"), Namespace::new("r-web"), Namespace::new("r-other"));
    host.run("ip link add br0 type bridge");
    host.run("ip address add 10.77.0.1/24 dev br0");
    host.run("ip link set br0 up");
    for (port, namespace, address) in [("p1", &web, "10.77.0.2/24"), ("p2", &neighbour, "10.77.0.3/24")] {
        host.run(&format!("ip link add {port} type veth peer name eth0 netns {}", namespace.name()));
        host.run(&format!("ip link set {port} master br0 up"));
        namespace.run(&format!("ip address add {address} dev eth0"));
        namespace.run("ip link set eth0 up");
    }
    web.run("ip address add 10.77.0.3/32 dev lo");
    let inside = Netns::open(Path::new(&format!("/run/netns/{}", web.name()))).expect("a namespace");
    let _server = inside.run(|| TcpListener::bind("0.0.0.0:8080")).expect("root").expect("a free port");
    let (target, from) = (web.target(), host.target());
    let ask = ["diagnose", &target, "--from", &from, "--duration", "300ms"];
    let found = diagnose(&ask);
    let probes = found.report["probes"].as_array().expect("a list");
    let urls: Vec<&str> = probes.iter().filter_map(|probe| probe["url"].as_str()).collect();
    assert_eq!(urls, ["tcp://10.77.0.2:8080"], "{}", found.said);
    // A port that may lead out of the machine: nothing is certain any more.
    host.run("ip tuntap add dev t0 mode tap");
    host.run("ip link set t0 master br0 up");
    let found = diagnose(&ask);
    assert_eq!(found.report["probes"].as_array().map(Vec::len), Some(0), "{}", found.said);
    let rows = found.report["coverage"].as_array().expect("a list");
    let skipped = rows.iter().any(|row| row["detail"].as_str().is_some_and(|why| why.contains("lead out")));
    assert!(skipped, "{}", found.said);
}
