//! `whydrop demo`: the source case, from the symptom to the proof that it is gone.
//!
//! The same functions that `diagnose` and `fix` use, on a broken web server in namespaces of its own.

use super::judging::judge_apart;
use super::observing::parse_duration;
use super::standing::{self, Standing};
use super::syn_lines;
use crate::failure::Refusal;
use crate::progress::{Line, Telling};
use crate::settings::{self, Colour, lang, say};
use crate::signals;
use anyhow::{Context, Result};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use whydrop_host::containers::Engines;
use whydrop_host::observe::{self, Plan};
use whydrop_host::{probing, targets};
use whydrop_lab::{Change, Lab, Need};
use whydrop_model::finding::Step;
use whydrop_model::shell::{join, sanitize};
use whydrop_model::{Action, Finding, Fix, Phrase, ProbeResult, Report, Verdict, text};
use whydrop_probe::progress::Event;
use whydrop_probe::{ProbeSpec, Scheme};
use whydrop_report::text as render;

/// First part of the names of the namespaces, unless another is wanted.
const NAME: &str = "demo";
/// SYNs of one measurement: 30 % of loss cannot hide (0.7^40 is less than one in a million), and one rule less shows.
const SYNS: u32 = 40;
/// Between two SYNs of a measurement.
const INTERVAL: Duration = Duration::from_millis(25);
/// How long one page may take before the demo goes on.
const PAGE_PATIENCE: Duration = Duration::from_secs(3);
/// Rounds of diagnosis and repair: a cause can hide behind another one, but not for ever.
const ROUNDS: usize = 4;
/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Window of a diagnosis.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration,
          help = say(text!("How long each diagnosis observes", "每次诊断观察多久")))]
    duration: Duration,
    /// Name.
    #[arg(long, value_name = "NAME", default_value = NAME,
          help = say(text!("First part of the names of its namespaces", "其命名空间名称的前缀")))]
    name: String,
    /// Colour.
    #[arg(long, value_enum, default_value = "auto", help = say(text!("When to use colours", "何时使用颜色")))]
    color: Colour,
}

/// The end of a story that was interrupted: no failure, but nothing more is told.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Interrupted;

/// Runs the command.
pub fn run(args: DemoArgs) -> Result<u8> {
    standing::need_root()?;
    let cancel = signals::cancel_flag()?;
    let missing = Need::Netem.missing();
    let mut standing = Standing::build(whydrop_lab::source_case(missing.is_none()), &args.name)?;
    let told = Demo { args, cancel: &cancel }.tell(standing.lab(), missing.as_ref());
    drop(standing);
    match told {
        Err(error) if error.is::<Interrupted>() => {
            print(
                &text!("\nInterrupted; the namespaces are removed.", "\n已中断；命名空间均已删除。").phrase(),
            )?;
            Ok(INTERRUPTED)
        }
        Err(error) => Err(error),
        Ok(verdict) => {
            print(
                &text!("\nThe namespaces of the demo are removed.", "\n演示用的命名空间均已删除。").phrase(),
            )?;
            Ok(verdict.exit_status())
        }
    }
}

/// What the client of the web server sees.
struct Measurement {
    syn: ProbeResult,
    page: ProbeResult,
}

impl Measurement {
    fn in_words(&self) -> Phrase {
        let lost = self.syn.lost + self.syn.late;
        let syn = text!("{lost} of {sent} SYNs lost or late", "{sent} 个 SYN 中 {lost} 个丢失或迟到")
            .fill(&[("lost", &lost), ("sent", &self.syn.transmitted)]);
        let time = self.page.http.as_ref().filter(|http| http.error.is_none()).and_then(|http| http.total_ms);
        let page = match time {
            Some(ms) => text!("page in {ms} ms", "页面耗时 {ms} 毫秒").fill(&[("ms", &format!("{ms:.1}"))]),
            None => {
                text!("no page within {s} s", "{s} 秒内未能取得页面").fill(&[("s", &PAGE_PATIENCE.as_secs())])
            }
        };
        Phrase { en: format!("{}; {}", syn.en, page.en), zh: format!("{}；{}", syn.zh, page.zh) }
    }
}

struct Demo<'a> {
    args: DemoArgs,
    cancel: &'a AtomicBool,
}

