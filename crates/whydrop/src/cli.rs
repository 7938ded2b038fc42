//! The command line: what can be typed, and nothing else. Help texts stand here in both languages.

use crate::command::{
    completions, demo, diagnose, explain, fix, lab, man, probe, record, self_check, stat, targets, trace,
    undo, watch, way,
};
use crate::settings::say;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use whydrop_model::text;

/// The program.
#[derive(Debug, Parser)]
#[command(
    name = "whydrop",
    version,
    about = say(text!("Where are my packets being lost, why, and what ends it?", "我的包丢在哪里、为什么丢、怎样才能不再丢？")),
    after_help = say(text!(
        "Examples:\n  \
         whydrop diagnose nginx                        a container, by name\n  \
         whydrop diagnose nginx --probe http://172.17.0.2/\n  \
         whydrop demo                                  a broken server to look at, then repaired\n\n\
         whydrop changes nothing unless `fix` is asked to, and contacts nobody.",
        "示例：\n  \
         whydrop diagnose nginx                        按名称诊断容器\n  \
         whydrop diagnose nginx --probe http://172.17.0.2/\n  \
         whydrop demo                                  先看一台故障服务器，再看它被修复\n\n\
         除非要求 `fix` 执行，whydrop 不做任何改动，也不联系任何外部主机。"
    )),
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
)]
pub struct Cli {
    /// Language.
    #[arg(long, global = true, overrides_with = "lang", value_name = "en|zh", value_parser = ["en", "zh"],
          help = say(text!("Language (default: from the locale)", "语言（默认取自 locale）")))]
    pub lang: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, by job: find, watch, repair, learn.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The main job.
    #[command(about = say(text!("Find where packets are lost, why, and what ends it", "查明包丢在哪里、为什么丢、如何解决")))]
    Diagnose(diagnose::DiagnoseArgs),
    /// What there is to diagnose.
    #[command(about = say(text!("List the namespaces and containers of this machine, with their losses", "列出本机的命名空间与容器及其丢包概况")))]
    Targets(targets::TargetsArgs),
    /// Every counter.
    #[command(about = say(text!("Show every loss counter of every layer, its rise and its meaning", "列出各层全部丢包计数器、增量与含义")))]
    Stat(stat::StatArgs),
    /// The live view.
    #[command(about = say(text!("Watch on a full screen what is lost, where, and since which change", "全屏实时查看：丢了什么、在哪里、自哪次改动起")))]
    Watch(watch::WatchArgs),
    /// Active probing.
    #[command(about = say(text!("Probe a port, a page or a path with honest statistics", "以可信的统计探测端口、网页或路径")))]
    Probe(probe::ProbeArgs),
    /// Drops as they happen.
    #[command(about = say(text!("Show the kernel's drops as they happen: reason, place, packet", "实时显示内核丢包：原因、位置、数据包")))]
    Trace(trace::TraceArgs),
    /// The way of a packet.
    #[command(about = say(text!("Show the way of a packet as the tables would treat it; sends nothing", "按各表逐步显示包会经过的路径；不发送任何包")))]
    Way(way::WayArgs),
    /// Plan and apply fixes.
    #[command(about = say(text!("Show the fixes as a plan; with --apply run it and measure again", "列出修复计划；加 --apply 则执行并重新测量")))]
    Fix(fix::FixArgs),
    /// Take the last fix back.
    #[command(about = say(text!("Take the last fix back", "撤销上一次修复")))]
    Undo(undo::UndoArgs),
    /// Take the evidence along.
    #[command(about = say(text!("Record the evidence of a run, to be judged later or elsewhere", "录制一次观察的证据，供以后或在别处判断")))]
    Record(record::RecordArgs),
    /// A broken server to look at.
    #[command(about = say(text!("Build a broken server in namespaces of its own, diagnose and repair it", "在独立命名空间中搭建故障服务器，诊断并修复")))]
    Demo(demo::DemoArgs),
    /// Faults to learn from.
    #[command(about = say(text!("Faults to learn from, in namespaces of their own", "在独立命名空间中制造故障，供学习")))]
    Lab(lab::LabArgs),
    /// Words.
    #[command(about = say(text!("Explain a cause, a counter or a drop reason", "解释一个原因、计数器或丢包原因码")))]
    Explain(explain::ExplainArgs),
    /// What can be seen here.
    #[command(about = say(text!("What whydrop can and cannot see on this machine, and why", "whydrop 在本机能看到什么、看不到什么，以及原因")))]
    SelfCheck(self_check::SelfCheckArgs),
    /// Shell completions.
    #[command(about = say(text!("Print a completion script for a shell", "输出 shell 补全脚本")))]
    Completions(completions::CompletionsArgs),
    /// The manual pages.
    #[command(about = say(text!("Print a manual page (roff)", "输出手册页（roff）")))]
    Man(man::ManArgs),
    /// Whose work is inside.
    #[command(visible_alias = "licenses", about = say(text!("Print the licences of all that this program contains", "输出本程序所含全部组件的许可证")))]
    Licences,
}

/// Parses the command line of this process.
pub fn parse() -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches()?;
    Cli::from_arg_matches(&matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
