//! Capabilities of this process, by name.

use std::io;

/// Names of the effective capabilities of the calling thread, `CAP_NET_ADMIN` style, in the kernel's order. Those
/// that this build has no name for are left out.
pub fn effective() -> io::Result<Vec<String>> {
    let sets = rustix::thread::capabilities(None)?;
    Ok(sets.effective.iter_names().map(|(name, _)| format!("CAP_{name}")).collect())
}