impl Demo<'_> {
    fn tell(&self, lab: &mut Lab, no_netem: Option<&Phrase>) -> Result<Verdict> {
        chapter(text!("1  A web server and its client", "1  一台 Web 服务器和它的客户端").phrase())?;
        print(
            &text!(
                "Two network namespaces, joined by a virtual cable; the server gives out a page of 8 KiB.",
                "两个网络命名空间由一条虚拟网线相连；服务器提供一个 8 KiB 的页面。"
            )
            .phrase(),
        )?;
        print(&self.measure(lab, false)?.in_words())?;

        chapter(text!("2  Somebody breaks it", "2  有人把它弄坏了").phrase())?;
        if let Some(why) = no_netem {
            let said = text!(
                "This kernel has no netem, so a third random rule, last on the way out, stands in for it.\n({why})",
                "本内核没有 netem，因此用出站路径末端的第三条随机丢弃规则代替。\n（{why}）"
            );
            print(&said.fill(&[("why", &sanitize(why.get(lang()), 200))]))?;
        }
        lab.break_it()?;
        print(
            &text!("As commands, inside the server's namespace:", "写成命令（在服务器的命名空间内）：")
                .phrase(),
        )?;
        for change in &lab.fault().changes {
            if let Change::Act(_, action) = change {
                print(&Phrase::same(format!("  {}", join(&action.argv()))))?;
            }
        }

        chapter(text!("3  What people see", "3  用户看到的现象").phrase())?;
        let said = text!(
            "{n} SYNs from the client, as hping3 -S sends them, then one GET of the page:",
            "从客户端发出 {n} 个 SYN（如同 hping3 -S），再用 GET 取一次页面："
        );
        print(&said.fill(&[("n", &SYNS)]))?;
        let mut before = self.measure(lab, true)?;
        print(&Phrase::same(syn_lines::summary(&before.syn)))?;
        print(&before.in_words())?;

        chapter(text!("4  What whydrop says", "4  whydrop 的诊断").phrase())?;
        let said = text!(
            "Counters, rules, queues and kernel drops of both namespaces, and its own probes, for {s} s:",
            "观察两个命名空间的计数器、规则、队列与内核丢包，并自行探测，共 {s} 秒："
        );
        print(&said.fill(&[("s", &self.args.duration.as_secs_f64())]))?;
        let mut report = self.diagnose(lab)?;
        self.show(&report)?;

        chapter(text!("5  Repair, one cause at a time", "5  逐个修复").phrase())?;
        print(
            &text!(
                "The culprit of each cause is taken away by name, as `whydrop fix --only f1.2` does it, and measured again:",
                "逐一按名称去除每个原因的元凶（如同 `whydrop fix --only f1.2`），并在之后重复同样的测量："
            )
            .phrase(),
        )?;
        for _ in 0..ROUNDS {
            for (name, finding, fix) in runnable(&report) {
                repair(lab, &report, &name, finding, fix)?;
                let after = self.measure(lab, false)?;
                compare(&before, &after)?;
                before = after;
            }
            report = self.diagnose(lab)?;
            if report.verdict == Verdict::Clear || runnable(&report).is_empty() {
                break;
            }
        }

        chapter(text!("6  The proof", "6  验证").phrase())?;
        self.show(&report)?;
        Ok(report.verdict)
    }

    /// SYNs and one GET from the client, with the SYNs' answers as lines if wanted.
    fn measure(&self, lab: &Lab, lines: bool) -> Result<Measurement> {
        let mut results = self.specs(lab)?.into_iter().map(|mut spec| {
            if spec.scheme == Scheme::Tcp {
                (spec.count, spec.interval) = (Some(SYNS), INTERVAL);
            }
            self.probe(lab, &spec, lines)
        });
        let mut next = || {
            results.next().context(Refusal::new(text!(
                "the demo did not get both of its results",
                "演示没有得到全部两项结果"
            )))?
        };
        Ok(Measurement { syn: next()?, page: next()? })
    }

    fn probe(&self, lab: &Lab, spec: &ProbeSpec, lines: bool) -> Result<ProbeResult> {
        let from = targets::resolve(&lab.vantage())?;
        let result = probing::run(&from.netns, &from.target.id, spec, self.cancel, &|progress| {
            if let (true, Event::Reply(reply), Some(port)) =
                (lines && spec.scheme == Scheme::Tcp, &progress.event, spec.port)
            {
                // A closed stdout is noticed by the next line that may fail.
                print(&Phrase::same(syn_lines::reply(reply, port))).ok();
            }
        })?;
        self.go_on()?;
        Ok(result)
    }

    /// The lab's probes; one GET that does not wait for ever.
    fn specs(&self, lab: &Lab) -> Result<Vec<ProbeSpec>> {
        let specs = lab.fault().probes.iter().map(|url| {
            let mut spec = ProbeSpec::parse(url)?;
            if spec.scheme.is_http() {
                (spec.count, spec.timeout, spec.late) = (Some(1), PAGE_PATIENCE, PAGE_PATIENCE);
            }
            Ok(spec)
        });
        specs.collect()
    }

    fn diagnose(&self, lab: &Lab) -> Result<Report> {
        let plan = Plan {
            targets: vec![targets::resolve(&lab.target())?],
            missing: vec![],
            from: targets::resolve(&lab.vantage())?,
            window: self.args.duration,
            probes: self.specs(lab)?,
            passive: false,
            trace: true,
            engines: Engines::default(),
            calls: false,
        };
        let targets = plan.targets.iter().map(|found| found.target.clone()).collect();
        let line = Line::new(targets, self.args.duration, Telling::of(false, false));
        let observation = observe::observe(&plan, self.cancel, &|at| line.update(at))?;
        drop(line);
        self.go_on()?;
        Ok(judge_apart(&observation)?)
    }

    fn show(&self, report: &Report) -> Result<()> {
        let options = render::Options {
            lang: lang(),
            colour: self.args.color.stdout(),
            plain: settings::plain(false),
            ..render::Options::default()
        };
        Ok(render::write(report, &options, &mut std::io::stdout().lock())?)
    }

    fn go_on(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(Interrupted.into()) } else { Ok(()) }
    }
}

