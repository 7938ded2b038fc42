//! The source case: what the whole diagnosis costs, window and probes included.

use crate::measure::{Comparison, Cost};
use anyhow::Result;
use whydrop_tests::{WebServer, whydrop};

/// Exit status of a diagnosis that found loss.
const LOSS: i32 = 1;

/// A web server behind two random DROP rules and an MTU of 100, diagnosed within a window of 3 s.
pub fn run() -> Result<Vec<Comparison>> {
    let web = WebServer::start();
    web.drop_at_random();
    web.shrink_mtu();
    let diagnosis =
        || Cost::of(whydrop().args(web.arguments("diagnose")).args(["--duration", "3s"]), &[LOSS]);
    let comparison =
        Comparison::run("the source case, diagnosed", 3, vec![("whydrop", Box::new(diagnosis))])?;
    Ok(vec![comparison])
}
