//! Engines that misbehave: silent, nonsense, endless, or with 100,000 containers. They cost a second, are named in
//! `coverage`, and no diagnosis.

use bytes::Bytes;
use prost::Message;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use whydrop_tests::{Background, Diagnosis, Namespace, diagnose_as, whydrop};

/// Where each engine is looked for, and how coverage names it.
const ENGINES: [(&str, &str); 4] = [
    ("DOCKER_HOST", "docker engine"),
    ("CONTAINER_HOST", "podman engine"),
    ("CONTAINERD_ADDRESS", "containerd engine"),
    ("CONTAINER_RUNTIME_ENDPOINT", "CRI at"),
];
const MANY: usize = 100_000;

/// A socket, gone at the end.
struct Socket(PathBuf);

impl Socket {
    fn new(name: &str) -> (Self, UnixListener) {
        let path = std::env::temp_dir().join(format!("whydrop-fake-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("a socket");
        (Self(path), listener)
    }

    /// One that does `answer` with each client.
    fn answering(name: &str, answer: fn(UnixStream)) -> Self {
        let (socket, listener) = Self::new(name);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(stream));
            }
        });
        socket
    }

    /// One that speaks gRPC and answers a method with a message, again and again if `endless`.
    fn speaking(name: &str, endless: bool, answer: fn(&str) -> Vec<u8>) -> Self {
        let (socket, listener) = Self::new(name);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || speak(stream, endless, answer));
            }
        });
        socket
    }

    fn value(&self, variable: &str) -> String {
        let path = self.0.display();
        if variable == "CONTAINERD_ADDRESS" { path.to_string() } else { format!("unix://{path}") }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn speak(stream: UnixStream, endless: bool, answer: fn(&str) -> Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        stream.set_nonblocking(true).expect("a socket");
        let stream = tokio::net::UnixStream::from_std(stream).expect("a socket");
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let message = answer(request.uri().path());
            tokio::spawn(async move {
                let head = http::Response::builder().header("content-type", "application/grpc");
                let Ok(mut body) = respond.send_response(head.body(()).expect("a head"), false) else {
                    return;
                };
                let length = u32::try_from(message.len()).expect("a length").to_be_bytes();
                let mut whole = Bytes::from([&[0][..], &length, &message].concat());
                loop {
                    while !whole.is_empty() {
                        body.reserve_capacity(whole.len());
                        let Some(Ok(room)) =
                            std::future::poll_fn(|context| body.poll_capacity(context)).await
                        else {
                            return;
                        };
                        if body.send_data(whole.split_to(room.min(whole.len())), false).is_err() {
                            return;
                        }
                    }
                    if !endless {
                        break;
                    }
                    whole = Bytes::from(vec![0; 1 << 16]);
                }
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                body.send_trailers(trailers).ok();
            });
        }
    });
}

fn silent(stream: UnixStream) {
    std::thread::sleep(Duration::from_secs(30));
    drop(stream);
}

fn garbage(mut stream: UnixStream) {
    stream.write_all(&[0xA5; 4096]).ok();
}

fn endless(mut stream: UnixStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
    while stream.write_all(&[b' '; 1 << 20]).is_ok() {}
}

/// Diagnoses a healthy namespace beside this engine and returns the rows that name it.
fn beside(name: &str, engine: (&str, &str), socket: &Socket) -> (Diagnosis, Vec<Value>, Duration) {
    let namespace = Namespace::new(name);
    let mut program = whydrop();
    program.env(engine.0, socket.value(engine.0));
    let began = Instant::now();
    let words = ["diagnose", &namespace.target(), "--passive", "--no-trace", "--duration", "100ms"];
    let found = diagnose_as(program, &words);
    let took = began.elapsed();
    let rows = found.report["coverage"].as_array().expect("a list").iter();
    let rows = rows.filter(|row| row["source"].as_str().is_some_and(|s| s.starts_with(engine.1))).cloned();
    let rows = rows.collect();
    (found, rows, took)
}

#[test]
fn one_that_is_silent_talks_nonsense_or_never_ends_costs_a_second_and_is_named() {
    for (name, answer) in [("silent", silent as fn(_)), ("garbage", garbage), ("endless", endless)] {
        let socket = Socket::answering(name, answer);
        for engine in ENGINES {
            let (found, rows, took) = beside("fake", engine, &socket);
            assert!(took < Duration::from_secs(8), "{name} {engine:?}: {took:?}");
            assert!(rows.iter().any(|row| row["status"] == "failed"), "{name} {engine:?}: {}", found.said);
            // A name is all that it hides.
            assert!(found.report["findings"].as_array().is_some_and(Vec::is_empty), "{}", found.said);
        }
    }
}

