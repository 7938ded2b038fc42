//! A web server and its client, to be broken.

use crate::namespace::{Background, Namespace};
use crate::program::{Diagnosis, diagnose};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Larger than one segment of any MTU in use.
const PAGE_BYTES: usize = 8192;

/// A client and nginx, each in its own namespace, joined by a veth pair whose ends are both called eth0.
#[derive(Debug)]
pub struct WebServer {
    /// Where the page is asked for.
    pub client: Namespace,
    /// Where nginx runs.
    pub server: Namespace,
    _nginx: Background,
    directory: PathBuf,
}

impl WebServer {
    /// Starts it; nginx listens when this returns.
    pub fn start() -> Self {
        let (client, server) = (Namespace::new("client"), Namespace::new("server"));
        client.join("10.77.0.1/24", &server, "10.77.0.2/24");
        let directory = std::env::temp_dir().join(server.name());
        std::fs::create_dir_all(&directory).expect("a directory for nginx");
        std::fs::write(directory.join("index.html"), "x".repeat(PAGE_BYTES)).expect("a page");
        let configuration = format!(
            "daemon off; master_process off; user root; pid {0}/pid; error_log {0}/error.log;\n\
             events {{}}\n\
             http {{ access_log off; server {{ listen 80; root {0}; }} }}\n",
            directory.display()
        );
        let file = directory.join("nginx.conf");
        std::fs::write(&file, configuration).expect("a configuration");
        let nginx = server.start(&format!("nginx -c {}", file.display()));
        let web = Self { client, server, _nginx: nginx, directory };
        web.wait_until_it_listens();
        web
    }

    fn wait_until_it_listens(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.server.run("ss -Htln").contains(":80 ") {
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Two rules that drop 30 % of what comes in and of what goes out.
    pub fn drop_at_random(&self) {
        for chain in ["INPUT", "OUTPUT"] {
            self.server
                .run(&format!("iptables -A {chain} -m statistic --mode random --probability 0.30 -j DROP"));
        }
    }

    /// An MTU that no page fits through.
    pub fn shrink_mtu(&self) {
        self.server.run("ip link set eth0 mtu 100");
    }

    /// The arguments of every run: what to look at, and from where to ask for the page.
    pub fn arguments(&self, command: &str) -> Vec<String> {
        let words = "--probe tcp://10.77.0.2:80 --probe http://10.77.0.2/ --from";
        let mut arguments = vec![command.to_owned(), self.server.target()];
        arguments.extend(words.split(' ').map(str::to_owned));
        arguments.push(self.client.target());
        arguments
    }

    /// Looks at the server with both probes.
    pub fn diagnose(&self) -> Diagnosis {
        let arguments = self.arguments("diagnose");
        diagnose(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}
