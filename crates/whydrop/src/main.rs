//! The program: command line, settings, one file per command.
#![forbid(unsafe_code)]

mod cli;
mod command;
mod failure;
mod output;
mod progress;
mod settings;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    let lang = settings::early_lang(std::env::args_os().skip(1), |name| std::env::var(name).ok());
    settings::set_lang(lang);
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error, lang),
    };
    match command::run(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => failure::report(&error, lang),
    }
}
