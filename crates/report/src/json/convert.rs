//! From the model to the document.

use super::SCHEMA;
use super::document::{
    Change, Command, Document, Doer, Evidence, Finding, Fix, Host, Note, Probe, Target, Tenant, Tool,
};
use whydrop_model::finding::Step;
use whydrop_model::{Action, Lang, Phrase, ProbeResult, Report, Role};

/// The report as a document of the contract. `version` is that of the program.
pub fn document(report: &Report, lang: Lang, version: &str) -> Document {
    Document {
        schema: SCHEMA,
        tool: Tool { name: "whydrop", version: version.to_owned() },
        lang,
        host: Host { hostname: report.hostname.clone(), kernel: report.kernel.clone() },
        started_at: report.started_at.clone(),
        window_seconds: report.window_seconds,
        targets: report.targets.iter().map(target).collect(),
        verdict: report.verdict,
        findings: report.findings.iter().enumerate().map(|(i, f)| finding(report, f, i, lang)).collect(),
        notes: report.notes.iter().map(|n| note(n, lang)).collect(),
        flows: report.flows.clone(),
        flows_seen: report.flows_seen,
        probes: report.probes.iter().map(|p| probe(p, lang)).collect(),
        ledger: report.ledger.clone(),
        coverage: report.coverage.clone(),
        history: report.history.iter().map(|c| change(c, lang)).collect(),
    }
}

/// A namespace as the contract shows it.
pub(crate) fn target(t: &whydrop_model::Target) -> Target {
    let role = match t.role {
        Role::Target => "target",
        Role::Vantage => "vantage",
        Role::Surrounding => "surrounding",
    };
    Target {
        id: t.id.clone(),
        kind: t.kind,
        name: t.name.clone(),
        netns_inode: t.netns_inode,
        pid: t.pid,
        container: t.container.clone(),
        pod: t.pod().cloned(),
        containers: t.tenants.iter().map(tenant).collect(),
        role: role.to_owned(),
    }
}

fn tenant(t: &whydrop_model::Tenant) -> Tenant {
    Tenant { engine: t.engine, id: t.id.clone(), name: t.name.clone(), image: t.image.clone() }
}

fn finding(report: &Report, f: &whydrop_model::Finding, index: usize, lang: Lang) -> Finding {
    let say = |p: &Phrase| p.get(lang).to_owned();
    Finding {
        id: format!("f{}", index + 1),
        cause: f.cause.clone(),
        layer: f.cause.split('.').next().unwrap_or(&f.cause).to_owned(),
        stage: f.stage.clone(),
        direction: f.direction,
        target: f.target.clone(),
        subject: f.subject.clone(),
        severity: f.severity,
        confidence: f.confidence,
        packets_lost: f.packets_lost,
        counted_by: f.counted_by.clone(),
        summary: say(&f.summary),
        explanation: say(&f.explanation),
        exhibit: f.exhibit.clone(),
        evidence: f.evidence.iter().map(|e| evidence(report, &f.target, e, lang)).collect(),
        explains: f.explains.iter().map(say).collect(),
        fixes: f.fixes.iter().map(|fix| self::fix(fix, lang)).collect(),
    }
}

fn evidence(report: &Report, target: &str, e: &whydrop_model::Evidence, lang: Lang) -> Evidence {
    let words: Vec<&str> = e.reproduce.iter().map(String::as_str).collect();
    let target = report.target(e.target.as_deref().unwrap_or(target)).filter(|_| !words.is_empty());
    let line = target.map(|t| t.command_line(&words));
    Evidence {
        claim: e.claim.get(lang).to_owned(),
        source: e.source.clone(),
        not_shown: line.as_ref().and_then(|line| Some(line.as_ref().err()?.get(lang).to_owned())),
        reproduce: line.and_then(Result::ok),
        supports: e.supports,
    }
}

fn fix(fix: &whydrop_model::Fix, lang: Lang) -> Fix {
    let command = |step: &Step, action: &Action| -> Result<Command, Phrase> {
        Ok(Command { target: step.target.clone(), argv: action.command()? })
    };
    // What is known only in part is not known.
    let commands = fix.steps.iter().map(|step| command(step, &step.action)).collect::<Result<Vec<_>, _>>();
    let back: Option<Vec<_>> =
        fix.steps.iter().rev().map(|step| Some((step, step.action.inverse()?))).collect();
    let back = back.into_iter().flatten().map(|(step, action)| command(step, &action));
    let undo = back.collect::<Result<Vec<_>, _>>();
    let reason = commands.as_ref().err().or(undo.as_ref().err());
    let not_shown = reason.map(|reason| reason.get(lang).to_owned());
    Fix {
        title: fix.title.get(lang).to_owned(),
        applicability: fix.applicability,
        commands: commands.into_iter().flatten().collect(),
        undo: undo.into_iter().flatten().collect(),
        not_shown,
        persist: fix.persist.as_ref().map(|p| p.get(lang).to_owned()),
        caution: fix.caution.as_ref().map(|p| p.get(lang).to_owned()),
    }
}

fn note(n: &whydrop_model::Note, lang: Lang) -> Note {
    Note {
        cause: n.cause.clone(),
        target: n.target.clone(),
        subject: n.subject.clone(),
        status: n.status,
        text: n.text.get(lang).to_owned(),
    }
}

fn change(c: &whydrop_model::Change, lang: Lang) -> Change {
    Change {
        time: c.time(),
        announced: c.announced,
        not_before: c.not_before(),
        target: c.target.clone(),
        what: c.what.get(lang).to_owned(),
        by: c.by.as_ref().map(|by| Doer { pid: by.pid, comm: by.comm.clone() }),
    }
}

/// One PROBE object of the contract; `whydrop probe --json` prints it alone.
pub fn probe(p: &ProbeResult, lang: Lang) -> Probe {
    Probe {
        url: p.url.clone(),
        from: p.from.clone(),
        address: p.address.map(|a| a.to_string()),
        method: p.method.clone(),
        transmitted: p.transmitted,
        received: p.received,
        lost: p.lost,
        late: p.late,
        duplicates: p.duplicates,
        not_sent: p.not_sent,
        refused: p.refused,
        loss: p.loss,
        loss_ci95: p.loss_ci95,
        rtt_ms: p.rtt_ms,
        forward: p.forward,
        reverse: p.reverse,
        fate: p.fate.clone(),
        send_errors: p.send_errors.clone(),
        icmp_errors: p.icmp_errors.clone(),
        http: p.http.clone(),
        pmtu: p.pmtu.clone(),
        never_left: p.extra.never_left,
        dropped_on_return: p.extra.dropped_on_return,
        answered_elsewhere: p.extra.answered_elsewhere,
        elsewhere: p.extra.elsewhere.clone(),
        undecided: p.extra.undecided,
        jitter_ms: p.extra.jitter_ms,
        host_delay_ms: p.extra.host_delay_ms,
        bursts: p.extra.bursts,
        flows: p.extra.flows.clone(),
        sizes: p.extra.sizes.clone(),
        hops: p.extra.hops.clone(),
        notes: p.extra.notes.iter().map(|n| n.get(lang).to_owned()).collect(),
    }
}
