//! `whydrop lab`: faults to learn from, in namespaces of their own.

use super::diagnose::{self, DiagnoseArgs, OutputArgs};
use super::observing::{ObserveArgs, parse_duration};
use super::standing::{self, Standing};
use super::target_args::TargetArgs;
use crate::failure::Refusal;
use crate::settings::{lang, say};
use crate::signals;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;
use whydrop_lab::{Fault, Need, State};
use whydrop_model::shell::sanitize;
use whydrop_model::{Phrase, Text, shell, text};
use whydrop_report::error::Problem;
use whydrop_report::nearest::nearest;

/// First part of the names of the namespaces, unless another is wanted.
const NAME: &str = "lab";

/// Arguments of `lab`.
#[derive(Debug, clap::Args)]
pub struct LabArgs {
    /// What to do.
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, clap::Subcommand)]
enum LabCommand {
    /// What there is.
    #[command(about = say(text!("List the faults", "列出故障")))]
    List,
    /// Once.
    #[command(about = say(text!("Set up a fault, diagnose it, clean up", "制造故障，诊断，清理")))]
    Run(RunArgs),
    /// Leave it standing.
    #[command(about = say(text!("Set up a fault and leave it standing", "制造故障并保留现场")))]
    Up(FaultArgs),
    /// Remove it.
    #[command(about = say(text!("Remove what stands", "清理保留的现场")))]
    Down {
        /// Which.
        #[arg(long, value_name = "NAME", help = say(text!("Only the lab of this name", "只清理此名称的现场")))]
        name: Option<String>,
    },
    /// The process behind `up`.
    #[command(hide = true)]
    Hold(FaultArgs),
    /// The process that cleans up after a sudden death.
    #[command(hide = true)]
    Sweep {
        /// Which.
        #[arg(long)]
        name: String,
    },
}

/// Which fault, under which name.
#[derive(Debug, clap::Args)]
struct FaultArgs {
    /// Fault.
    #[arg(value_name = "FAULT", help = say(text!("Id of a fault, see `whydrop lab list`", "故障编号，见 `whydrop lab list`")))]
    fault: String,
    /// Name.
    #[arg(long, value_name = "NAME", default_value = NAME,
          help = say(text!("First part of the names of its namespaces", "其命名空间名称的前缀")))]
    name: String,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    fault: FaultArgs,
    /// Window.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration,
          help = say(text!("How long to observe: 5s, 500ms, 1m", "观察多久：5s、500ms、1m")))]
    duration: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub fn run(args: LabArgs) -> Result<u8> {
    match args.command {
        LabCommand::List => list(),
        LabCommand::Run(args) => run_once(args),
        LabCommand::Up(args) => up(&args),
        LabCommand::Down { name } => down(name.as_deref()),
        LabCommand::Hold(args) => hold(&args),
        LabCommand::Sweep { name } => standing::sweep(&name),
    }
}

fn list() -> Result<u8> {
    let faults = whydrop_lab::list();
    let width = faults.iter().map(|fault| fault.id.len()).max().unwrap_or_default();
    // Each need is tried once, and only by those who may try.
    let root = rustix::process::geteuid().is_root();
    let mut needs: Vec<Need> = vec![];
    for need in faults.iter().filter(|_| root).flat_map(|fault| fault.needs) {
        if !needs.contains(need) {
            needs.push(*need);
        }
    }
    let missing: Vec<(Need, Phrase)> =
        needs.iter().filter_map(|need| Some((*need, need.missing()?))).collect();
    let mut out = std::io::stdout().lock();
    for fault in &faults {
        writeln!(out, "{:width$}  {}", fault.id, fault.title.get(lang()))?;
        if let Some((_, why)) = missing.iter().find(|(need, _)| fault.needs.contains(need)) {
            let note = text!("not on this machine: {why}", "本机无法制造：{why}")
                .fill(&[("why", &sanitize(why.get(lang()), 200))]);
            writeln!(out, "{:width$}  {}", "", note.get(lang()))?;
        }
    }
    let next = text!(
        "\nNext  sudo whydrop lab run qdisc.shaper_drop      set up, diagnose, clean up\n      \
         sudo whydrop lab up qdisc.shaper_drop       leave it standing, to try yourself",
        "\n下一步  sudo whydrop lab run qdisc.shaper_drop    制造、诊断、清理\n        \
         sudo whydrop lab up qdisc.shaper_drop     保留现场，自己动手"
    );
    writeln!(out, "{}", next.get(lang()))?;
    Ok(0)
}

