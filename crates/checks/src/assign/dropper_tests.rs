//! A dropper that exists only here, and every symptom: whoever takes what a symptom misses is its root, though no rule
//! knows of it. The symptoms are those that the recordings show, and a few that are made by hand.

use crate::culprit::{Count, Culprit, Scope, sure};
use crate::engine::ask;
use crate::evidence::case::{Case, Space};
use crate::evidence::flow::Flow;
use crate::evidence::index::Index;
use crate::evidence::verdicts::Verdicts;
use crate::loss::Kind;
use crate::registry::RULES;
use crate::rule::{Judgement, Rule};
use crate::testing::*;
use crate::{judge_by, loss};
use std::collections::BTreeSet;
use whydrop_model::bundle::{Bundle, Observation};
use whydrop_model::snapshot::Neighbour;
use whydrop_model::{Cause, DropEvent, Reading, text};

/// What only this test knows.
const CAUSE: Cause = Cause {
    id: "test.dropper",
    title: text!("a test drops packets", "测试丢弃数据包"),
    meaning: text!("-", "-"),
    seen_by: text!("-", "-"),
    why_lost: text!("-", "-"),
    what_to_do: text!("-", "-"),
    when_wrong: text!("-", "-"),
};

/// One for each namespace that was asked about.
fn dropper(space: Space<'_>) -> Judgement<'_> {
    let culprit = Culprit::new(space, &CAUSE, "link", Scope::Link, "dropper".into())
        .meter(7, Count::AtLeast, "test counter")
        .takes(move |loss| sure(loss.is_in(space) && loss.kind == Kind::Imagined));
    space.is_target().then_some(culprit).into()
}

fn causes(world: &World, rules: &[Rule]) -> BTreeSet<String> {
    let report = judge_by(&world.observation, rules);
    report.findings.into_iter().map(|finding| finding.cause).collect()
}

/// Symptoms, each with a world in which it shows at the server and nothing else does.
fn symptoms() -> Vec<(&'static str, World)> {
    let mut out: Vec<(&'static str, World)> = vec![];

    let mut world = World::pair();
    let dead = Neighbour { ip: "10.0.0.9".parse().unwrap(), ..neighbour("10.0.0.9", None, "failed") };
    world.after(SERVER, |s| s.neighbours = Reading::Present(vec![dead.clone()]));
    world.drops(SERVER, "NEIGH_FAILED", "neigh_invalidate", 3);
    out.push(("neigh.unresolved", world));

    let mut world = World::pair();
    world.rises(SERVER, "TcpExt.TCPReqQFullDrop", 9).drops(SERVER, "TCP_REQQFULLDROP", "tcp_conn_request", 9);
    let talk = world.talk(CLIENT, "10.0.0.2:80");
    (talk.attempts, talk.failed) = (9, 9);
    talk.errors.insert("ETIMEDOUT".into(), 9);
    out.push(("tcp.syn_queue_overflow", world));

    let mut world = World::pair();
    world.drops(SERVER, "FRAG_REASM_TIMEOUT", "ip_expire", 4);
    let fragment = DropEvent {
        reason: "FRAG_REASM_TIMEOUT".into(),
        function: "ip_expire".into(),
        protocol: Some(17),
        source: "10.0.0.1:0".parse().ok(),
        destination: "10.0.0.2:0".parse().ok(),
        netns_inode: Some(4002),
        link: Some(2),
        ..DropEvent::default()
    };
    if let Reading::Present(log) = &mut world.observation.drops {
        log.counts.last_mut().unwrap().protocol = Some(17);
        log.sampled.extend(std::iter::repeat_n(fragment, 4));
    }
    out.push(("ip.frag_reassembly", world));
    out
}

#[test]
fn every_symptom_follows_from_a_dropper_that_no_rule_knows() {
    let with: Vec<Rule> =
        RULES.iter().copied().chain([Rule { cause: &CAUSE, needs: &[], judge: dropper }]).collect();
    for (symptom, world) in symptoms() {
        assert_eq!(causes(&world, RULES), BTreeSet::from([symptom.to_owned()]), "{symptom} alone");
        assert_eq!(causes(&world, &with), BTreeSet::from([CAUSE.id.to_owned()]), "{symptom} with a dropper");
    }
}

/// A dropper in every namespace, whoever was asked about.
fn everywhere(space: Space<'_>) -> Judgement<'_> {
    let culprit = Culprit::new(space, &CAUSE, "link", Scope::Link, "dropper".into())
        .meter(7, Count::AtLeast, "test counter")
        .concerns(true)
        .takes(move |loss| sure(loss.is_in(space) && loss.kind == Kind::Imagined));
    Some(culprit).into()
}

/// Recordings below `scenarios/`, by their folder.
#[allow(clippy::disallowed_methods, reason = "recordings of the source tree, and nothing of the machine")]
fn recordings() -> Vec<(String, Observation)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let below =
        |folder: &std::path::Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = below(&root).filter(|path| path.is_dir()).flat_map(|cause| below(&cause).collect::<Vec<_>>());
    let files = files.map(|case| case.join("record.json")).filter(|file| file.exists());
    files
        .map(|file| {
            let bundle: Bundle = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            (file.display().to_string(), bundle.observation)
        })
        .collect()
}

#[test]
fn every_recorded_symptom_follows_from_a_dropper_that_no_rule_knows() {
    let with: Vec<Rule> =
        RULES.iter().copied().chain([Rule { cause: &CAUSE, needs: &[], judge: everywhere }]).collect();
    let (mut seen, mut wrong) = (BTreeSet::new(), vec![]);
    for (name, observation) in recordings() {
        let roots: BTreeSet<String> =
            judge_by(&observation, RULES).findings.into_iter().map(|finding| finding.cause).collect();
        let symptoms = symptoms_among(&observation, &roots);
        let found: BTreeSet<String> =
            judge_by(&observation, &with).findings.into_iter().map(|finding| finding.cause).collect();
        for symptom in symptoms {
            seen.insert(symptom);
            if found.contains(symptom) || !found.contains(CAUSE.id) {
                wrong.push(format!("{name}: {symptom} in {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen.len() >= 6, "{seen:?}");
}

/// Those of these causes that do nothing here but miss packets.
fn symptoms_among(observation: &Observation, roots: &BTreeSet<String>) -> BTreeSet<&'static str> {
    let index = Index::of(observation);
    let bare = Case::bare(observation, &index);
    let (flows, seen) = Flow::gather(bare);
    let losses = loss::gather(bare, &flows);
    let verdicts = Verdicts::of(Case { flows: &flows, losses: &losses, ..bare }, &losses, &flows);
    let case = Case { flows: &flows, losses: &losses, seen: Some(&seen), verdicts: Some(&verdicts), ..bare };
    let (culprits, _) = ask(case, RULES);
    let (missing, others): (Vec<_>, Vec<_>) =
        culprits.iter().partition(|culprit| !culprit.misses.is_empty() && !culprit.names_roots);
    let itself = |id: &&str| others.iter().any(|culprit| culprit.cause.id == *id);
    let missing = missing.iter().map(|culprit| culprit.cause.id);
    missing.filter(|id| roots.contains(*id) && !itself(id)).collect()
}
