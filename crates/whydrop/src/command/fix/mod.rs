//! `whydrop fix`: the plan; with `--apply` the change, and the same measurement again.

mod choice;
mod proof;
mod question;

use super::judging::judge_apart;
use super::observing::ObserveArgs;
use super::undo;
use crate::failure::Refusal;
use crate::progress::Telling;
use crate::settings::{self, Colour, lang, say};
use crate::signals::{INTERRUPTED, Signals};
use anyhow::Result;
use choice::Choice;
use proof::Proof;
use std::io::Write;
use whydrop_host::act::{self, Journal, Transaction};
use whydrop_host::observe::Plan;
use whydrop_host::{Error, Netns, targets};
use whydrop_model::finding::Step;
use whydrop_model::shell::{self, sanitize};
use whydrop_model::{Phrase, Report, Target, Verdict, text};
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
    #[arg(long, help = say(text!("Do not ask: run safe fixes, and others only if --only names them",
                                 "不询问：执行安全的修复；其他修复只有用 --only 点名才执行")))]
    pub yes: bool,
    /// Only these.
    #[arg(long, value_name = "ID", value_delimiter = ',',
          help = say(text!("Only these fixes: f1 is the first one of finding 1, f1.2 its second; netfilter.drop_rule.2 that of each such cause",
                           "只执行这些修复：f1 为发现 1 的第一个修复，f1.2 为第二个；netfilter.drop_rule.2 为每个此类原因的第二个")))]
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

/// Runs the command. The namespaces are opened once: what is measured, shown, changed and measured again is the same,
/// whatever its name leads to meanwhile.
pub fn run(args: FixArgs) -> Result<u8> {
    let mut signals = Signals::watch()?;
    let plan = args.observe.plan()?;
    let telling = Telling::of(false, args.plain);
    let seen = args.observe.observe_plan(&plan, signals.flag(), telling)?;
    let before = judge_apart(&seen)?;
    let options = render::Options {
        lang: lang(),
        colour: args.color.stdout(),
        plain: settings::plain(args.plain),
        ..render::Options::default()
    };
    let chosen = choice::choose(&before, &args.only)?;
    let numbers: Vec<(usize, usize)> = chosen.iter().map(|choice| (choice.at, choice.nth)).collect();
    let mut out = std::io::stdout().lock();
    render::plan(&before, &numbers, &options, &mut out)?;
    out.flush()?;
    drop(out);
    let mut runnable = vec![];
    for choice in chosen {
        match refusal(&plan, &choice)? {
            None => runnable.push(choice),
            Some(why) => tell(
                &text!("{fix} is left out: {why}", "略过 {fix}：{why}")
                    .with(&[("fix", &Phrase::same(choice.name())), ("why", &why)]),
            )?,
        }
    }
    if !args.apply {
        return Ok(before.verdict.exit_status());
    }
    if signals.came() {
        tell(&text!("interrupted: nothing was changed", "已中断：未做任何改动").phrase())?;
        return Ok(INTERRUPTED);
    }
    if runnable.is_empty() {
        return Ok(before.verdict.exit_status());
    }
    if !args.yes && !question::confirmed(&runnable, &signals)? {
        tell(&text!("nothing was changed", "未做任何改动").phrase())?;
        return Ok(if signals.came() { INTERRUPTED } else { before.verdict.exit_status() });
    }
    Change { args: &args, plan: &plan, before: &before, made: &runnable, options: &options }.run(&mut signals)
}

/// Why a chosen fix does not run.
fn refusal(plan: &Plan, choice: &Choice<'_>) -> Result<Option<Phrase>> {
    if choice.fix.steps.is_empty() {
        return Ok(Some(text!("only a person can do it", "只能由人来做").phrase()));
    }
    if !choice::allowed(choice) {
        let why = text!(
            "it is not safe, and runs only if it is named: --only {fix}",
            "它不属于安全的修复，点名后才会执行：--only {fix}"
        );
        return Ok(Some(why.fill(&[("fix", &choice.name())])));
    }
    // Later steps may need the first one.
    let Some(step) = choice.fix.steps.first() else { return Ok(None) };
    let rehearsed = act::rehearse(&resolved(plan, step)?.netns, &step.action);
    Ok(rehearsed.err().map(|error| error.phrase()))
}

/// The target of a step, open since the first measurement.
fn resolved<'p>(plan: &'p Plan, step: &Step) -> Result<&'p targets::Resolved> {
    let known = plan.targets.iter().chain([&plan.from]).find(|r| r.target.id == step.target);
    Ok(known.ok_or_else(|| {
        Error::new(
            text!("change {object}", "改动 {object}"),
            step.target.clone(),
            text!("it was not named as a target, so it is not changed", "它没有被指定为目标，因此不做改动")
                .phrase(),
        )
        .with_hint(name_it(plan, &step.target))
    })?)
}

/// The command that names it, too.
fn name_it(plan: &Plan, target: &str) -> Phrase {
    let named = plan.targets.iter().map(|known| known.target.id.as_str()).chain([target]);
    let line =
        shell::join(&["whydrop", "fix"].into_iter().chain(named).map(String::from).collect::<Vec<_>>());
    text!("name it, too: {line}", "把它也指定为目标：{line}").fill(&[("line", &line)])
}

/// A change, from the consent to its proof.
struct Change<'a> {
    args: &'a FixArgs,
    plan: &'a Plan,
    before: &'a Report,
    made: &'a [Choice<'a>],
    options: &'a render::Options,
}