fn run_once(args: RunArgs) -> Result<u8> {
    let mut standing = Standing::build(find(&args.fault.fault)?, &args.fault.name)?;
    standing.lab().break_it()?;
    let args = DiagnoseArgs {
        observe: observe(&mut standing, args.duration),
        output: args.output,
        until_sure: false,
        record: None,
        replay: None,
    };
    // Nothing is given up: the lab has still to be taken down.
    diagnose::judge(&args, || Ok(()))
}

/// What to look at, from where, with which probes.
fn observe(standing: &mut Standing, duration: Duration) -> ObserveArgs {
    let lab = standing.lab();
    ObserveArgs {
        place: TargetArgs { targets: vec![lab.target()], all: false, all_containers: false },
        probes: lab.fault().probes.iter().map(|url| (*url).to_owned()).collect(),
        from: Some(lab.vantage()),
        duration,
        passive: false,
        no_trace: false,
        syscalls: false,
    }
}

fn find(id: &str) -> Result<Fault> {
    whydrop_lab::find(id).ok_or_else(|| {
        let what = text!("no fault is called \"{id}\"", "没有名为 \"{id}\" 的故障");
        Refusal(Problem {
            what: what.fill(&[("id", &sanitize(id, 80))]),
            close: nearest(id, whydrop_lab::list().iter().map(|fault| fault.id)),
            tries: Some("whydrop lab list".to_owned()),
            ..Problem::default()
        })
        .into()
    })
}

const UNHEARD: Text = text!("cannot hear the process that holds the lab", "收不到保留现场的进程的输出");

/// Starts a process that holds the lab, and tells what to try.
fn up(args: &FaultArgs) -> Result<u8> {
    standing::need_root()?;
    let fault = find(&args.fault)?;
    let mut holder = Command::new("/proc/self/exe")
        .args(["--lang", if lang() == whydrop_model::Lang::Zh { "zh" } else { "en" }])
        .args(["lab", "hold", fault.id, "--name", &args.name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(Refusal::new(text!(
            "cannot start the process that holds the lab",
            "无法启动保留现场的进程"
        )))?;
    let (Some(stdout), Some(mut stderr)) = (holder.stdout.take(), holder.stderr.take()) else {
        return Err(Refusal::new(UNHEARD).into());
    };
    // It says in one line what to type, or it ends with an error.
    let mut words = String::new();
    BufReader::new(stdout).read_line(&mut words).context(Refusal::new(UNHEARD))?;
    if words.is_empty() {
        let mut said = String::new();
        stderr.read_to_string(&mut said).context(Refusal::new(UNHEARD))?;
        std::io::stderr().lock().write_all(said.as_bytes())?;
        holder.wait().context(Refusal::new(text!(
            "cannot wait for the process that holds the lab",
            "无法等待保留现场的进程"
        )))?;
        return Ok(2);
    }
    let told = text!(
        "{title}\n\ntry  whydrop diagnose {words}\n     whydrop fix {words}\nend  whydrop lab down --name {name}",
        "{title}\n\n试试  whydrop diagnose {words}\n      whydrop fix {words}\n结束  whydrop lab down --name {name}"
    )
    .fill(&[("title", &fault.title.get(lang())), ("words", &words.trim()), ("name", &args.name)]);
    writeln!(std::io::stdout().lock(), "{}", told.get(lang()))?;
    Ok(0)
}

/// Holds a lab until SIGTERM.
fn hold(args: &FaultArgs) -> Result<u8> {
    let cancel = signals::cancel_flag()?;
    // Away from the terminal of whoever said `up`: closing it must not end the lab.
    rustix::process::setsid().context(Refusal::new(text!("cannot leave the session", "无法脱离会话")))?;
    let mut standing = Standing::build(find(&args.fault)?, &args.name)?;
    standing.lab().break_it()?;
    let words = shell::join(&standing.lab().words());
    writeln!(std::io::stdout().lock(), "{words}")?;
    while !cancel.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(0)
}

fn down(name: Option<&str>) -> Result<u8> {
    let states: Vec<State> =
        State::list()?.into_iter().filter(|state| name.is_none_or(|name| state.name == name)).collect();
    let mut out = std::io::stdout().lock();
    if states.is_empty() {
        writeln!(out, "{}", text!("nothing stands", "没有保留的现场").get(lang()))?;
    }
    for state in states {
        state.take_down()?;
        let (name, fault) = (sanitize(&state.name, 40), sanitize(&state.fault, 80));
        let done = text!("removed {name} ({fault})", "已清理 {name}（{fault}）")
            .fill(&[("name", &name), ("fault", &fault)]);
        writeln!(out, "{}", done.get(lang()))?;
    }
    Ok(0)
}
