//! `whydrop self-check`: what can be seen here, what not, and what would settle it.
//!
//! It makes the shortest observation of the own namespace and shows what became of every source: the same code
//! path as `diagnose`, so the two can never disagree.

use crate::settings::{Colour, lang, say};
use crate::signals;
use anyhow::Result;
use std::io::Write;
use std::time::Duration;
use whydrop_host::observe::{self, Plan};
use whydrop_host::sys::caps;
use whydrop_host::{containers, targets};
use whydrop_model::{Coverage, CoverageStatus, Phrase, TargetKind, Text, text};
use whydrop_report::self_check::{SelfCheckItem, Sight, self_check};
use whydrop_report::text::Options;

/// Arguments of `self-check`.
#[derive(Debug, clap::Args)]
pub struct SelfCheckArgs {
    /// Colour.
    #[arg(long, value_enum, default_value = "auto", help = say(text!("When to use colours", "何时使用颜色")))]
    pub color: Colour,
}

/// Long enough for the tracer to start and stop.
const WINDOW: Duration = Duration::from_millis(100);

/// Capabilities that whydrop uses, and for what.
const CAPABILITIES: [(&str, Text); 6] = [
    (
        "CAP_NET_ADMIN",
        text!("rules, queues and connection tracking; fixes", "规则、队列与连接跟踪；执行修复"),
    ),
    (
        "CAP_NET_RAW",
        text!("raw probes; without it, connect() is used", "原始套接字探测；没有时改用 connect()"),
    ),
    ("CAP_SYS_ADMIN", text!("entering other network namespaces", "进入其他网络命名空间")),
    (
        "CAP_SYS_PTRACE",
        text!("processes of other users: their namespaces and sockets", "其他用户的进程：其命名空间与套接字"),
    ),
    ("CAP_BPF", text!("the kernel's drop events", "内核丢包事件")),
    ("CAP_PERFMON", text!("the kernel's drop events", "内核丢包事件")),
];

/// Runs the command.
pub fn run(args: SelfCheckArgs) -> Result<u8> {
    let cancel = signals::cancel_flag()?;
    let plan = Plan {
        targets: vec![targets::host()?],
        from: targets::host()?,
        window: WINDOW,
        probes: vec![],
        passive: true,
        trace: true,
    };
    let report = whydrop_checks::judge(&observe::observe(&plan, &cancel, &|_| ())?);
    let mut items = capabilities();
    items.extend(report.coverage.iter().map(source));
    items.extend([TargetKind::Docker, TargetKind::Podman].map(engine));
    let options = Options { lang: lang(), colour: args.color.stdout(), ..Options::default() };
    let mut out = vec![];
    self_check(&items, &options, &mut out)?;
    std::io::stdout().lock().write_all(&out)?;
    Ok(0)
}

fn capabilities() -> Vec<SelfCheckItem> {
    let effective = match caps::effective() {
        Ok(effective) => effective,
        Err(error) => {
            let detail = Phrase::same(error.to_string());
            return vec![SelfCheckItem {
                name: Phrase::same("capabilities"),
                sight: Sight::Blind,
                detail,
                needs: None,
            }];
        }
    };
    // CAP_SYS_ADMIN holds what older kernels have no capability of its own for.
    let all = effective.iter().any(|c| c == "CAP_SYS_ADMIN");
    let item = |(name, purpose): &(&str, Text)| {
        let own = effective.iter().any(|c| c == name);
        let by_admin = all && matches!(*name, "CAP_BPF" | "CAP_PERFMON");
        let sight = if own || by_admin { Sight::Full } else { Sight::Blind };
        let needs = (sight == Sight::Blind).then(|| (*name).to_owned());
        SelfCheckItem { name: Phrase::same(*name), sight, detail: purpose.phrase(), needs }
    };
    CAPABILITIES.iter().map(item).collect()
}

fn source(coverage: &Coverage) -> SelfCheckItem {
    let sight = match coverage.status {
        CoverageStatus::Read if coverage.limits.is_empty() => Sight::Full,
        CoverageStatus::Read => Sight::Partial,
        CoverageStatus::Absent => Sight::Absent,
        CoverageStatus::Denied | CoverageStatus::Failed => Sight::Blind,
    };
    let words: Vec<&str> =
        [&coverage.detail].into_iter().chain(&coverage.limits).map(String::as_str).collect();
    let (name, detail) = (Phrase::same(&coverage.source), Phrase::same(words.join("; ")));
    SelfCheckItem { name, sight, detail, needs: None }
}

fn engine(kind: TargetKind) -> SelfCheckItem {
    let name = Phrase::same(if kind == TargetKind::Podman { "podman" } else { "docker" });
    let (sight, detail) = match containers::list(kind) {
        Ok(Some(listed)) => {
            let n = listed.iter().filter(|c| c.running).count();
            (Sight::Full, text!("{n} running", "{n} 个运行中").fill(&[("n", &n)]))
        }
        Ok(None) => (Sight::Absent, text!("no engine's socket here", "本机没有引擎的套接字").phrase()),
        Err(error) => (Sight::Blind, Phrase::same(error.to_string())),
    };
    SelfCheckItem { name, sight, detail, needs: None }
}