#[test]
fn all_of_them_together_cost_the_same_second() {
    let socket = Socket::answering("together", silent);
    let namespace = Namespace::new("together");
    let run = |engines: &[(&str, &str)]| {
        let mut program = whydrop();
        for (variable, _) in engines {
            program.env(variable, socket.value(variable));
        }
        let began = Instant::now();
        let words = ["diagnose", &namespace.target(), "--passive", "--no-trace", "--duration", "100ms"];
        let found = diagnose_as(program, &words);
        (found, began.elapsed())
    };
    let (_, alone) = run(&[]);
    let (found, together) = run(&ENGINES);
    let failed = |row: &&Value| row["status"] == "failed";
    assert_eq!(found.report["coverage"].as_array().expect("a list").iter().filter(failed).count(), 4);
    assert!(together < alone + Duration::from_secs(3), "{alone:?}, then {together:?}");
}

#[test]
fn a_runtime_that_sends_without_end_is_cut_off() {
    let socket = Socket::speaking("flood", true, |_| vec![]);
    for engine in [ENGINES[2], ENGINES[3]] {
        let (found, rows, took) = beside("flood", engine, &socket);
        assert!(took < Duration::from_secs(8), "{took:?}");
        assert!(rows.iter().any(|row| row["status"] == "failed"), "{engine:?}: {}", found.said);
    }
}

/// Process of the one container that is there, for the lists below.
static PID: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// A process in a namespace; the engines below say that it is their container's.
fn inhabited(namespace: &Namespace) -> Background {
    let process = namespace.start("sleep 1000");
    let inode = |path: String| std::fs::metadata(path).map(|seen| seen.ino()).ok();
    let deadline = Instant::now() + Duration::from_secs(30);
    let inside = inode(format!("/run/netns/{}", namespace.name()));
    while inode(format!("/proc/{}/ns/net", process.id())) != inside {
        assert!(Instant::now() < deadline, "the process does not enter");
        std::thread::sleep(Duration::from_millis(5));
    }
    PID.store(process.id(), std::sync::atomic::Ordering::Relaxed);
    process
}

fn id(number: usize) -> String {
    format!("{number:064x}")
}

/// The lists are ready before anybody asks: the time to make them is not the engine's.
static DOCKERS: LazyLock<String> = LazyLock::new(|| {
    let one = |n| format!(r#"{{"Id":"{}","Names":["/many-{n}"],"State":"running"}}"#, id(n));
    format!("[{}]", (0..MANY).map(one).collect::<Vec<_>>().join(","))
});
static CONTAINERDS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    List { items: (0..MANY).map(|n| listed(id(n), format!("many-{n}"))).collect() }.encode_to_vec()
});

fn listed(id: String, name: String) -> Listed {
    Listed { id, labels: [("nerdctl/name".to_owned(), name)].into() }
}

