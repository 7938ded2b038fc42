//! `whydrop explain`: a cause id, a counter, a drop reason or a sentence of `netstat -s`, in words.

use crate::failure::Refusal;
use crate::output::print;
use crate::settings::{lang, say};
use anyhow::Result;
use whydrop_host::powers;
use whydrop_host::source::procnet;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::Counters;
use whydrop_model::text;
use whydrop_report::error::Problem;
use whydrop_report::explain::{self, Subject};
use whydrop_report::text::Options;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Name.
    #[arg(value_name = "NAME", num_args = 0.., help = say(text!(
        "A cause id, a counter, a drop reason, or a line of netstat -s; without it, the list",
        "原因编号、计数器、丢包原因码，或 netstat -s 的一行；省略则列出全部")))]
    pub name: Vec<String>,
}

/// Runs the command.
pub fn run(args: ExplainArgs) -> Result<u8> {
    let counters = procnet::mib().ok();
    powers::give_up()?;
    let causes: Vec<_> = whydrop_checks::causes().collect();
    let options = Options { lang: lang(), ..Options::default() };
    let mut text = vec![];
    if args.name.is_empty() {
        explain::write_list(&causes, &options, &mut text)?;
    } else {
        // A sentence of netstat may come unquoted.
        let name = args.name.join(" ");
        let subject = explain::find(&name, &causes).map_err(|near| unknown(&name, near))?;
        explain::write_explain(&subject, now(&subject, counters.as_ref()), &options, &mut text)?;
    }
    print(&text)?;
    Ok(0)
}

/// Value of a counter in the namespace that whydrop runs in, if it is one of those that were read there.
fn now(subject: &Subject<'_>, read: Option<&Counters>) -> Option<u64> {
    let Subject::Counters(counters) = subject else { return None };
    let [counter] = counters.as_slice() else { return None };
    read?.get(counter.id).copied()
}

fn unknown(name: &str, near: Vec<String>) -> anyhow::Error {
    let name = sanitize(name, 80);
    let what = text!(
        "\"{name}\" is no cause, counter or drop reason that whydrop knows",
        "whydrop 不认识 \"{name}\"：既不是原因、计数器，也不是丢包原因码"
    );
    Refusal(Problem { what: what.fill(&[("name", &name)]), close: near, ..Problem::default() }).into()
}
