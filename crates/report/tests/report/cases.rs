//! Reports made by hand: the source case, a healthy machine, a blind one, a hostile one, one with many causes.

use whydrop_model::action::{ChainRef, QdiscSpec, TC_ROOT};
use whydrop_model::finding::Step;
use whydrop_model::netfilter::{Family, Match, Rule, RuleVerdict, Tool};
use whydrop_model::probe::{Fate, Rtt, Share};
use whydrop_model::report::{FlowsSeen, WayStep};
use whydrop_model::snapshot::QdiscOptions;
use whydrop_model::*;

/// Renders a report as text.
pub fn text(report: &Report, options: &whydrop_report::text::Options) -> String {
    let mut out = Vec::new();
    whydrop_report::text::write(report, options, &mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("text is UTF-8")
}

pub fn phrase(en: &str, zh: &str) -> Phrase {
    Phrase { en: en.into(), zh: zh.into() }
}

pub fn target(id: &str, name: &str, role: Role, entry: Entry) -> Target {
    Target {
        id: id.into(),
        kind: TargetKind::Docker,
        name: name.into(),
        netns_inode: 4_026_532_345,
        pid: Some(4123),
        container: None,
        role,
        entry,
        tenants: vec![],
    }
}

pub fn coverage(target: &str, source: &str, status: CoverageStatus, detail: &str) -> Coverage {
    Coverage { target: target.into(), source: source.into(), status, detail: detail.into(), limits: vec![] }
}

fn evidence(en: &str, zh: &str, source: &str, reproduce: &[&str]) -> Evidence {
    Evidence {
        claim: phrase(en, zh),
        source: source.into(),
        reproduce: reproduce.iter().map(|s| (*s).to_owned()).collect(),
        target: None,
        supports: true,
    }
}

pub fn rule(chain: &str, position: u32, text: &str) -> RuleRef {
    let rule = Rule {
        position,
        handle: None,
        packets: Some(14),
        bytes: None,
        verdict: RuleVerdict::Drop,
        matches: vec![Match::Random(0.3)],
        comment: None,
        text: text.into(),
    };
    let chain =
        ChainRef { tool: Tool::IptablesNft, family: Family::Ip, table: "filter".into(), name: chain.into() };
    RuleRef { chain, rule, unique: false, gone_before: 0 }
}

pub const RULE: &str = "-p tcp -m statistic --mode random --probability 0.3 -j DROP";

pub fn drop_rule(chain: &str, position: u32, packets: u64) -> Finding {
    let (way, way_zh) = if chain == "INPUT" { ("incoming", "入站") } else { ("outgoing", "出站") };
    let step =
        Step { target: "docker:nginx".into(), action: Action::RuleDelete(rule(chain, position, RULE)) };
    Finding {
        cause: "netfilter.drop_rule".into(),
        target: "docker:nginx".into(),
        stage: format!("netfilter.{}", chain.to_lowercase()),
        direction: Some(if chain == "INPUT" { Direction::Receive } else { Direction::Transmit }),
        subject: format!("filter {chain}, rule {position}"),
        severity: Severity::Critical,
        confidence: 0.97,
        packets_lost: Some(packets),
        counted_by: Some("rule counter".into()),
        summary: phrase(
            &format!("A rule drops 30 % of the {way} TCP packets at random."),
            &format!("一条规则随机丢弃 30% 的{way_zh} TCP 包。"),
        ),
        explanation: phrase("A rule drops packets.", "一条规则丢弃数据包。"),
        exhibit: Some(RULE.into()),
        handle: None,
        evidence: vec![
            evidence(
                &format!("its counter rose by {packets}"),
                &format!("规则计数 +{packets}"),
                "iptables",
                &["iptables-nft", "-nvL", chain],
            ),
            evidence(
                &format!("{packets} of our probes were traced to it"),
                &format!("我们的 {packets} 个探测包被追踪到此处"),
                "drop_events",
                &[],
            ),
        ],
        explains: if chain == "INPUT" {
            vec![]
        } else {
            vec![
                phrase("8 SYN-ACK retransmissions", "SYN-ACK 重传 8 次"),
                phrase("3 late answers", "迟到的应答 3 个"),
            ]
        },
        fixes: vec![Fix {
            title: phrase("delete the rule", "删除该规则"),
            applicability: Applicability::Safe,
            steps: vec![step],
            persist: (chain == "INPUT").then(|| {
                phrase(
                    "until a restart of nginx: /start.sh in the image adds the rule",
                    "重启 nginx 后会复现：镜像里的 /start.sh 会再次添加该规则",
                )
            }),
            caution: None,
        }],
    }
}

fn netem() -> Finding {
    let options = QdiscOptions::Netem {
        loss: 0.3,
        model: None,
        limit: 1000,
        delay_us: 0,
        jitter_us: 0,
        corrupt: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        rate: 0,
    };
    let spec =
        QdiscSpec { dev: "eth0".into(), kind: "netem".into(), parent: TC_ROOT, handle: 0x800d_0000, options };
    Finding {
        cause: "qdisc.netem_loss".into(),
        stage: "qdisc.transmit".into(),
        subject: "eth0 qdisc netem".into(),
        packets_lost: Some(8),
        counted_by: Some("qdisc drops".into()),
        summary: phrase(
            "The queue of eth0 throws away 30 % of what it sends (netem, a test tool).",
            "eth0 的队列规则（netem，测试工具）丢弃 30% 的待发包。",
        ),
        exhibit: Some("qdisc netem 800d: root limit 1000 loss 30%".into()),
        evidence: vec![
            evidence(
                "qdisc 800d: dropped +8",
                "qdisc 800d: dropped +8",
                "qdiscs",
                &["tc", "-s", "qdisc", "show", "dev", "eth0"],
            ),
            evidence("8 SYN-ACKs were traced to it", "8 个 SYN-ACK 被追踪到此处", "drop_events", &[]),
        ],
        explains: vec![],
        fixes: vec![Fix {
            title: phrase("remove the qdisc", "删除该队列规则"),
            applicability: Applicability::Safe,
            steps: vec![Step { target: "docker:nginx".into(), action: Action::QdiscDelete(spec) }],
            persist: None,
            caution: None,
        }],
        ..drop_rule("OUTPUT", 1, 8)
    }
}

pub fn probe(received: u64, late: u64, lost: u64) -> ProbeResult {
    let transmitted = received + late + lost;
    let bad = late + lost > 0;
    ProbeResult {
        url: "tcp://172.17.0.2:80".into(),
        from: "host".into(),
        address: "172.17.0.2".parse().ok(),
        method: "syn".into(),
        transmitted,
        received,
        lost,
        late,
        loss: (transmitted > 0).then(|| (late + lost) as f64 / transmitted as f64),
        loss_ci95: (transmitted > 0).then_some(if bad { [0.42, 0.69] } else { [0.0, 0.07] }),
        rtt_ms: (received > 0).then_some(Rtt {
            min: 0.2,
            avg: 0.4,
            p50: 0.4,
            p95: 0.8,
            p99: 1.2,
            max: 1.3,
            mdev: 0.1,
        }),
        forward: bad.then_some(Share { loss: 0.28, ci95: [0.17, 0.42] }),
        reverse: bad.then_some(Share { loss: 0.31, ci95: [0.2, 0.45] }),
        fate: if bad {
            vec![Fate {
                cause: "netfilter.drop_rule".into(),
                target: "docker:nginx".into(),
                stage: Some("netfilter.input".into()),
                subjects: vec!["filter INPUT, rule 1".into()],
                probes: 14,
            }]
        } else {
            vec![]
        },
        ..ProbeResult::default()
    }
}

pub fn note(subject: &str, status: NoteStatus, cause: Option<&str>, text: Phrase) -> Note {
    Note {
        cause: cause.map(String::from),
        target: "docker:nginx".into(),
        subject: subject.into(),
        status,
        text,
    }
}

/// Ledger in which every finding is charged what it lost.
pub fn charge(report: &mut Report, unexplained: u64) {
    let entry = |(i, f): (usize, &Finding)| LedgerEntry {
        cause: f.cause.clone(),
        target: f.target.clone(),
        stage: f.stage.clone(),
        packets: f.packets_lost.unwrap_or(0),
        source: f.counted_by.clone().unwrap_or_default(),
        one_of: vec![],
        finding: Some(i),
    };
    let entries: Vec<LedgerEntry> =
        report.findings.iter().enumerate().filter(|(_, f)| f.packets_lost.is_some()).map(entry).collect();
    let explained = entries.iter().map(|e| e.packets).sum();
    let unexplained_at = vec![Unexplained {
        target: "docker:nginx".into(),
        stage: "tcp.receive".into(),
        reason: "TCP_ZEROWINDOW".into(),
        function: "tcp_data_queue".into(),
        interface: None,
        packets: unexplained,
        source: "drop events".into(),
        suspected: Some("app.slow_reader".into()),
    }];
    let unexplained_at = if unexplained > 0 { unexplained_at } else { vec![] };
    report.ledger = Ledger {
        lost: explained + unexplained,
        explained,
        unexplained,
        entries,
        unexplained_at,
        uncounted: 0,
    };
}

fn step(target: &str, incoming: Option<&str>, outgoing: Option<&str>) -> WayStep {
    WayStep {
        target: target.into(),
        incoming: incoming.map(str::to_owned),
        outgoing: outgoing.map(str::to_owned),
        ..WayStep::default()
    }
}

/// Nothing lost.
pub fn clear() -> Report {
    Report {
        hostname: "box".into(),
        kernel: "6.1.0-56-amd64".into(),
        started_at: "2026-01-31T12:00:00Z".into(),
        window_seconds: 5.02,
        targets: vec![
            target("docker:nginx", "nginx", Role::Target, Entry::Pid(4123)),
            target("host", "host", Role::Vantage, Entry::Here),
        ],
        verdict: Verdict::Clear,
        flows: vec![],
        flows_seen: FlowsSeen::default(),
        findings: vec![],
        notes: vec![note(
            "eth0",
            NoteStatus::Benign,
            None,
            phrase(
                "rx_dropped +12 are LLDP frames that nobody asked for",
                "rx_dropped +12，是本机无人接收的 LLDP 帧",
            ),
        )],
        probes: vec![probe(50, 0, 0)],
        probe_ways: vec![vec![step("host", None, Some("docker0")), step("docker:nginx", Some("eth0"), None)]],
        ledger: Ledger::default(),
        coverage: vec![
            coverage("docker:nginx", "links", CoverageStatus::Read, ""),
            coverage("docker:nginx", "nftables", CoverageStatus::Read, ""),
            coverage("docker:nginx", "drop_events", CoverageStatus::Read, "tp_btf"),
            coverage("host", "links", CoverageStatus::Read, ""),
            coverage("host", "iptables_legacy", CoverageStatus::Absent, "no ip_tables module"),
        ],
        history: vec![],
    }
}

/// A container's nginx behind two random DROP rules and a netem qdisc.
pub fn source_case() -> Report {
    let mut report = Report {
        verdict: Verdict::Loss,
        findings: vec![drop_rule("INPUT", 1, 14), drop_rule("OUTPUT", 1, 11), netem()],
        probes: vec![probe(22, 3, 25)],
        ..clear()
    };
    report.notes.push(note(
        "eth0",
        NoteStatus::Latent,
        Some("mtu.too_small"),
        phrase(
            "MTU 100 costs nothing now, answers over 100 bytes will fragment or vanish",
            "MTU 100 目前未造成丢包，超过 100 字节的应答将被分片或丢失",
        ),
    ));
    charge(&mut report, 0);
    report
}

/// Nothing found, but the tracer and the rules could not be looked at.
pub fn inconclusive() -> Report {
    let mut report = Report { verdict: Verdict::Inconclusive, probes: vec![probe(38, 0, 12)], ..clear() };
    charge(&mut report, 12);
    report.notes.clear();
    report.coverage = vec![
        coverage("docker:nginx", "drop_events", CoverageStatus::Denied, "CAP_BPF"),
        coverage("docker:nginx", "nftables", CoverageStatus::Denied, "CAP_NET_ADMIN"),
        coverage("docker:nginx", "iptables_legacy", CoverageStatus::Denied, "CAP_NET_ADMIN"),
        coverage("host", "qdiscs", CoverageStatus::Failed, "interrupted dump"),
    ];
    report
}

/// Every string from outside is hostile.
pub fn hostile() -> Report {
    let evil = format!("e\x1b[31m\r\u{202e}<script>`{{n}}{}", "A".repeat(4096));
    let mut report = source_case();
    report.targets[0].name = evil.clone();
    for finding in &mut report.findings {
        finding.subject = evil.clone();
        finding.exhibit = Some(evil.clone());
        finding.summary = Phrase::same(evil.clone());
        finding.evidence[0].claim = Phrase::same(evil.clone());
        finding.evidence[0].reproduce = vec!["ip".into(), "link".into(), "show".into(), evil.clone()];
        finding.explains = vec![Phrase::same(evil.clone())];
    }
    report.notes[0].subject = evil.clone();
    report.coverage.push(coverage("docker:nginx", &evil, CoverageStatus::Failed, &evil));
    report.probes[0].url = evil;
    report
}

/// Twenty DROP rules at work.
pub fn twenty() -> Report {
    let mut report = source_case();
    report.findings = (1..=20).map(|n| drop_rule("INPUT", n, 1000 * u64::from(21 - n))).collect();
    report.findings[19].packets_lost = None;
    charge(&mut report, 7);
    report
}
