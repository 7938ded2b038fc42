//! The source case with the real things: netem, iptables, nginx and an MTU of 100.
//!
//! A web server loses half of the SYNs sent to it. Someone left a netem qdisc on its interface, two rules that drop
//! at random, and an MTU far too small. All of it must be found, nothing else, and the fixes must end it.

use std::time::{Duration, Instant};
use whydrop_tests::{Background, Namespace, diagnose, whydrop};

/// Larger than one segment of any MTU in use.
const PAGE_BYTES: usize = 8192;

/// A client and a web server, each in its own namespace, joined by a veth pair.
struct WebServer {
    client: Namespace,
    server: Namespace,
    _nginx: Background,
    directory: std::path::PathBuf,
}

impl WebServer {
    fn start() -> Self {
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

    fn break_it(&self) {
        self.server.run("tc qdisc add dev eth0 root netem loss 30%");
        for chain in ["INPUT", "OUTPUT"] {
            self.server
                .run(&format!("iptables -A {chain} -m statistic --mode random --probability 0.30 -j DROP"));
        }
        self.server.run("ip link set eth0 mtu 100");
    }

    /// The arguments of every run: what to look at, and from where to ask for the page.
    fn arguments(&self, command: &str) -> Vec<String> {
        let words = "--probe tcp://10.77.0.2:80 --probe http://10.77.0.2/ --from";
        let mut arguments = vec![command.to_owned(), self.server.target()];
        arguments.extend(words.split(' ').map(str::to_owned));
        arguments.push(self.client.target());
        arguments
    }

    fn diagnose(&self) -> whydrop_tests::Diagnosis {
        let arguments = self.arguments("diagnose");
        diagnose(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

#[test]
#[ignore = "needs netem, which many container hosts lack: cargo xtask vm runs it in a guest"]
fn the_source_case_is_found_fixed_and_proved() {
    let web = WebServer::start();
    web.diagnose().assert_causes(&[]);

    web.break_it();
    let found = web.diagnose();
    found.assert_causes(&["mtu.too_small", "netfilter.drop_rule", "netfilter.drop_rule", "qdisc.netem_loss"]);
    assert_eq!(found.report["ledger"]["unexplained"], 0, "\n{}", found.said);

    let fix =
        whydrop().args(web.arguments("fix")).args(["--apply", "--yes"]).output().expect("whydrop starts");
    assert!(
        fix.status.success(),
        "fix ended with {}\n{}\n{}",
        fix.status,
        String::from_utf8_lossy(&fix.stdout),
        String::from_utf8_lossy(&fix.stderr)
    );
    assert!(!web.server.run("tc qdisc show dev eth0").contains("netem"), "the qdisc stayed");
    assert!(!web.server.run("iptables-save").contains("DROP"), "a rule stayed");
    web.diagnose().assert_causes(&[]);
}