/// What became of it.
enum End {
    /// It stays; the answer after it.
    Kept(Verdict),
    /// It has to go, and why.
    Useless(Phrase),
}

impl Change<'_> {
    fn run(&self, signals: &mut Signals) -> Result<u8> {
        let mut steps: Vec<(&Target, &Netns, &Step)> = vec![];
        for step in self.made.iter().flat_map(|choice| &choice.fix.steps) {
            // Two findings may share one remedy.
            if !steps.iter().any(|(_, _, known)| *known == step) {
                let resolved = resolved(self.plan, step)?;
                steps.push((&resolved.target, &resolved.netns, step));
            }
        }
        let journal = Journal::open()?;
        signals.protect();
        let applied = Transaction::apply(&journal, &steps)?;
        // Whatever happens from here on, the change is proven, or it goes. Panics included: the threads that take it
        // back are there already.
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.prove(&applied, signals)));
        let status = match end {
            Ok(Ok(End::Kept(after))) => after.exit_status(),
            Ok(Ok(End::Useless(why))) => {
                self.take_back(&applied, &why)?;
                if signals.came() { INTERRUPTED } else { self.before.verdict.exit_status() }
            }
            Ok(Err(error)) => {
                let why = text!("the second measurement failed", "第二次测量失败").phrase();
                self.take_back(&applied, &why)?;
                // Nobody listens any more: for a report that is no failure, for a change that goes it is one.
                let what = text!("the change could not be proven", "改动未能得到验证").phrase();
                let reason = Some(Phrase::same(sanitize(&format!("{error:#}"), 400)));
                return Err(Refusal(Problem { what, reason, ..Problem::default() }).into());
            }
            Err(panic) => {
                let why = text!("the second measurement failed", "第二次测量失败").phrase();
                self.take_back(&applied, &why)?;
                std::panic::resume_unwind(panic);
            }
        };
        signals.release()?;
        Ok(status)
    }

    fn prove(&self, applied: &Transaction, signals: &Signals) -> Result<End> {
        // Told before anything else can go wrong.
        let told = text!("applied; the way back: whydrop undo {id}", "已执行；撤销：whydrop undo {id}");
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", told.fill(&[("id", &applied.id())]).get(lang()))?;
        out.flush()?;
        drop(out);
        let telling = Telling::of(false, self.args.plain);
        let mut seen = self.args.observe.observe_plan(self.plan, signals.flag(), telling)?;
        let mut after = judge_apart(&seen)?;
        // What was sent before the change may still die in the first look: packets that wait for a neighbour are dropped when
        // its last question was in vain, three seconds later.
        if after.verdict == Verdict::Loss && !signals.came() {
            seen = self.args.observe.observe_plan(self.plan, signals.flag(), telling)?;
            after = judge_apart(&seen)?;
        }
        if signals.came() {
            return Ok(End::Useless(
                text!("interrupted before it was proven", "在得到验证之前被中断").phrase(),
            ));
        }
        let fallen = applied.fallen()?;
        if let Some(command) = fallen.first() {
            let why = text!(
                "it does not stand any more, something else undid it: {command}",
                "改动已不在，被别的程序撤销：{command}"
            );
            return Ok(End::Useless(why.fill(&[("command", &sanitize(command, 300))])));
        }
        let proofs: Vec<Proof> = self
            .made
            .iter()
            .map(|choice| proof::prove(self.before, &after, &seen, self.made, choice))
            .collect();
        if !proofs.iter().any(|proof| matches!(proof, Proof::Gone | Proof::NotProven)) {
            let unhelped = proofs.iter().find_map(|proof| match proof {
                Proof::Unhelped(url) => Some(url),
                _ => None,
            });
            let why = match unhelped {
                Some(url) => text!("{url} fares no better", "{url} 的情况没有改善")
                    .fill(&[("url", &sanitize(url, 200))]),
                None => text!("nothing got better", "没有任何改善").phrase(),
            };
            return Ok(End::Useless(why));
        }
        proof::temper(&mut after, &proofs);
        let mut out = std::io::stdout().lock();
        render::outcome(self.before, &after, self.options, &mut out)?;
        for (choice, _) in self.made.iter().zip(&proofs).filter(|(_, proof)| **proof == Proof::NotProven) {
            let said = text!(
                "{fix} is not proven: nothing came by that it could have helped",
                "{fix} 未得到验证：期间没有它能帮到的流量经过"
            );
            writeln!(out, "{}", said.fill(&[("fix", &choice.name())]).get(lang()))?;
        }
        let back = text!("undo: whydrop undo {id}", "撤销：whydrop undo {id}").fill(&[("id", &applied.id())]);
        writeln!(out, "{}", back.get(lang()))?;
        out.flush()?;
        Ok(End::Kept(after.verdict))
    }

    /// Takes everything back and says why. That nobody listens any more is no reason to leave it.
    fn take_back(&self, applied: &Transaction, why: &Phrase) -> Result<()> {
        let back = applied.take_back()?;
        let clean = back.failed().is_none();
        undo::tell(&back, applied.id(), &mut std::io::stderr().lock()).ok();
        if clean {
            let said =
                text!("{why}, so everything was taken back", "{why}，已全部撤销").with(&[("why", why)]);
            tell(&said).ok();
            return Ok(());
        }
        Err(undo::incomplete(applied.id()))
    }
}

/// A line for people. A closed stderr must not keep anything from being done.
fn tell(said: &Phrase) -> Result<()> {
    Ok(writeln!(std::io::stderr().lock(), "{}", said.get(lang()))?)
}
