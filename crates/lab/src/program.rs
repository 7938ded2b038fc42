//! What a lab starts as a program of its own: nginx, which can be stopped as a debugger or a terminal stops it, and
//! scripts for what only a process can show (its descriptors, its cgroup, its socket options).

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use whydrop_host::Netns;

/// How long nginx may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(10);

/// A running nginx, ended and reaped when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    pid_file: PathBuf,
}

impl Nginx {
    /// Starts it in the namespace; it listens when this returns, and is then stopped if it is to be.
    pub fn start(netns: &Netns, port: u16, stopped: bool) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("whydrop-lab-{}-{number}.pid", std::process::id());
        let pid_file = std::env::temp_dir().join(name);
        let configuration = format!(
            "daemon off; master_process off; user root; error_log stderr; pid {};\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; server {{ listen {port}; location / {{ return 200 hello; }} }} }}\n",
            pid_file.display()
        );
        let mut command = Command::new("nginx");
        command
            .args(["-c", "/dev/stdin"])
            .stdin(in_memory(&configuration)?)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = netns.run(|| command.spawn()).map_err(io::Error::other)??;
        let mut out = Self { child, pid_file };
        out.wait_listening(port)?;
        if stopped {
            let pid = rustix::process::Pid::from_child(&out.child);
            rustix::process::kill_process(pid, rustix::process::Signal::STOP)?;
        }
        Ok(out)
    }

    /// Until its namespace has the port in state LISTEN (0A in /proc/PID/net/tcp).
    fn wait_listening(&mut self, port: u16) -> io::Result<()> {
        let table = format!("/proc/{}/net/tcp", self.child.id());
        let (own, deadline) = (format!(":{port:04X} "), Instant::now() + PATIENCE);
        loop {
            let text = std::fs::read_to_string(&table)?;
            if text.lines().any(|line| line.contains(&own) && line.contains(" 0A ")) {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(TICK);
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // In a destructor there is nobody to tell; SIGKILL ends a stopped process, too.
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_file(&self.pid_file).ok();
    }
}

/// A running Python script, ended with all its children when it is dropped.
#[derive(Debug)]
pub struct Script {
    child: Child,
}

impl Script {
    /// Starts it in the namespace; it has printed its first line when this returns: by then it listens, or sends.
    pub fn start(netns: &Netns, text: &str) -> io::Result<Self> {
        let mut command = Command::new("python3");
        // A group of its own, so that its children end with it.
        command
            .arg("-")
            .stdin(in_memory(text)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let child = netns.run(|| command.spawn()).map_err(io::Error::other)??;
        let mut out = Self { child };
        let said = out.child.stdout.take().map(BufReader::new);
        let (sender, first) = std::sync::mpsc::channel();
        // Reads on, so that the script never waits for a reader.
        std::thread::spawn(move || {
            for _ in said.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
                sender.send(()).ok();
            }
        });
        first.recv_timeout(PATIENCE).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        Ok(out)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        // As above.
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        self.child.wait().ok();
    }
}

/// Read through a descriptor, so that nothing is left on the disk.
fn in_memory(text: &str) -> io::Result<Stdio> {
    let memory: OwnedFd = rustix::fs::memfd_create("whydrop-lab", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memory);
    file.write_all(text.as_bytes())?;
    std::io::Seek::rewind(&mut file)?;
    Ok(Stdio::from(file))
}