fn many_of_docker(mut stream: UnixStream) {
    let mut request = [0; 512];
    let n = stream.read(&mut request).unwrap_or(0);
    let list = request.get(..n).is_some_and(|r| r.starts_with(b"GET /containers/json"));
    let body = if list {
        DOCKERS.clone()
    } else {
        format!(r#"{{"State":{{"Pid":{}}}}}"#, PID.load(std::sync::atomic::Ordering::Relaxed))
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok();
}

#[derive(Clone, PartialEq, Message)]
struct Listed {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Listed>,
}

#[derive(Clone, PartialEq, Message)]
struct Task {
    #[prost(string, tag = "2")]
    id: String,
    #[prost(uint32, tag = "3")]
    pid: u32,
    #[prost(int32, tag = "4")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Tasks {
    #[prost(message, repeated, tag = "1")]
    tasks: Vec<Task>,
}

fn many_of_containerd(path: &str) -> Vec<u8> {
    match path {
        "/containerd.services.namespaces.v1.Namespaces/List" => {
            List { items: vec![listed("default".into(), String::new())] }.encode_to_vec()
        }
        "/containerd.services.containers.v1.Containers/List" => CONTAINERDS.clone(),
        _ => {
            let pid = PID.load(std::sync::atomic::Ordering::Relaxed);
            Tasks { tasks: vec![Task { id: id(77_777), pid, status: 2 }] }.encode_to_vec()
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct CriListed {
    #[prost(string, tag = "1")]
    id: String,
    /// Of a container.
    #[prost(string, tag = "2")]
    sandbox: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<Metadata>,
    #[prost(int32, tag = "6")]
    state: i32,
}

#[derive(Clone, PartialEq, Message)]
struct CriContainers {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<CriListed>,
}

#[derive(Clone, PartialEq, Message)]
struct CriSandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
    #[prost(int32, tag = "3")]
    state: i32,
}

#[derive(Clone, PartialEq, Message)]
struct CriSandboxes {
    #[prost(message, repeated, tag = "1")]
    items: Vec<CriSandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct CriVersion {
    #[prost(string, tag = "2")]
    runtime_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct CriStatus {
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

/// CRI-O as its interface is published: one pod of two containers, whose processes only the verbose status tells.
fn crio(path: &str) -> Vec<u8> {
    let method = path.rsplit('/').next().expect("a method");
    let named = |name: &str| Metadata { name: name.into(), uid: "6a2c".into(), namespace: "shop".into() };
    match method {
        "Version" => CriVersion { runtime_name: "cri-o".into() }.encode_to_vec(),
        "ListPodSandbox" => {
            let sandbox = CriSandbox { id: id(1), metadata: Some(named("web")), state: 0 };
            let gone = CriSandbox { id: id(4), metadata: Some(named("gone")), state: 1 };
            CriSandboxes { items: vec![sandbox, gone] }.encode_to_vec()
        }
        "ListContainers" => {
            let container =
                |n, name| CriListed { id: id(n), sandbox: id(1), metadata: Some(named(name)), state: 1 };
            CriContainers { containers: vec![container(2, "nginx"), container(3, "sidecar")] }.encode_to_vec()
        }
        _ => {
            let pid = PID.load(std::sync::atomic::Ordering::Relaxed);
            let info = ("info".to_owned(), format!(r#"{{"pid":{pid},"sandboxID":"x"}}"#));
            CriStatus { info: [info].into() }.encode_to_vec()
        }
    }
}

#[test]
fn a_pod_of_crio_is_found_by_what_its_interface_says() {
    let namespace = Namespace::new("crio");
    let _process = inhabited(&namespace);
    let socket = Socket::speaking("crio", false, crio);
    let ask = |words: &[&str]| {
        let mut program = whydrop();
        program.env(ENGINES[3].0, socket.value(ENGINES[3].0));
        program.args(words).output().expect("whydrop starts")
    };
    for word in ["pod:shop/web", "shop/web", "crio:nginx", &format!("cri:{}", id(3))] {
        let output = ask(&["diagnose", word, "--passive", "--no-trace", "--duration", "100ms", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{word}: {e}: {said}"));
        let target = &report["targets"][0];
        assert_eq!(
            (&target["pod"]["namespace"], &target["pod"]["name"]),
            (&"shop".into(), &"web".into()),
            "{word}"
        );
        let engines = target["containers"].as_array().expect("a list").iter();
        assert!(engines.clone().count() > 0 && engines.clone().all(|c| c["engine"] == "crio"), "{target:#}");
    }
    let gone = ask(&["diagnose", "pod:shop/gone"]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("it is stopped"), "{gone:?}");
}

#[test]
fn one_of_100_000_containers_is_found() {
    let namespace = Namespace::new("many");
    let _process = inhabited(&namespace);
    assert!(DOCKERS.len() > MANY && CONTAINERDS.len() > MANY);
    let docker = Socket::answering("many-docker", many_of_docker);
    let containerd = Socket::speaking("many-containerd", false, many_of_containerd);
    for (engine, word, socket) in
        [(ENGINES[0], "docker:many-77777", &docker), (ENGINES[2], "containerd:many-77777", &containerd)]
    {
        let mut program = whydrop();
        program.env(engine.0, socket.value(engine.0));
        let began = Instant::now();
        let found =
            diagnose_as(program, &["diagnose", word, "--passive", "--no-trace", "--duration", "100ms"]);
        assert_eq!(found.report["targets"][0]["id"], word, "{}", found.said);
        assert!(began.elapsed() < Duration::from_secs(60), "{word}: {:?}", began.elapsed());
    }
}
