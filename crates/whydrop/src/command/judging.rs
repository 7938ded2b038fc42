//! Judging by a command that goes on to read or to change.

use whydrop_host::powers;
use whydrop_model::{Observation, Report};

/// The report of what was seen, made by a thread without any privilege: what others wrote is judged, and this command keeps
/// what it needs afterwards. Fails if the thread could not be started or not be narrowed.
pub fn judge_apart(seen: &Observation) -> whydrop_host::error::Result<Report> {
    powers::without(|| whydrop_checks::judge(seen))
}
