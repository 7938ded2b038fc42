//! Packet-filter rules of legacy iptables and ip6tables, read with `getsockopt`.
//!
//! The kernel creates a table (and loads its module) when somebody asks for it, so only tables that
//! /proc/thread-self/net/ip_tables_names already lists are asked for: looking changes nothing.

mod entries;
mod socket;

use crate::error::{Error, Result};
use entries::Layout;
use std::io;
use whydrop_model::Reading;
use whydrop_model::netfilter::Chain;
use whydrop_model::text;

const NEEDS: &str = "CAP_NET_ADMIN and CAP_NET_RAW in the network namespace";
/// Tables of the kernel: filter, nat, mangle, raw, security; bounded because the list is read from a file.
const TABLES_MAX: usize = 16;

/// Reads all tables of the calling thread's network namespace; `v6` for ip6tables.
pub fn read(v6: bool) -> Reading<Vec<Chain>> {
    let list =
        if v6 { "/proc/thread-self/net/ip6_tables_names" } else { "/proc/thread-self/net/ip_tables_names" };
    let names = match std::fs::read_to_string(list) {
        Ok(names) => names,
        // Without the module there is no file, and no legacy rule either.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Reading::Absent(format!(
                "the kernel has no legacy {}",
                if v6 { "ip6_tables" } else { "ip_tables" }
            ));
        }
        Err(e) => return Error::io(text!("read {object}", "读取 {object}"), list, &e).reading(NEEDS),
    };
    let tables: Vec<&str> = names.lines().filter(|name| !name.is_empty()).collect();
    if tables.is_empty() {
        return Reading::Present(vec![]);
    }
    match read_tables(&tables, v6) {
        Ok(chains) => Reading::Present(chains),
        Err(error) => error.reading(NEEDS),
    }
}

fn read_tables(tables: &[&str], v6: bool) -> Result<Vec<Chain>> {
    let layout = if v6 { Layout::V6 } else { Layout::V4 };
    let mut chains = vec![];
    for table in tables.iter().take(TABLES_MAX) {
        let read = text!("read the legacy table {object}", "读取 legacy 表 {object}");
        let (info, entries) = socket::table(table, v6).map_err(|e| Error::io(read, *table, &e))?;
        let found = entries::chains(table, &info, &entries, layout);
        chains.extend(found.ok_or_else(|| {
            let why = text!("its entries could not be decoded", "它的条目无法解码").phrase();
            Error::new(read, *table, why)
        })?);
    }
    Ok(chains)
}
