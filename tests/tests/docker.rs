//! The source case in a real Docker container, seen from the host: nothing is installed or run in the container.
//!
//! `cargo xtask docker` makes the image and calls this test. The container breaks its own network when it starts, with
//! what every kernel has: two rules that drop at random, and an MTU of 100.

use std::time::{Duration, Instant};
use whydrop_tests::{command, diagnose};

/// What the container does: serves a page, and breaks its own network.
const START: &str = "\
head -c 8192 /dev/zero | tr '\\0' x > /var/www/html/index.html
iptables -A INPUT -m statistic --mode random --probability 0.30 -j DROP
iptables -A OUTPUT -m statistic --mode random --probability 0.30 -j DROP
ip link set eth0 mtu 100
exec nginx -g 'daemon off;'";

/// A container, removed when this value is dropped.
struct Container {
    name: String,
}

impl Container {
    fn start(image: &str) -> Self {
        let name = format!("whydrop-test-{}", std::process::id());
        let output = std::process::Command::new("docker")
            .args([
                "run",
                "--detach",
                "--cap-add",
                "NET_ADMIN",
                "--name",
                &name,
                image,
                "/bin/sh",
                "-c",
                START,
            ])
            .output()
            .expect("docker starts");
        assert!(output.status.success(), "docker run: {}", String::from_utf8_lossy(&output.stderr));
        let container = Self { name };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !container.listens() {
            assert!(Instant::now() < deadline, "nginx does not listen: {}", container.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
        container
    }

    fn inspect(&self, field: &str) -> String {
        command(&format!("docker inspect --format {{{{{field}}}}} {}", self.name)).trim().to_owned()
    }

    fn listens(&self) -> bool {
        let pid = self.inspect(".State.Pid");
        // In /proc/net/tcp: port 80 in hexadecimal, state 0A is LISTEN.
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"));
        table.is_ok_and(|table| table.lines().any(|line| line.contains(":0050 ") && line.contains(" 0A ")))
    }

    fn processes(&self) -> String {
        command(&format!("docker top {} -o pid,args", self.name))
    }

    fn logs(&self) -> String {
        command(&format!("docker logs {}", self.name))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        std::process::Command::new("docker").args(["rm", "--force", &self.name]).output().ok();
    }
}

#[test]
#[ignore = "needs a Docker engine and an image: cargo xtask docker"]
fn what_a_container_loses_is_found_from_the_host() {
    let image = std::env::var("WHYDROP_TEST_IMAGE").expect("WHYDROP_TEST_IMAGE is set by cargo xtask docker");
    let container = Container::start(&image);
    let address = container.inspect(".NetworkSettings.IPAddress");
    let processes = container.processes();

    let found = diagnose(&[
        "diagnose",
        &container.name,
        "--probe",
        &format!("tcp://{address}:80"),
        "--probe",
        &format!("http://{address}/"),
    ]);

    found.assert_causes(&["mtu.too_small", "netfilter.drop_rule", "netfilter.drop_rule"]);
    assert_eq!(found.report["targets"][0]["kind"], "docker", "\n{}", found.said);
    assert_eq!(container.processes(), processes, "something runs in the container that did not before");
}
