//! `whydrop completions`: a script for the shell that also offers the targets of this machine.

use crate::cli::Cli;
use crate::output::print;
use crate::settings::say;
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;
use whydrop_host::census;
use whydrop_model::shell::is_hostile;
use whydrop_model::text;

/// Commands that take targets.
const WITH_TARGETS: [&str; 6] = ["diagnose", "fix", "record", "stat", "trace", "watch"];

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Shell.
    #[arg(value_enum, required_unless_present = "names", help = say(text!("Shell", "shell")))]
    shell: Option<Shell>,
    /// What the scripts ask for at the Tab key.
    #[arg(long, hide = true)]
    names: bool,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> Result<u8> {
    let Some(shell) = args.shell else {
        let names = census::names();
        // A name that a shell would have to quote is not offered.
        let plain = |name: &&String| {
            name.chars().all(|c| !is_hostile(c) && (c.is_alphanumeric() || "-_.:/@".contains(c)))
        };
        let lines: String = names.iter().filter(plain).map(|name| format!("{name}\n")).collect();
        print(lines.as_bytes())?;
        return Ok(0);
    };
    let mut script = vec![];
    clap_complete::generate(shell, &mut Cli::command(), "whydrop", &mut script);
    let script = String::from_utf8(script)?;
    print((script + &targets(shell)).as_bytes())?;
    Ok(0)
}

/// What is added to the generated script. Defining it runs nothing.
fn targets(shell: Shell) -> String {
    match shell {
        Shell::Bash => BASH.replace("COMMANDS", &WITH_TARGETS.join("|")),
        Shell::Zsh => ZSH.replace("COMMANDS", &WITH_TARGETS.join("|")),
        Shell::Fish => FISH.replace("COMMANDS", &WITH_TARGETS.join(" ")),
        _ => String::new(),
    }
}

/// A colon ends a word in COMP_WORDBREAKS, so what stands before it is taken off again.
const BASH: &str = r#"
_whydrop_targets() {
    _whydrop "$@"
    case "${COMP_WORDS[1]}" in COMMANDS) ;; *) return 0 ;; esac
    local line="${COMP_LINE:0:COMP_POINT}"
    local word="${line##* }" name
    [[ $word == -* ]] && return 0
    local before="${word%"${word##*:}"}"
    while IFS= read -r name; do
        [[ $name == "$word"* ]] && COMPREPLY+=("${name#"$before"}")
    done < <(whydrop completions --names 2>/dev/null)
    return 0
}
complete -F _whydrop_targets -o nosort -o bashdefault -o default whydrop
"#;

const ZSH: &str = r#"
_whydrop_targets() {
    _whydrop "$@"
    [[ ${words[2]} == (COMMANDS) && ${words[CURRENT]} != -* ]] || return 0
    local -a names
    names=(${(f)"$(whydrop completions --names 2>/dev/null)"})
    compadd -a names
}
compdef _whydrop_targets whydrop
"#;

const FISH: &str = r#"
complete -c whydrop -n "__fish_seen_subcommand_from COMMANDS" -f -a "(whydrop completions --names 2>/dev/null)"
"#;
