//! Shared helpers of the whole-program tests.
//!
//! The tests here know the program only as its users do: arguments, exit status, the report as JSON, and what the
//! machine looks like afterwards. They panic with all that the program said, because that is what a failed test shows.

pub mod cri;
pub mod fixing;
pub mod large;
mod namespace;
mod observing;
pub mod probe_net;
mod program;
mod scenario;
mod screen;
mod tracing;
mod web_server;
mod without;

pub use namespace::{Background, Namespace, command};
pub use observing::Observing;
pub use program::{Diagnosis, diagnose, diagnose_as, whydrop};
pub use scenario::{Expect, Scenario};
pub use screen::Screen;
pub use tracing::{Row, Trace, Traced};
pub use web_server::WebServer;
pub use without::{without_calls, without_calls_errno, without_folders, without_root};

/// True if the tests run as root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
