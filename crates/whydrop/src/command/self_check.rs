//! `whydrop self-check`: what can be seen here, what not, and what would settle it.
//!
//! It makes the shortest observation of the own namespace and shows what became of every source: the same code
//! path as `diagnose`, so the two can never disagree.

use super::judging::judge_apart;
use crate::output::print;
use crate::settings::{Colour, lang, say};
use crate::signals;
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Duration;
use whydrop_host::containers::{Engines, Listing};
use whydrop_host::observe::{self, Plan};
use whydrop_host::powers::{self, Walls};
use whydrop_host::sys::caps;
use whydrop_host::targets;
use whydrop_model::{Coverage, CoverageStatus, Lang, Phrase, Text, text};
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
    let kept = caps::effective();
    let cancel = signals::cancel_flag()?;
    let plan = Plan {
        targets: vec![targets::host()?],
        missing: vec![],
        from: targets::host()?,
        window: WINDOW,
        probes: vec![],
        passive: true,
        trace: true,
        engines: Engines::default(),
        calls: false,
    };
    let report = judge_apart(&observe::observe(&plan, &cancel, &|_| ())?)?;
    let mut items = capabilities();
    let listing = plan.engines.listing();
    let engine = |row: &&Coverage| listing.silent.iter().any(|(source, _)| *source == row.source);
    items.extend(report.coverage.iter().filter(|row| !engine(row)).map(source));
    items.extend(engines(listing));
    items.extend(given_up(kept));
    let options = Options { lang: lang(), colour: args.color.stdout(), ..Options::default() };
    let mut out = vec![];
    self_check(&items, &options, &mut out)?;
    print(&out)?;
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

/// What is kept, and when; the last step is taken here as `diagnose` takes it before it judges.
fn given_up(kept: std::io::Result<Vec<String>>) -> Vec<SelfCheckItem> {
    let item = |name: Text, sight, detail| SelfCheckItem { name: name.phrase(), sight, detail, needs: None };
    let listed = |names: Vec<String>| match names.is_empty() {
        true => text!("no capability", "没有任何能力").phrase(),
        false => Phrase::same(names.join(" ").replace("CAP_", "")),
    };
    let reading = match kept {
        Ok(names) => (Sight::Full, listed(names)),
        Err(error) => (Sight::Blind, Phrase::same(error.to_string())),
    };
    let judging = match (powers::give_up(), caps::effective()) {
        (Ok(Walls { landlock: Ok(()), seccomp: Ok(()) }), Ok(left)) => {
            let said = text!(
                "{kept}; no_new_privs, Landlock, seccomp: no file, socket, program or namespace",
                "{kept}；no_new_privs、Landlock、seccomp：不能使用文件、套接字、程序和命名空间"
            );
            (Sight::Full, said.with(&[("kept", &listed(left))]))
        }
        (Ok(walls), Ok(left)) => {
            let missing: Vec<Phrase> =
                [walls.landlock, walls.seccomp].into_iter().filter_map(std::result::Result::err).collect();
            let side = |lang| missing.iter().map(|phrase| phrase.get(lang)).collect::<Vec<_>>().join("; ");
            let missing = Phrase { en: side(Lang::En), zh: side(Lang::Zh) };
            let said = text!("{kept}; no_new_privs; but {missing}", "{kept}；no_new_privs；但{missing}");
            // It hides nothing of the machine.
            (Sight::Full, said.with(&[("kept", &listed(left)), ("missing", &missing)]))
        }
        (Err(error), _) => (Sight::Blind, error.phrase()),
        (_, Err(error)) => (Sight::Blind, Phrase::same(error.to_string())),
    };
    let changing = text!(
        "fix and undo keep to their end what reading keeps: they change, and look again; they and watch judge in a thread without any",
        "fix 与 undo 到结束都保留读取时的能力：它们要改动，并再次查看；它们与 watch 的判断在没有任何能力的线程中进行"
    );
    let nothing = text!(
        "--replay opens the file and keeps nothing; explain, man and completions have nothing from the start",
        "--replay 打开文件后不保留任何能力；explain、man 与 completions 从一开始就没有任何能力"
    );
    vec![
        item(text!("kept while reading", "读取时保留"), reading.0, reading.1),
        item(text!("kept while judging", "判断时保留"), judging.0, judging.1),
        item(text!("kept by fix, undo", "fix、undo 保留"), Sight::Full, changing.phrase()),
        item(text!("kept for recordings", "判断录制时保留"), Sight::Full, nothing.phrase()),
    ]
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

/// Whose containers are known, and which engines do not answer.
fn engines(listing: &Listing) -> Vec<SelfCheckItem> {
    let mut running: BTreeMap<&str, usize> = BTreeMap::new();
    for container in listing.containers.iter().filter(|container| !container.infra) {
        *running.entry(container.engine.word()).or_default() += usize::from(container.running);
    }
    let item =
        |name: &str, sight, detail| SelfCheckItem { name: Phrase::same(name), sight, detail, needs: None };
    let known = running
        .iter()
        .map(|(engine, n)| item(engine, Sight::Full, text!("{n} running", "{n} 个运行中").fill(&[("n", n)])));
    let silent = listing.silent.iter();
    let silent = silent.map(|(source, error)| item(source, Sight::Blind, Phrase::same(error.to_string())));
    let mut out: Vec<SelfCheckItem> = known.chain(silent).collect();
    if out.is_empty() {
        let none = text!("no container of any engine here", "本机没有任何引擎的容器");
        out.push(item("containers", Sight::Absent, none.phrase()));
    }
    out
}
