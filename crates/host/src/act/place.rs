//! Where a change was made: the same namespace again, by whatever name it goes now.

use crate::error::{Error, Result};
use crate::sys::netns::Netns;
use crate::targets::{self, NETNS_DIR, netns_names};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use whydrop_model::target::{Entry, Target};
use whydrop_model::{Text, text};

/// What tells a namespace from one that gets its inode later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    inode: u64,
    /// Number that is never given twice in one boot; kernels before 5.14 have none.
    cookie: Option<u64>,
}

impl Identity {
    /// Of an open namespace.
    pub fn of(netns: &Netns) -> Result<Self> {
        Ok(Self { inode: netns.inode(), cookie: netns.cookie()? })
    }

    fn is(self, netns: &Netns) -> bool {
        // Opening many namespaces is cheap, entering them is not.
        netns.inode() == self.inode && Self::of(netns).is_ok_and(|found| found == self)
    }
}

/// Opens the namespace of a target again: by its entry, or, if that is gone, by any name or process that has it.
/// Refuses another one that took its place.
pub(super) fn reopen(target: &Target, wanted: Identity) -> Result<Netns> {
    match targets::open(target) {
        Ok(netns) if wanted.is(&netns) => return Ok(netns),
        Ok(_) | Err(_) => (),
    }
    let names = netns_names().into_iter().map(|name| Path::new(NETNS_DIR).join(name));
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter_map(|e| e.file_name().to_str()?.parse().ok()).map(of_pid);
    let found = names.chain(processes).find_map(|path| Netns::open(&path).ok().filter(|n| wanted.is(n)));
    found.ok_or_else(|| {
        refuse(
            target,
            match target.entry {
                Entry::Here => text!("it was made in another namespace", "它是在另一个命名空间中做的"),
                _ => text!("its namespace is gone", "它的命名空间已不存在"),
            },
        )
    })
}

fn of_pid(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// Refuses a target whose name leads to another namespace than the one that is held: what was looked at would not be
/// what its user sees.
pub(super) fn unchanged(target: &Target, netns: &Netns) -> Result<()> {
    if target.entry == Entry::Here {
        return Ok(());
    }
    let wanted = Identity::of(netns)?;
    match targets::open(target) {
        Ok(now) if wanted.is(&now) => Ok(()),
        Ok(_) => Err(refuse(
            target,
            text!("another namespace has taken its place", "它的位置已被另一个命名空间占用"),
        )),
        // Its process may have ended while others go on in there.
        Err(_) => reopen(target, wanted).map(drop),
    }
}

fn refuse(target: &Target, why: Text) -> Error {
    Error::new(text!("enter {object}", "进入 {object}"), target.id.as_str(), why.phrase())
}
