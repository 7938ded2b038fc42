//! Two namespaces, a rule between them that drops, and a journal of their own: what `fix` and `undo` are tested with.

use crate::namespace::Namespace;
use crate::program::whydrop;
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use whydrop_host::Netns;

/// Where the rule of a scene drops.
const PORT: u16 = 7777;
/// Between two datagrams.
const PACE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(20);
static JOURNALS: AtomicU32 = AtomicU32::new(0);

/// A client, and a server whose INPUT chain drops the client's datagrams.
#[derive(Debug)]
pub struct Scene {
    /// Sends.
    pub client: Namespace,
    /// Drops.
    pub server: Namespace,
    journal: PathBuf,
    /// Removed with the scene that made it.
    own: Option<Folder>,
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Datagrams on their way, until this value is dropped.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

impl Scene {
    /// Builds it.
    pub fn new(purpose: &str) -> Self {
        let number = JOURNALS.fetch_add(1, Ordering::Relaxed);
        let journal = std::env::temp_dir().join(format!("wd-fix-{}-{number}", std::process::id()));
        std::fs::create_dir(&journal).expect("a folder");
        let mut scene = Self::with_journal(purpose, &journal);
        scene.own = Some(Folder(journal));
        scene
    }

    /// Builds another one that shares a journal.
    pub fn with_journal(purpose: &str, journal: &Path) -> Self {
        let client = Namespace::new(&format!("{purpose}-c"));
        let server = Namespace::new(&format!("{purpose}-s"));
        client.join("10.61.0.1/24", &server, "10.61.0.2/24");
        let scene = Self { client, server, journal: journal.to_owned(), own: None };
        scene.block();
        scene
    }

    /// Adds the rule.
    pub fn block(&self) {
        self.server.run(&format!("iptables-nft -A INPUT -p udp --dport {PORT} -j DROP"));
    }

    /// Datagrams to the port that is dropped.
    pub fn traffic(&self) -> Traffic {
        self.traffic_to(PORT)
    }

    /// Datagrams to a port where somebody reads.
    pub fn traffic_to(&self, port: u16) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = |namespace: &Namespace, port: u16| {
            let netns = Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open");
            netns.run(move || UdpSocket::bind(("0.0.0.0", port))).expect("entered").expect("bound")
        };
        let (out, reader) = (socket(&self.client, 0), socket(&self.server, port));
        reader.set_read_timeout(Some(PACE)).expect("set");
        let (one, other) = (Arc::clone(&stop), Arc::clone(&stop));
        let send = move || {
            while !one.load(Ordering::Relaxed) {
                // A queue that is full is no matter here.
                out.send_to(b"x", ("10.61.0.2", port)).ok();
                std::thread::sleep(PACE);
            }
        };
        let read = move || {
            let mut buffer = [0; 16];
            while !other.load(Ordering::Relaxed) {
                reader.recv(&mut buffer).ok();
            }
        };
        Traffic { stop, threads: vec![std::thread::spawn(send), std::thread::spawn(read)] }
    }

    /// The rules as their tool shows them.
    pub fn rules(&self) -> String {
        self.server.run("iptables-nft -S")
    }

    /// Packets that the first dropping rule has counted.
    pub fn dropped(&self) -> u64 {
        let listed = self.server.run("iptables-nft -nvxL INPUT");
        let line = listed.lines().find(|line| line.contains("DROP") && line.contains("dpt:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Waits until a run holds the server's namespace, and the rule has dropped more since.
    #[track_caller]
    pub fn wait_for_measurement(&self, child: &Child) {
        let file = Path::new("/run/netns").join(self.server.name());
        let inode = std::fs::metadata(file).expect("a namespace").ino();
        let fds = PathBuf::from(format!("/proc/{}/fd", child.id()));
        wait_until("the namespace in the run's hands", || {
            let open = std::fs::read_dir(&fds).into_iter().flatten().flatten();
            open.filter_map(|fd| std::fs::metadata(fd.path()).ok()).any(|file| file.ino() == inode)
        });
        let before = self.dropped();
        wait_until("the first measurement", || self.dropped() > before + 100);
    }

    /// Makes the INPUT chain hold these rules and no others, as a controller does.
    pub fn restore(&self, rules: &str) {
        self.server.run("iptables-nft -F INPUT");
        for rule in rules.lines().filter(|line| line.starts_with("-A ")) {
            self.server.run(&format!("iptables-nft {rule}"));
        }
    }

    /// Folder that stands for /var/lib/whydrop.
    pub fn journal(&self) -> &Path {
        &self.journal
    }

    /// Numbers of the transactions in the journal.
    pub fn records(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.journal.join("journal")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<String> =
            names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
        ids.sort();
        ids
    }

    /// Empties the journal.
    pub fn forget(&self) {
        std::fs::remove_dir_all(self.journal.join("journal")).expect("removed");
    }

    /// `whydrop fix --apply` of both namespaces, with this journal.
    pub fn fix(&self, window: &str, more: &[&str]) -> Command {
        self.fixing("", window, more)
    }

    /// As [`Scene::fix`], with a journal that cannot be written.
    pub fn fix_read_only(&self, window: &str) -> Command {
        self.fixing("mount -o remount,bind,ro /var/lib/whydrop;", window, &["--yes", "--only", "f1"])
    }

    /// `whydrop fix --apply` of the server, with a probe from the client.
    pub fn fix_probed(&self, url: &str, window: &str, more: &[&str]) -> Command {
        let mut command = self.program("");
        let (server, client) = (self.server.target(), self.client.target());
        command.args(["fix", &server, "--from", &client, "--probe", url, "--apply", "--duration", window]);
        command.args(more);
        command
    }

    fn fixing(&self, also: &str, window: &str, more: &[&str]) -> Command {
        let targets = [self.server.target(), self.client.target()];
        let mut command = self.program(also);
        command
            .args(["fix", &targets[0], &targets[1], "--passive", "--apply", "--duration", window])
            .args(more);
        command
    }

    /// `whydrop undo`.
    pub fn undo(&self, more: &[&str]) -> Command {
        let mut command = self.program("");
        command.arg("undo").args(more);
        command
    }

    /// `whydrop undo ID` of the first record, with a journal that cannot be written.
    pub fn undo_read_only(&self) -> Command {
        let mut command = self.program("mount -o remount,bind,ro /var/lib/whydrop;");
        command.arg("undo").args(self.records().first());
        command
    }

    /// The program with this scene's journal in place of the machine's, in a mount namespace of its own.
    fn program(&self, also: &str) -> Command {
        let script = format!(
            "mkdir -p /var/lib/whydrop && mount --bind \"$0\" /var/lib/whydrop || exit 9; {also} exec \"$@\""
        );
        let mut command = Command::new("unshare");
        command
            .args(["-m", "--propagation", "slave", "sh", "-c", &script])
            .arg(&self.journal)
            .arg(whydrop().get_program());
        command.env("WHYDROP_LANG", "en").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A command as a line for a shell.
    pub fn line(&self, command: &Command) -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")));
        quoted.collect::<Vec<_>>().join(" ")
    }
}

/// All that the program said, without its line breaks, which depend on the lengths of names.
pub fn said(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    streams.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Waits for a condition, with a deadline.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}
