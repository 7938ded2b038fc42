//! `whydrop fix`: the plan; with `--apply` the change, and the same measurement again.

use super::observing::ObserveArgs;
use crate::failure::Refusal;
use crate::settings::{self, Colour, lang, say};
use crate::signals;
use anyhow::Result;
use std::io::{BufRead, IsTerminal, Write};
use whydrop_host::act::{Journal, Transaction};
use whydrop_host::{Error, Netns, targets};
use whydrop_model::finding::Step;
use whydrop_model::shell::sanitize;
use whydrop_model::{Applicability, Finding, Fix, Report, Target, text};
use whydrop_report::error::Problem;
use whydrop_report::text as render;

/// Arguments of `fix`.
#[derive(Debug, clap::Args)]
pub struct FixArgs {
    /// Where to look.
    #[command(flatten)]
    pub observe: ObserveArgs,
    /// Run the plan.
    #[arg(long, help = say(text!("Run the plan, after a question, and measure again", "询问后执行计划，并重新测量")))]
    pub apply: bool,
    /// Answer the question beforehand.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "safe", value_name = "WHICH",
          help = say(text!("Do not ask: run safe fixes, with =disruptive those that interrupt traffic too",
                           "不询问：执行安全的修复；=disruptive 时也执行会中断业务的修复")))]
    pub yes: Option<Consent>,
    /// Only these.
    #[arg(long, value_name = "ID", value_delimiter = ',',
          help = say(text!("Only these findings: f1,f3", "只处理这些发现：f1,f3")))]
    pub only: Vec<String>,
    /// Show only.
    #[arg(long, conflicts_with = "apply", help = say(text!("Show the plan and its undo, change nothing (the default)",
                                                           "只列出计划与撤销方法，不做改动（默认）")))]
    pub dry_run: bool,
    /// Colour.
    #[arg(long, value_enum, default_value = "auto", help = say(text!("When to use colours", "何时使用颜色")))]
    pub color: Colour,
    /// Sentences.
    #[arg(long, help = say(text!("Sentences instead of columns and bars", "用句子代替表格与条形")))]
    pub plain: bool,
}

/// How much is allowed without a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Consent {
    /// What harms no traffic that works.
    Safe,
    /// Also what interrupts traffic that works.
    Disruptive,
}

/// A finding and the fix that was chosen for it.
type Choice<'a> = (usize, &'a Finding, &'a Fix);

/// Runs the command.
pub fn run(args: FixArgs) -> Result<u8> {
    let cancel = signals::cancel_flag()?;
    let before = whydrop_checks::judge(&args.observe.observe(&cancel, false)?);
    check_only(&before, &args.only)?;
    let options = render::Options {
        lang: lang(),
        colour: args.color.stdout(),
        plain: settings::plain(args.plain),
        ..render::Options::default()
    };
    let chosen = choose(&before, &args);
    let numbers: Vec<usize> = chosen.iter().map(|(i, _, _)| *i).collect();
    let mut out = std::io::stdout().lock();
    render::plan(&before, &numbers, &options, &mut out)?;
    out.flush()?;
    drop(out);
    let runnable: Vec<Choice> = chosen.into_iter().filter(|(_, _, fix)| allowed(fix, &args)).collect();
    if !args.apply || runnable.is_empty() {
        return Ok(before.verdict.exit_status());
    }
    if args.yes.is_none() && !confirmed(&runnable)? {
        return Ok(before.verdict.exit_status());
    }
    let applied = apply(&args.observe, &runnable)?;
    let after = whydrop_checks::judge(&args.observe.observe(&cancel, false)?);
    let gone = runnable.iter().filter(|(_, finding, _)| !still_there(&after, finding)).count();
    if gone == 0 {
        applied.take_back()?;
        let said = text!("nothing got better, so everything was taken back", "没有任何改善，已全部撤销");
        writeln!(std::io::stderr().lock(), "{}", said.get(lang()))?;
        return Ok(before.verdict.exit_status());
    }
    let mut out = std::io::stdout().lock();
    render::outcome(&before, &after, &options, &mut out)?;
    let back = text!("undo: whydrop undo {id}", "撤销：whydrop undo {id}").fill(&[("id", &applied.id)]);
    writeln!(out, "{}", back.get(lang()))?;
    out.flush()?;
    Ok(after.verdict.exit_status())
}

