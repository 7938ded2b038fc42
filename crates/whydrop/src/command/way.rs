//! `whydrop way`: what the tables of this machine would do to a packet, step by step. Sends nothing.

use crate::failure::Refusal;
use crate::output::{answer, print};
use crate::settings::{Colour, lang, say};
use crate::signals;
use anyhow::Result;
use std::time::Duration;
use whydrop_checks::course::{Question, course};
use whydrop_host::containers::Engines;
use whydrop_host::observe::{self, Plan};
use whydrop_host::{powers, probing, targets};
use whydrop_model::course::CourseEnd;
use whydrop_model::shell::sanitize;
use whydrop_model::text;
use whydrop_probe::{ProbeSpec, Scheme};
use whydrop_report::course as page;
use whydrop_report::error::Problem;
use whydrop_report::text::Options;

/// Arguments of `way`.
#[derive(Debug, clap::Args)]
pub struct WayArgs {
    /// What is asked.
    #[arg(value_name = "URL", help = say(text!(
        "tcp://host:port, udp://host:port, icmp://host, http://host/path",
        "tcp://主机:端口、udp://主机:端口、icmp://主机、http://主机/路径")))]
    pub url: String,
    /// Where it starts.
    #[arg(long, value_name = "TARGET", help = say(text!("Where the packet starts (default: here)", "包从哪里出发（默认：当前命名空间）")))]
    pub from: Option<String>,
    /// Another namespace to look into.
    #[arg(long, value_name = "TARGET", help = say(text!("Where it should arrive, to be looked into as well", "应到达的目标，一并查看")))]
    pub to: Option<String>,
    /// JSON.
    #[arg(long, help = say(text!("JSON instead of text", "输出 JSON")))]
    pub json: bool,
    /// Colour.
    #[arg(long, value_enum, default_value = "auto", help = say(text!("When to use colours", "何时使用颜色")))]
    pub color: Colour,
}

/// No time passes: the tables are read at one moment.
const WINDOW: Duration = Duration::ZERO;

/// IP protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Runs the command.
pub fn run(args: WayArgs) -> Result<u8> {
    let spec = ProbeSpec::parse(&args.url).map_err(|error| unusable(&args.url, error.phrase()))?;
    let engines = Engines::default();
    let from = match &args.from {
        Some(word) => targets::resolve_with(word, &engines)?,
        None => targets::host()?,
    };
    let to = args.to.as_deref().map(|word| targets::resolve_with(word, &engines)).transpose()?;
    let address = probing::resolve::address(&spec)?;
    let id = from.target.id.clone();
    let plan = Plan {
        targets: std::iter::once(from).chain(to).collect(),
        missing: vec![],
        from: targets::host()?,
        window: WINDOW,
        probes: vec![],
        passive: true,
        trace: false,
        engines,
        calls: false,
    };
    let cancel = signals::cancel_flag()?;
    let observation = observe::observe(&plan, &cancel, &|_| ())?;
    powers::give_up()?;
    let protocol = match spec.scheme {
        Scheme::Udp => UDP,
        Scheme::Icmp | Scheme::Pmtu | Scheme::Path if address.is_ipv6() => ICMPV6,
        Scheme::Icmp | Scheme::Pmtu | Scheme::Path => ICMP,
        Scheme::Tcp | Scheme::Http | Scheme::Https => TCP,
    };
    let port = match spec.scheme {
        Scheme::Http => spec.port.or(Some(80)),
        Scheme::Https => spec.port.or(Some(443)),
        _ => spec.port,
    };
    let question = Question { url: args.url.clone(), protocol, address, port };
    let Some(found) = course(&observation, &id, &question) else {
        let why = text!("the namespace could not be read", "无法读取该命名空间").phrase();
        return Err(unusable(&id, why).into());
    };
    if args.json {
        page::json(&found, lang(), &mut answer())?;
    } else {
        let options = Options { lang: lang(), colour: args.color.stdout(), ..Options::default() };
        let mut text = vec![];
        page::write(&found, &options, &mut text)?;
        print(&text)?;
    }
    Ok(match found.end {
        CourseEnd::Arrives => 0,
        CourseEnd::OutOfSight | CourseEnd::Unclear => 3,
        _ => 1,
    })
}

fn unusable(what: &str, why: whydrop_model::Phrase) -> Refusal {
    let shown = sanitize(what, 120);
    let what = text!("cannot follow \"{what}\"", "无法跟踪 \"{what}\"").fill(&[("what", &shown)]);
    let tries = Some("whydrop way tcp://10.0.0.2:80 --from netns:web".to_owned());
    Refusal(Problem { what, reason: Some(why), tries, ..Problem::default() })
}
