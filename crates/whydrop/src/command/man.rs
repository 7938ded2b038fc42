//! `whydrop man`: the manual, a page for the program and one for each command.

use crate::cli::Cli;
use crate::failure::Refusal;
use crate::output::print;
use crate::settings::say;
use anyhow::Result;
use clap::CommandFactory;
use whydrop_model::shell::sanitize;
use whydrop_model::text;
use whydrop_report::error::Problem;
use whydrop_report::nearest::nearest;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// The command.
    #[arg(value_name = "COMMAND", help = say(text!("The page of this command", "该命令的手册页")))]
    command: Option<String>,
    /// What makers of packages ask for.
    #[arg(long, hide = true, conflicts_with = "command")]
    list: bool,
}

/// Runs the command.
pub fn run(args: &ManArgs) -> Result<u8> {
    let mut program = Cli::command();
    // Gives each command its full name.
    program.build();
    let mut page = vec![];
    if args.list {
        let commands = program.get_subcommands().map(|command| format!("whydrop-{}\n", command.get_name()));
        page.extend(std::iter::once("whydrop\n".to_owned()).chain(commands).flat_map(String::into_bytes));
    } else if let Some(name) = &args.command {
        let Some(command) = program.find_subcommand(name) else { return Err(unknown(name, &program)) };
        let title = format!("whydrop-{}", command.get_name());
        let source = format!("whydrop {}", env!("CARGO_PKG_VERSION"));
        clap_mangen::Man::new(command.clone()).title(title).source(source).render(&mut page)?;
    } else {
        clap_mangen::Man::new(program).render(&mut page)?;
    }
    print(&page)?;
    Ok(0)
}

fn unknown(name: &str, program: &clap::Command) -> anyhow::Error {
    let close = nearest(name, program.get_subcommands().map(clap::Command::get_name));
    let name = sanitize(name, 80);
    let what = text!("whydrop has no command \"{name}\"", "whydrop 没有 \"{name}\" 这个命令");
    Refusal(Problem { what: what.fill(&[("name", &name)]), close, ..Problem::default() }).into()
}
