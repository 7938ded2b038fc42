//! `whydrop targets`: what there is on this machine to diagnose.

use crate::output::print;
use crate::settings::{self, Colour, lang, say};
use anyhow::Result;
use whydrop_host::{census, powers};
use whydrop_model::text;
use whydrop_report::text::Options;
use whydrop_report::{json, targets};

/// Arguments of `targets`.
#[derive(Debug, clap::Args)]
pub struct TargetsArgs {
    /// Machine-readable.
    #[arg(long, help = say(text!("One JSON document", "输出一份 JSON")))]
    json: bool,
    /// Colour.
    #[arg(long, value_enum, default_value = "auto", help = say(text!("When to use colours", "何时使用颜色")))]
    color: Colour,
    /// Sentences.
    #[arg(long, help = say(text!("Sentences instead of columns", "用句子代替表格")))]
    plain: bool,
}

/// Runs the command.
pub fn run(args: &TargetsArgs) -> Result<u8> {
    let census = census::census();
    powers::give_up()?;
    let mut out = vec![];
    if args.json {
        json::pretty(&targets::document(&census), &mut out)?;
    } else {
        let options = Options {
            lang: lang(),
            colour: args.color.stdout(),
            plain: settings::plain(args.plain),
            ..Options::default()
        };
        targets::write(&census, &options, &mut out)?;
    }
    print(&out)?;
    Ok(0)
}
