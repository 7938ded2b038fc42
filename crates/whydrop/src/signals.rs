//! SIGINT and SIGTERM end the work early; the second one ends the program.

use crate::failure::Refusal;
use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use whydrop_model::text;

/// A flag that the first SIGINT or SIGTERM sets. The second one exits at once with status 130.
pub fn cancel_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the exit is armed by the flag that the next line sets.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .context(Refusal::new(text!(
                "cannot install the handler of SIGINT",
                "无法安装 SIGINT 的处理程序"
            )))?;
    }
    Ok(flag)
}