/// Refuses ids that are not in the report: a typo must not silently fix nothing.
fn check_only(report: &Report, only: &[String]) -> Result<()> {
    let known: Vec<String> = (1..=report.findings.len()).map(|i| format!("f{i}")).collect();
    match only.iter().find(|id| !known.contains(id)) {
        None => Ok(()),
        Some(id) => {
            let (id, known) = (sanitize(id, 40), known.join(", "));
            let what = text!(
                "--only names {id}, but the findings are: {known}",
                "--only 指定了 {id}，而现有发现为：{known}"
            );
            Err(Refusal(Problem::new(what.fill(&[("id", &id), ("known", &known)]))).into())
        }
    }
}

fn choose<'a>(report: &'a Report, args: &FixArgs) -> Vec<Choice<'a>> {
    let wanted = |i: usize| args.only.is_empty() || args.only.contains(&format!("f{}", i + 1));
    let findings = report.findings.iter().enumerate().filter(|(i, _)| wanted(*i));
    findings.filter_map(|(i, finding)| Some((i, finding, finding.fixes.first()?))).collect()
}

fn allowed(fix: &Fix, args: &FixArgs) -> bool {
    match fix.applicability {
        Applicability::Safe => !fix.steps.is_empty(),
        // Without --yes the question below asks for the word.
        Applicability::Disruptive => !fix.steps.is_empty() && args.yes != Some(Consent::Safe),
        Applicability::Manual => false,
    }
}

/// Asks. Anything but a clear yes is a no; what interrupts traffic needs the whole word.
fn confirmed(chosen: &[Choice]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let what =
            text!("cannot ask before applying: stdin is no terminal", "无法询问是否执行：标准输入不是终端");
        let tries = Some("whydrop fix TARGET --apply --yes".to_owned());
        return Err(Refusal(Problem { what: what.phrase(), tries, ..Problem::default() }).into());
    }
    let disruptive = chosen.iter().any(|(_, _, fix)| fix.applicability == Applicability::Disruptive);
    let question = if disruptive {
        text!(
            "Apply? Traffic will be interrupted. Type yes, or Enter for no: ",
            "执行？业务会中断。输入 yes 确认，直接回车取消："
        )
    } else {
        text!("Apply? [y]es, [N]o: ", "执行？[y] 是，[N] 否：")
    };
    let mut err = std::io::stderr().lock();
    write!(err, "{}", question.get(lang()))?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let answer = answer.trim();
    Ok(answer == "yes" || (!disruptive && answer == "y"))
}

/// An applied transaction that can be taken back.
struct Applied {
    journal: Journal,
    id: String,
}

impl Applied {
    fn take_back(&self) -> Result<()> {
        Ok(Transaction::undo(&self.journal, &self.id)?)
    }
}

fn apply(observe: &ObserveArgs, chosen: &[Choice]) -> Result<Applied> {
    let plan = observe.plan()?;
    let open = |step: &'_ Step| -> Result<&targets::Resolved> {
        let known = plan.targets.iter().chain([&plan.from]).find(|r| r.target.id == step.target);
        let gone = || {
            Error::new(
                text!("change {object}", "改动 {object}"),
                step.target.clone(),
                text!("its namespace is not part of this run", "它的命名空间不在本次运行范围内").phrase(),
            )
        };
        Ok(known.ok_or_else(gone)?)
    };
    let mut steps: Vec<(&Target, &Netns, &Step)> = vec![];
    for step in chosen.iter().flat_map(|(_, _, fix)| &fix.steps) {
        // Two findings may share one remedy.
        if !steps.iter().any(|(_, _, known)| *known == step) {
            let resolved = open(step)?;
            steps.push((&resolved.target, &resolved.netns, step));
        }
    }
    let journal = Journal::open()?;
    let id = Transaction::apply(&journal, &steps)?;
    Ok(Applied { journal, id })
}

fn still_there(report: &Report, finding: &Finding) -> bool {
    let same =
        |f: &&Finding| f.cause == finding.cause && f.target == finding.target && f.subject == finding.subject;
    report.findings.iter().any(|f| same(&f))
}
