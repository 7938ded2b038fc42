//! The source case with the real things: netem, iptables, nginx and an MTU of 100.
//!
//! A web server loses half of the SYNs sent to it. Someone left a netem qdisc on its interface, two rules that drop
//! at random, and an MTU far too small. All of it must be found, nothing else, and the fixes must end it.

use whydrop_tests::{WebServer, whydrop};

#[test]
#[ignore = "needs netem, which many container hosts lack: cargo xtask vm runs it in a guest"]
fn the_source_case_is_found_fixed_and_proved() {
    let web = WebServer::start();
    web.diagnose().assert_causes(&[]);

    web.server.run("tc qdisc add dev eth0 root netem loss 30%");
    web.drop_at_random();
    web.shrink_mtu();
    let found = web.diagnose();
    found.assert_causes(&["mtu.too_small", "netfilter.drop_rule", "netfilter.drop_rule", "qdisc.netem_loss"]);
    assert_eq!(found.report["ledger"]["unexplained"], 0, "\n{}", found.said);

    // The culprits themselves, by name: their removal lets more through than this traffic. By cause, because `fix` looks
    // again, and what costs most then stands first.
    let only: Vec<String> = found.report["findings"].as_array().expect("findings").iter().map(last).collect();
    let fix = whydrop()
        .args(web.arguments("fix"))
        .args(["--apply", "--yes", "--only", &only.join(",")])
        .output()
        .expect("whydrop starts");
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

/// The name of a finding's last fix: the one that takes the culprit away.
fn last(finding: &serde_json::Value) -> String {
    format!("{}.last", finding["cause"].as_str().expect("a cause"))
}
