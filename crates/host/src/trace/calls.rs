//! System calls about sockets that failed: the map of `bpf/calls.bpf.h`, read.
//!
//! Where it is asked for, or a table could make calls fail without a packet: while the program is attached, every system
//! call of the machine is slower by some 50 ns.

use super::clock_offset;
use super::flow_layout::{address, error_name};
use super::layout::Reader;
use super::maps;
use super::owner::Owners;
use crate::error::{Error, Result};
use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use whydrop_model::drops::SocketOwner;
use whydrop_model::flow::FailedCall;
use whydrop_model::shell::sanitize;
use whydrop_model::{Phrase, Text, text};

/// Bytes of `struct call_key` and of `struct call`.
const KEY_BYTES: usize = 64;
const CALL_BYTES: usize = 16;
/// Calls that are watched, by name and number; the program knows their places.
const CALLS: [(&str, i64); 8] = [
    ("connect", libc::SYS_connect),
    ("sendto", libc::SYS_sendto),
    ("sendmsg", libc::SYS_sendmsg),
    ("sendmmsg", libc::SYS_sendmmsg),
    ("accept", libc::SYS_accept),
    ("accept4", libc::SYS_accept4),
    ("socket", libc::SYS_socket),
    ("bind", libc::SYS_bind),
];
const MAP: Text = text!("the BPF map calls", "BPF 映射 calls");

/// The numbers, for the program.
pub fn numbers() -> [u32; CALLS.len()] {
    // Numbers of system calls are small.
    CALLS.map(|(_, number)| number as u32)
}

/// The map.
pub struct Calls {
    map: BpfHashMap<MapData, [u8; KEY_BYTES], [u8; CALL_BYTES]>,
    held: Option<BTreeMap<[u8; KEY_BYTES], (u64, u64)>>,
}

impl Calls {
    /// Takes the map.
    pub fn new(map: Map) -> Result<Self> {
        let map = BpfHashMap::try_from(map).map_err(|e| fail(text!("open {object}", "打开 {object}"), &e))?;
        Ok(Self { map, held: None })
    }

    /// Count and time of the last, by key.
    fn counted(&self) -> Result<BTreeMap<[u8; KEY_BYTES], (u64, u64)>> {
        let entry = |entry: std::result::Result<([u8; KEY_BYTES], [u8; CALL_BYTES]), MapError>| {
            let (key, call) = entry.map_err(|e| fail(text!("read {object}", "读取 {object}"), &e))?;
            let mut reader = Reader(&call);
            Ok((key, (reader.u64(), reader.u64())))
        };
        self.map.iter().map(entry).collect()
    }

    /// Counts from zero.
    pub fn restart(&mut self) -> Result<()> {
        maps::empty(&mut self.map).map_err(|e| fail(text!("empty {object}", "清空 {object}"), &e))?;
        self.held = None;
        Ok(())
    }

    /// Counts nothing more.
    pub fn hold(&mut self) -> Result<()> {
        self.held = Some(self.counted()?);
        Ok(())
    }

    /// What failed in the window.
    pub fn totals(&mut self, owners: &mut Owners) -> Result<Vec<FailedCall>> {
        let now = match self.held.take() {
            Some(held) => held,
            None => self.counted()?,
        };
        let offset = clock_offset();
        let mut failed = vec![];
        for (key, (count, last_ns)) in now {
            failed.extend(call(&key, count, last_ns.wrapping_add(offset), owners));
        }
        Ok(failed)
    }
}

/// Reads `struct call_key`; none for a call that is not watched.
fn call(bytes: &[u8; KEY_BYTES], count: u64, last_ns: u64, owners: &mut Owners) -> Option<FailedCall> {
    let mut reader = Reader(bytes);
    let (cgroup, netns, pid) = (reader.u64(), reader.u32(), reader.u32());
    let (number, error) = (i64::from(reader.u32()), reader.u32());
    let comm: [u8; 16] = reader.take();
    let comm: Vec<u8> = comm.into_iter().take_while(|&b| b != 0).collect();
    let remote: [u8; 16] = reader.take();
    let (port, [version, protocol]) = (u16::from_ne_bytes(reader.take()), reader.take());
    let (name, _) = CALLS.iter().find(|(_, known)| *known == number)?;
    Some(FailedCall {
        netns_inode: u64::from(netns),
        owner: SocketOwner {
            pid: Some(pid),
            comm: Some(sanitize(&String::from_utf8_lossy(&comm), 16)),
            cgroup: owners.find(None, Some(cgroup)).and_then(|owner| owner.cgroup),
        },
        call: (*name).to_owned(),
        protocol: (protocol != 0).then_some(protocol),
        remote: address(version, remote).map(|ip| SocketAddr::new(ip, port)),
        error: error_name(error),
        count,
        last_ns,
    })
}

fn fail(operation: Text, error: &MapError) -> Error {
    Error::new(operation, MAP, Phrase::same(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_a_name_and_an_unknown_one_is_left_out() {
        let bytes = |number: u32| {
            let mut bytes = vec![0; 8];
            for word in [0xf000_0001_u32, 77, number, 99] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
            bytes.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend(80_u16.to_ne_bytes());
            bytes.extend([4, 6, 0, 0, 0, 0]);
            <[u8; KEY_BYTES]>::try_from(bytes).expect("the size of the struct")
        };
        let mut owners = Owners::default();
        let known = call(&bytes(libc::SYS_connect as u32), 3, 5, &mut owners).expect("watched");
        assert_eq!((known.call.as_str(), known.error.as_str(), known.count), ("connect", "EADDRNOTAVAIL", 3));
        assert_eq!(
            (known.protocol, known.remote),
            (Some(6), Some("10.0.0.1:80".parse().expect("an address")))
        );
        assert_eq!((known.owner.pid, known.owner.comm.as_deref()), (Some(77), Some("curl")));
        assert!(call(&bytes(9999), 1, 1, &mut owners).is_none());
    }
}
