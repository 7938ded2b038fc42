//! Ten thousand rules with counters.

use crate::measure::{Comparison, Cost};
use crate::snapshot::snapshots;
use anyhow::Result;
use std::process::Command;
use whydrop_tests::Namespace;

const RULES: usize = 10_000;

/// The rules of one namespace, read by nft, by iptables-save and as part of a whole snapshot.
pub fn run() -> Result<Vec<Comparison>> {
    let namespace = Namespace::new("rules");
    let rules: String = (0..RULES)
        .map(|number| format!("-A INPUT -s 10.{}.{}.0/24 -j ACCEPT\n", number / 256, number % 256))
        .collect();
    let file = std::env::temp_dir().join(namespace.name());
    std::fs::write(&file, format!("*filter\n{rules}COMMIT\n"))?;
    namespace.run(&format!("iptables-nft-restore {}", file.display()));
    std::fs::remove_file(&file)?;

    let inside = |line: &str| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace.name()]).args(line.split(' '));
        command
    };
    let comparison = Comparison::run(
        "10,000 rules with counters",
        5,
        vec![
            ("nft -j list ruleset", Box::new(|| Cost::of(&mut inside("nft -j list ruleset"), &[0]))),
            ("iptables-save -c", Box::new(|| Cost::of(&mut inside("iptables-nft-save -c"), &[0]))),
            (
                "whydrop, with the rest of the state",
                Box::new(|| Cost::of_call(|| snapshots(std::slice::from_ref(&namespace)))),
            ),
        ],
    )?;
    Ok(vec![comparison])
}