/// Findings with a fix that a program can run, and its name as `fix --only` takes it. The demo knows that nobody needs
/// what it broke, so it takes the culprit away wherever there is a fix that does; for others the first one that runs.
fn runnable(report: &Report) -> Vec<(String, &Finding, &Fix)> {
    let takes_away = |fix: &&Fix| fix.steps.iter().any(|step| matches!(step.action, Action::RuleDelete(_)));
    let chosen = report.findings.iter().enumerate().filter_map(|(at, finding)| {
        let mut runs = finding.fixes.iter().filter(|fix| !fix.steps.is_empty());
        let fix = runs.clone().find(takes_away).or_else(|| runs.next())?;
        let nth = finding.fixes.iter().position(|known| std::ptr::eq(known, fix))?;
        Some((format!("f{}.{}", at + 1, nth + 1), finding, fix))
    });
    chosen.collect()
}

fn repair(lab: &Lab, report: &Report, name: &str, finding: &Finding, fix: &Fix) -> Result<()> {
    print(&Phrase::same(format!("\n{name}  {}  {}", finding.cause, finding.subject)))?;
    for step in &fix.steps {
        print(&command(report, step).map_or_else(|reason| reason, |line| Phrase::same(format!("  {line}"))))?;
        lab.apply(&step.target, &step.action)?;
    }
    Ok(())
}

/// The command of a step as a person would type it.
fn command(report: &Report, step: &Step) -> Result<String, Phrase> {
    let argv = step.action.command()?;
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    report.target(&step.target).map_or_else(|| Ok(join(&argv)), |target| target.command_line(&argv))
}

fn compare(before: &Measurement, after: &Measurement) -> Result<()> {
    let (was, is) = (before.in_words(), after.in_words());
    print(&Phrase {
        en: format!("  before  {}\n  after   {}", was.en, is.en),
        zh: format!("  之前  {}\n  之后  {}", was.zh, is.zh),
    })
}

fn chapter(title: Phrase) -> Result<()> {
    print(&Phrase { en: format!("\n== {}", title.en), zh: format!("\n== {}", title.zh) })
}

/// Prints at once: the demo is watched.
fn print(phrase: &Phrase) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", phrase.get(lang()))?;
    Ok(out.flush()?)
}
