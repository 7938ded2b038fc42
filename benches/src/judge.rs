//! Judging what is as large as machines are, or as somebody hostile makes it.

use crate::measure::{Comparison, Cost};
use anyhow::Result;
use whydrop_tests::large::KINDS;
use whydrop_tests::whydrop;

/// Each kind of input in this process, against an idle machine's judgement by the whole program.
pub fn run() -> Result<Vec<Comparison>> {
    let idle = whydrop_tests::Scenario::named("healthy/idle").record();
    let of_kind = |(name, size, make): (&str, usize, whydrop_tests::large::Make)| {
        let observation = make(size);
        let judge = || Cost::of_call(|| Ok(whydrop_checks::judge(&observation)));
        let replay = || Cost::of(whydrop().args(["diagnose", "--replay", &idle, "--quiet"]), &[0]);
        Comparison::run(
            &format!("judge {size} {name}"),
            3,
            vec![("whydrop", Box::new(judge)), ("an idle pair, replayed", Box::new(replay))],
        )
    };
    KINDS.into_iter().map(of_kind).collect()
}
