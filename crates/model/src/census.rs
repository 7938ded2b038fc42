//! What there is on a machine to diagnose: its network namespaces, each with its names and a first look.

use crate::reading::Reading;
use crate::snapshot::{Address, Counters, Link};
use crate::target::Target;
use serde::{Deserialize, Serialize};

/// All namespaces that have a name or a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Census {
    /// The own one first, then those with a name, then those that only processes hold.
    pub namespaces: Vec<Resident>,
    /// What could not be looked at, by source: `docker`, `processes`, `netns:old`.
    pub unseen: Vec<(String, Reading<()>)>,
}

/// One namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resident {
    /// By the name that people use: a container's, that of the namespace, else a process.
    pub target: Target,
    /// Other words that lead to it.
    pub aliases: Vec<String>,
    /// How many processes are in it; none if none is seen there and those of others are hidden.
    pub processes: Option<usize>,
    /// Names of their programs, the most frequent first.
    pub programs: Vec<String>,
    /// Its interfaces, addresses and counters; denied without the privilege to enter it.
    pub glance: Reading<Glance>,
}

/// What a first look at a namespace gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Glance {
    /// Interfaces with their counters.
    pub links: Reading<Vec<Link>>,
    /// Addresses.
    pub addresses: Reading<Vec<Address>>,
    /// As in [`crate::Snapshot`].
    pub mib: Reading<Counters>,
    /// As in [`crate::Snapshot`].
    pub mib6: Reading<Counters>,
}
