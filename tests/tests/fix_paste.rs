//! What is printed is pasted: names, comments and texts from outside stay words, in every shell, and do not become
//! commands of nft; and what an exception inserts, its undo takes away exactly.

use std::process::{Command, Stdio};
use whydrop_model::shell::{join, quote};
use whydrop_tests::{Scenario, WebServer, whydrop};

/// Opens a policy if nft reads it as a part of its own language.
const EVIL_TABLE: &str = "filter INPUT ; chain ip filter INPUT { policy accept ; } ; #";
/// Would be run if iptables read it as a part of its rule.
const EVIL_RULE: &str = "-p tcp --modprobe=/tmp/evil -j DROP";

/// The scenario's recording with a piece of it replaced, shown in a format.
fn replayed(scenario: &str, replace: &dyn Fn(&str) -> String, format: &str) -> String {
    let record = std::fs::read_to_string(Scenario::named(scenario).record()).expect("a recording");
    let changed = replace(&record);
    assert_ne!(changed, record, "{scenario}: nothing was replaced");
    let name = format!("wd-paste-{}-{}-{format}.json", scenario.replace('/', "-"), std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, changed).expect("a file");
    let output = whydrop()
        .args(["diagnose", "--format", format, "--replay"])
        .arg(&file)
        .output()
        .expect("whydrop starts");
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_table_whose_name_is_a_command_is_in_no_command() {
    let rename = |record: &str| record.replace("\"firewall\"", &format!("\"{EVIL_TABLE}\""));
    for scenario in ["netfilter.drop_rule/basic", "netfilter.drop_policy/basic"] {
        for format in ["text", "markdown"] {
            let shown = replayed(scenario, &rename, format);
            assert!(shown.contains("no command is shown"), "{scenario} {format}\n{shown}");
            let pasted = shown.lines().filter(|line| line.contains("nft ") && line.contains("nsenter"));
            assert_eq!(pasted.collect::<Vec<_>>(), Vec::<&str>::new(), "{scenario} {format}\n{shown}");
        }
        let json: serde_json::Value =
            serde_json::from_str(&replayed(scenario, &rename, "json")).expect("JSON");
        let finding = &json["findings"][0];
        for fix in finding["fixes"].as_array().expect("fixes") {
            assert_eq!(
                (&fix["commands"], &fix["undo"]),
                (&serde_json::json!([]), &serde_json::json!([])),
                "{fix}"
            );
            assert!(fix["not_shown"].is_string(), "{fix}");
        }
        for evidence in finding["evidence"].as_array().expect("evidence") {
            assert!(!evidence["reproduce"].to_string().contains("policy accept"), "{evidence}");
        }
    }
}

#[test]
fn a_rule_that_iptables_would_run_is_in_no_command() {
    let rule = "-p tcp -m statistic --mode random";
    let replace = |record: &str| {
        let at = record.find(rule).expect("the rule");
        let end = at + record[at..].find('"').expect("its end");
        record.replace(&record[at..end], EVIL_RULE)
    };
    let shown = replayed("netfilter.drop_rule/iptables-nft", &replace, "text");
    let pasted = shown.lines().find(|line| line.contains("--modprobe") && line.contains("nsenter"));
    assert_eq!(pasted, None, "{shown}");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("would read --modprobe=/tmp/evil as an option"), "{shown}");
}

/// Every word comes back as one word, and nothing of it runs, in whichever shell the person has.
#[test]
fn quoted_words_are_one_word_in_every_shell() {
    let hostile = [
        "a'b",
        "a\u{7}'; echo run #",
        "\\'; echo run #",
        "\u{1b}\\'$(echo run)`echo run`",
        "\u{ad}\u{61c}'",
        "!x\n'",
    ];
    for shell in ["sh", "bash", "dash"] {
        if Command::new(shell).arg("-c").arg(":").stderr(Stdio::null()).status().is_err() {
            continue;
        }
        for word in hostile {
            let line = join(&["printf", "%s\\0", word, "end"]);
            let output = Command::new(shell).args(["-c", &line]).output().expect("a shell");
            let words: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
            assert_eq!(words.len(), 3, "{shell}: {line} gave {output:?}");
            assert_eq!(words[1], b"end", "{shell}: {line}");
            assert!(!output.stdout.starts_with(b"run"), "{shell}: {line}");
        }
    }
    assert!(quote("\u{7}'").is_ascii());
}

/// A chain of nft whose policy drops: the port is opened for the client alone, and the undo gives back the same rules.
#[test]
fn an_exception_of_nft_opens_one_port_for_one_client_and_is_taken_back() {
    let web = WebServer::start();
    let server = &web.server;
    for line in [
        "add table inet fw",
        "add chain inet fw in { type filter hook input priority 0 ; policy drop ; }",
        "add rule inet fw in ip protocol icmp accept",
    ] {
        server.run(&format!("nft {line}"));
    }
    let before = server.run("nft -a list ruleset");
    let fix =
        whydrop().args(web.arguments("fix")).args(["--apply", "--yes"]).output().expect("whydrop starts");
    let said = format!("{}{}", String::from_utf8_lossy(&fix.stdout), String::from_utf8_lossy(&fix.stderr));
    assert_eq!(fix.status.code(), Some(0), "{said}");
    let open = server.run("nft -a list ruleset");
    assert!(open.contains("ip saddr 10.77.0.1 ip daddr 10.77.0.2 tcp dport 80"), "{open}");
    assert!(open.contains("policy drop"), "{open}");
    let undo =
        said.split("whydrop undo ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an id");
    assert!(whydrop().args(["undo", undo]).status().expect("whydrop starts").success());
    assert_eq!(server.run("nft -a list ruleset"), before);
}
