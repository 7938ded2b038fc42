//! Driver, wire, rings, flow control and offloads of physical interfaces: `ethtool -i`, `-g`, `-a`, `-k` and without option.

use crate::error::{Error, Result};
use crate::sys::ethtool::{self, Ethtool};
use std::collections::BTreeMap;
use std::io;
use whydrop_model::snapshot::{DeviceSettings, Link, Ring, Wire};
use whydrop_model::text;

const OFFLOADS: [(&str, u32); 5] = [
    ("rx-checksum", ethtool::RX_CHECKSUM),
    ("tx-checksum", ethtool::TX_CHECKSUM),
    ("tso", ethtool::TSO),
    ("gso", ethtool::GSO),
    ("gro", ethtool::GRO),
];

/// By device, for those that are not made of software (no kind, no loopback): each question takes the kernel's lock
/// for all interfaces, and the others have neither rings nor wires. A device that vanished meanwhile is left out.
/// Needs no privilege.
pub fn read(links: &[Link]) -> Result<BTreeMap<String, DeviceSettings>> {
    let mut devices = BTreeMap::new();
    let mut physical = links.iter().filter(|link| link.kind.is_none() && !link.loopback).peekable();
    if physical.peek().is_none() {
        return Ok(devices);
    }
    let fail = |object: &str, e: &io::Error| {
        Error::io(text!("read the settings of {object}", "读取 {object} 的设置"), object.to_owned(), e)
    };
    let mut ethtool = Ethtool::open().map_err(|e| fail("ethtool", &e))?;
    for link in physical {
        match device(&mut ethtool, &link.name) {
            Ok(settings) => {
                devices.insert(link.name.clone(), settings);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => (),
            Err(error) => return Err(fail(&link.name, &error)),
        }
    }
    Ok(devices)
}

fn device(ethtool: &mut Ethtool, name: &str) -> io::Result<DeviceSettings> {
    let rings = known(ethtool.rings(name))?;
    let ring =
        |which: usize| rings.and_then(|r| r.get(which).map(|(max, now)| Ring { now: *now, max: *max }));
    let mut offloads = BTreeMap::new();
    for (offload, command) in OFFLOADS {
        offloads.extend(known(ethtool.offload(name, command))?.map(|on| (offload.to_owned(), on)));
    }
    Ok(DeviceSettings {
        driver: known(ethtool.driver(name))?.map(|text| {
            let text = text.split(|b| *b == 0).next().unwrap_or(&text);
            String::from_utf8_lossy(text).into_owned()
        }),
        rx_ring: ring(0),
        tx_ring: ring(1),
        pause: known(ethtool.pause(name))?,
        offloads,
        wire: known(ethtool.wire(name))?.map(|settings| wire(&settings)),
    })
}

/// Speed in megabits per second of the link modes with full duplex (ETHTOOL_LINK_MODE_*_BIT, the 32 that ETHTOOL_GSET
/// knows).
const FULL_MODES: [(u32, u32); 17] = [
    (1, 10),
    (3, 100),
    (5, 1000),
    (12, 10_000),
    (15, 2500),
    (17, 1000),
    (18, 10_000),
    (19, 10_000),
    (21, 20_000),
    (22, 20_000),
    (23, 40_000),
    (24, 40_000),
    (25, 40_000),
    (26, 40_000),
    (27, 56_000),
    (28, 56_000),
    (31, 25_000),
];

/// struct ethtool_cmd without its first word: supported, advertising, speed, duplex, port, address, transceiver,
/// autoneg, mdio, two words, speed_hi, two bytes, lp_advertising, two words.
fn wire(settings: &[u8; 40]) -> Wire {
    let [a, b, c, d, _, _, _, _, low, lower, duplex, _, _, _, negotiated, _, rest @ ..] = *settings;
    let [_, _, _, _, _, _, _, _, high, higher, _, _, e, f, g, h, ..] = rest;
    let best = |modes: u32| {
        FULL_MODES.iter().filter(|(bit, _)| modes & (1 << bit) != 0).map(|(_, speed)| *speed).max()
    };
    let speed = u32::from_ne_bytes(match cfg!(target_endian = "big") {
        true => [high, higher, low, lower],
        false => [low, lower, high, higher],
    });
    Wire {
        // SPEED_UNKNOWN is all ones, of 16 bits in old drivers; a wire without carrier has none.
        speed: Some(speed).filter(|speed| !matches!(*speed, 0 | 0xffff | u32::MAX)),
        full_duplex: match duplex {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        negotiated: negotiated == 1,
        able: best(u32::from_ne_bytes([a, b, c, d])),
        peer_able: best(u32::from_ne_bytes([e, f, g, h])),
    }
}

/// None for what the driver does not have.
fn known<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_at_less_than_both_can() {
        let mut settings = [0; 40];
        settings[..4].copy_from_slice(&0x2f_u32.to_ne_bytes());
        settings[8..10].copy_from_slice(&100_u16.to_ne_bytes());
        (settings[10], settings[14]) = (0, 1);
        settings[28..32].copy_from_slice(&0x0f_u32.to_ne_bytes());
        let known = Wire {
            speed: Some(100),
            full_duplex: Some(false),
            negotiated: true,
            able: Some(1000),
            peer_able: Some(100),
        };
        assert_eq!(wire(&settings), known);
        // virtio without a wire: speed -1, duplex 255.
        settings = [0; 40];
        settings[8..11].fill(0xff);
        settings[24..26].fill(0xff);
        assert_eq!(wire(&settings), Wire::default());
    }

    #[test]
    fn what_a_driver_lacks_is_none_and_an_error_is_one() {
        let refused = |errno| known::<u32>(Err(io::Error::from_raw_os_error(errno)));
        assert_eq!(refused(libc::EOPNOTSUPP).unwrap(), None);
        assert_eq!(refused(libc::EIO).unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(known(Ok(1)).unwrap(), Some(1));
    }
}
