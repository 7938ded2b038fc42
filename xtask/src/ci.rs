//! placeholder
/// x
#[derive(clap::Args)]
pub struct Options {}
/// x
pub fn run(_: &Options) -> anyhow::Result<()> {
    Ok(())
}
