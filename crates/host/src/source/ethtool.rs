//! Driver statistics of each interface: `ethtool -S`.

use crate::error::{Error, Result};
use crate::sys::ethtool::Ethtool;
use netlink_bindings::utils::parse_u64;
use std::collections::BTreeMap;
use whydrop_model::snapshot::Counters;
use whydrop_model::text;

/// ETH_GSTRING_LEN.
const NAME: usize = 32;

/// Statistics by device, for those of `names` whose driver has any; a device that vanished meanwhile is left out.
/// Needs no privilege.
pub fn read<'a>(names: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, Counters>> {
    let mut ethtool = Ethtool::open().map_err(|e| {
        Error::family(
            text!("open {object}", "打开 {object}"),
            text!("a socket for ethtool", "ethtool 所用的套接字"),
            &e,
        )
    })?;
    let mut devices = BTreeMap::new();
    for name in names {
        match ethtool.statistics(name) {
            Ok((names, values)) => {
                devices.insert(name.to_owned(), parse(&names, &values));
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENODEV)) => (),
            Err(error) => {
                return Err(Error::io(
                    text!("read the driver statistics of {object}", "读取 {object} 的驱动统计"),
                    name,
                    &error,
                ));
            }
        }
    }
    Ok(devices)
}

/// Names of 32 bytes (NUL-padded, drivers may pad with blanks too) and values of 8. A name that a driver gives to
/// several statistics gets a number behind it.
fn parse(names: &[u8], values: &[u8]) -> Counters {
    let mut counters = Counters::new();
    for (name, value) in names.chunks_exact(NAME).zip(values.chunks_exact(8).filter_map(parse_u64)) {
        let text = name.split(|b| *b == 0).next().unwrap_or(name);
        let name = String::from_utf8_lossy(text).trim().to_owned();
        if name.is_empty() {
            continue;
        }
        let numbered = (2..).map(|n| format!("{name} ({n})"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|n| !counters.contains_key(n));
        counters.extend(free.map(|n| (n, value)));
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_repeat_are_numbered() {
        let mut names = Vec::new();
        for name in ["rx_drops", " tx_drops ", "rx_drops", ""] {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(NAME, 0);
            names.extend(bytes);
        }
        names.extend([0xff; 7]);
        let values: Vec<u8> = [1u64, 2, 3, 4].into_iter().flat_map(u64::to_ne_bytes).collect();
        let counters = parse(&names, &values);
        let seen: Vec<_> = counters.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        assert_eq!(seen, [("rx_drops", 1), ("rx_drops (2)", 3), ("tx_drops", 2)]);
    }
}
