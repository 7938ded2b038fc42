//! Recordings of which something is taken away: what was not seen is never CLEAR, and nothing panics.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use whydrop_host::replay;
use whydrop_model::Verdict;
use whydrop_tests::Scenario;

/// Every Linux has these: that they are absent hides as much as that they cannot be read.
const ALWAYS: [&str; 8] =
    ["links", "addresses", "routes", "policy_rules", "neighbours", "qdiscs", "mib", "sockets"];
/// What belongs to the machine.
const OF_MACHINE: [&str; 3] = ["drops", "flows", "softnet"];
/// A list of equal things: what is taken from one of them is taken from all.
const EACH: &str = "*";
/// Of each recording so many fields are stripped; the next recording goes on with the next ones, so that each field is
/// stripped in several.
const FIELDS: usize = 24;

fn recordings() -> Vec<(String, Value)> {
    let read = |scenario: &Scenario| {
        let text = std::fs::read(scenario.record()).expect("a recording");
        (scenario.record(), serde_json::from_slice(&text).expect("JSON"))
    };
    let whole: Vec<(String, Value)> = Scenario::all().iter().map(read).collect();
    let bare = |(name, recording): &(String, Value)| {
        let mut recording = recording.clone();
        recording["observation"]["probes"] = json!([]);
        (format!("{name} without probes"), recording)
    };
    let bare: Vec<(String, Value)> = whole.iter().map(bare).collect();
    whole.into_iter().chain(bare).collect()
}

fn judge(recording: &Value) -> Option<Verdict> {
    let text = serde_json::to_vec(recording).expect("encodes");
    replay::parse(&text).ok().map(|observation| whydrop_checks::judge(&observation).verdict)
}

/// Does the work for each recording of a fault with its number, on all processors, and returns what went wrong.
fn of_each_fault(work: impl Fn(usize, &str, &Value) -> Vec<String> + Sync) -> Vec<String> {
    let recordings = recordings();
    let next = AtomicUsize::new(0);
    let one = || {
        let mut wrong = vec![];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((name, recording)) = recordings.get(number) else { break };
            if judge(recording) == Some(Verdict::Loss) {
                wrong.extend(work(number, name, recording));
            }
        }
        wrong
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    })
}

fn snapshots(recording: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let namespaces = recording["observation"]["namespaces"].as_array_mut().into_iter().flatten();
    let ends = namespaces.filter_map(Value::as_object_mut).flat_map(|namespace| namespace.iter_mut());
    let ends = ends.filter(|(name, _)| matches!(name.as_str(), "before" | "after"));
    ends.filter_map(|(_, end)| end.get_mut("value")?.as_object_mut())
}

/// Sources of a recording, by the name of their field.
fn sources(recording: &mut Value) -> BTreeSet<String> {
    let is_reading = |value: &Value| value.get("status").is_some();
    let fields = snapshots(recording).flat_map(|snapshot| snapshot.iter());
    let named = fields.filter(|(_, value)| is_reading(value)).map(|(name, _)| name.clone());
    named.chain(OF_MACHINE.map(String::from)).collect()
}

fn deny(recording: &Value, names: &BTreeSet<String>, how: &str) -> Value {
    let mut out = recording.clone();
    let gone = json!({ "status": how, "value": "taken away" });
    let has = |name: &str| names.contains(name);
    for snapshot in snapshots(&mut out) {
        snapshot.iter_mut().filter(|(name, _)| has(name)).for_each(|(_, value)| *value = gone.clone());
    }
    for name in ["drops", "flows"].into_iter().filter(|name| has(name)) {
        out["observation"][name] = gone.clone();
    }
    for machine in out["observation"]["machine"].as_array_mut().into_iter().flatten() {
        if has("softnet") {
            machine["softnet"] = gone.clone();
        }
    }
    out
}

#[test]
fn a_fault_of_which_a_source_was_not_seen_is_not_clear() {
    let wrong = of_each_fault(|number, name, recording| {
        let all = sources(&mut recording.clone());
        let mut sets: Vec<BTreeSet<String>> = all.iter().map(|one| BTreeSet::from([one.clone()])).collect();
        sets.push(all.clone());
        let mut wrong = vec![];
        // Whether nobody was allowed to look or it went wrong is the same to whoever judges: each is tried in turn.
        let hidden = if number % 2 == 0 { "denied" } else { "failed" };
        for how in [hidden, "absent"] {
            for set in &sets {
                // Of the others a kernel may have none.
                let possible =
                    how != "absent" || set.iter().all(|n| ALWAYS.contains(&n.as_str())) || *set == all;
                let seen = judge(&deny(recording, set, how));
                if seen.is_none() || possible && seen == Some(Verdict::Clear) {
                    wrong.push(format!("{name}: {how} {set:?}: {seen:?}"));
                }
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every field of a value; the same field of all elements of a list or a table is one.
fn fields(value: &Value, at: &mut Vec<String>, out: &mut BTreeSet<Vec<String>>) {
    match value {
        Value::Array(list) => {
            at.push(EACH.to_owned());
            list.iter().for_each(|element| fields(element, at, out));
            at.pop();
        }
        Value::Object(object) => {
            for (name, element) in object {
                // A table by names from outside: `Ip.InReceives`, `eth0`.
                let name = if is_table(at) { EACH } else { name };
                at.push(name.to_owned());
                if name != EACH {
                    out.insert(at.clone());
                }
                fields(element, at, out);
                at.pop();
            }
        }
        _ => (),
    }
}

fn is_table(at: &[String]) -> bool {
    const TABLES: [&str; 9] =
        ["mib", "mib6", "sockstat", "sysctls", "ethtool", "stats", "send_errors", "icmp_errors", "errors"];
    let value = |name: &String| name == "value" || name == EACH;
    at.iter().rev().find(|name| !value(name)).is_some_and(|name| TABLES.contains(&name.as_str()))
}

fn strip(value: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    match value {
        Value::Array(list) => list.iter_mut().for_each(|element| strip(element, rest)),
        Value::Object(object) if first == EACH => {
            object.values_mut().for_each(|element| strip(element, rest))
        }
        Value::Object(object) if rest.is_empty() => drop(object.remove(first)),
        Value::Object(object) => object.get_mut(first).into_iter().for_each(|element| strip(element, rest)),
        _ => (),
    }
}

#[test]
fn a_recording_without_a_field_is_judged() {
    let wrong = of_each_fault(|number, name, recording| {
        let mut all = BTreeSet::new();
        fields(&recording["observation"], &mut vec![], &mut all);
        let mut wrong = vec![];
        let from = number * FIELDS % all.len().max(1);
        for path in all.iter().cycle().skip(from).take(FIELDS) {
            let mut stripped = recording.clone();
            strip(&mut stripped["observation"], path);
            let seen = judge(&stripped);
            // Without probes, others are seen to suffer, or nobody.
            let excused = path == &["probes"];
            if seen.is_none() || seen == Some(Verdict::Clear) && !excused {
                wrong.push(format!("{name}: without {}: {seen:?}", path.join(".")));
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
