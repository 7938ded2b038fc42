//! ioctl SIOCETHTOOL: driver statistics and settings of an interface.
#![allow(unsafe_code)] // ioctl with structures of variable length

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::ffi::c_char;
use std::io;
use std::os::fd::AsRawFd;

const ETHTOOL_GSET: u32 = 0x01;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_GPAUSEPARAM: u32 = 0x12;
/// ETHTOOL_GRXCSUM: checksums of received packets are verified by the device.
pub const RX_CHECKSUM: u32 = 0x14;
/// ETHTOOL_GTXCSUM: checksums of sent packets are filled in by the device.
pub const TX_CHECKSUM: u32 = 0x16;
/// ETHTOOL_GTSO: the device splits TCP.
pub const TSO: u32 = 0x1e;
/// ETHTOOL_GGSO: the kernel splits late.
pub const GSO: u32 = 0x23;
/// ETHTOOL_GGRO: the kernel joins what it receives.
pub const GRO: u32 = 0x2b;
const ETH_SS_STATS: u32 = 1;
/// ETH_GSTRING_LEN in u64.
const NAME: usize = 4;
/// The kernel writes as many entries as the driver has at the time of the call, whatever the caller said
/// (net/ethtool/ioctl.c:ethtool_get_stats): queues that are added between two calls must still fit.
const SLACK: usize = 8192;
/// More than any driver has; a larger number is not believed.
const MAX_STATS: usize = 65536;

/// A socket for ethtool requests about interfaces of the namespace in which it was opened.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
    /// Kept from device to device, since clearing it costs more than the calls.
    names: Vec<u64>,
    values: Vec<u64>,
}

impl Ethtool {
    /// Opens it for the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let kind = SocketType::DGRAM;
        let socket = rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, names: Vec::new(), values: Vec::new() })
    }

    /// Names and values of the driver's statistics as raw bytes: 32 bytes for each name, 8 for each value. Fails with
    /// EOPNOTSUPP if the driver has none. Needs no privilege.
    pub fn statistics(&mut self, interface: &str) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut request = request(interface);
        // struct ethtool_sset_info: cmd, reserved, mask (64 bits), one u32 for each bit of the mask.
        let mut info = [pair(ETHTOOL_GSSET_INFO, 0), 1 << ETH_SS_STATS, 0];
        // SAFETY: the mask has one bit, for which the kernel writes one u32 behind it; there is room for two.
        unsafe { ioctl(&self.socket, &mut request, &mut info) }?;
        let [_, mask, count] = info;
        let count = if mask == 0 { 0 } else { halves(count).0 as usize };
        if count == 0 || count > MAX_STATS {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        // struct ethtool_gstrings: cmd, string set, number, then the names from byte 12 on.
        let head = [pair(ETHTOOL_GSTRINGS, ETH_SS_STATS), pair(count as u32, 0)];
        begin(&mut self.names, &head, (count + SLACK) * NAME);
        // SAFETY: the kernel writes 12 bytes and 32 for each statistic of the driver; there is room for SLACK more
        // of them than it just said.
        unsafe { ioctl(&self.socket, &mut request, &mut self.names) }?;
        let named = self.names.get(1).map_or(0, |word| halves(*word).0 as usize);
        // struct ethtool_stats: cmd, number, then the values from byte 8 on.
        begin(&mut self.values, &[pair(ETHTOOL_GSTATS, count as u32)], count + SLACK);
        // SAFETY: the kernel writes 8 bytes and 8 for each statistic of the driver; there is room for SLACK more of
        // them than it just said.
        unsafe { ioctl(&self.socket, &mut request, &mut self.values) }?;
        let valued = self.values.first().map_or(0, |word| halves(*word).1 as usize);
        if named != count || valued != count {
            return Err(io::Error::other("the driver changed its list of statistics meanwhile"));
        }
        Ok((bytes(&self.names, 12, count * NAME * 8), bytes(&self.values, 8, count * 8)))
    }

    /// Name of the driver (ETHTOOL_GDRVINFO), NUL-padded. Needs no privilege.
    pub fn driver(&mut self, interface: &str) -> io::Result<[u8; 32]> {
        // struct ethtool_drvinfo has 196 bytes.
        let mut data = [0; 25];
        data[0] = pair(ETHTOOL_GDRVINFO, 0);
        // SAFETY: the kernel writes one struct ethtool_drvinfo; there is room for 200 bytes.
        unsafe { ioctl(&self.socket, &mut request(interface), &mut data) }?;
        let name = bytes(&data, 4, 32);
        name.try_into().map_err(|_| io::Error::other("a driver name of the wrong length"))
    }

    /// Rings (ETHTOOL_GRINGPARAM): largest and present size, receive then transmit, in descriptors.
    pub fn rings(&mut self, interface: &str) -> io::Result<[(u32, u32); 2]> {
        let mut data = [pair(ETHTOOL_GRINGPARAM, 0), 0, 0, 0, 0];
        // SAFETY: the kernel writes one struct ethtool_ringparam of 36 bytes; there is room for 40.
        unsafe { ioctl(&self.socket, &mut request(interface), &mut data) }?;
        let [a, _, c, _, e] = data.map(halves);
        Ok([(a.1, c.1), (c.0, e.0)])
    }

    /// Speed, duplex and what both ends can (ETHTOOL_GSET): struct ethtool_cmd without its first word.
    pub fn wire(&mut self, interface: &str) -> io::Result<[u8; 40]> {
        let mut data = [pair(ETHTOOL_GSET, 0), 0, 0, 0, 0, 0];
        // SAFETY: the kernel writes one struct ethtool_cmd of 44 bytes; there is room for 48.
        unsafe { ioctl(&self.socket, &mut request(interface), &mut data) }?;
        let settings = bytes(&data, 4, 40);
        settings.try_into().map_err(|_| io::Error::other("settings of the wrong length"))
    }

    /// Flow control (ETHTOOL_GPAUSEPARAM): negotiated, receives and sends pause frames.
    pub fn pause(&mut self, interface: &str) -> io::Result<(bool, bool, bool)> {
        let mut data = [pair(ETHTOOL_GPAUSEPARAM, 0), 0];
        // SAFETY: the kernel writes one struct ethtool_pauseparam of 16 bytes; there is room for them.
        unsafe { ioctl(&self.socket, &mut request(interface), &mut data) }?;
        let [a, b] = data.map(halves);
        Ok((a.1 != 0, b.0 != 0, b.1 != 0))
    }

    /// One offload by its old command such as [`GRO`]: on or off.
    pub fn offload(&mut self, interface: &str, command: u32) -> io::Result<bool> {
        let mut data = [pair(command, 0)];
        // SAFETY: the kernel writes one struct ethtool_value of 8 bytes; there is room for them.
        unsafe { ioctl(&self.socket, &mut request(interface), &mut data) }?;
        let [word] = data.map(halves);
        Ok(word.1 != 0)
    }
}

/// A request about an interface; the kernel reads at most 15 bytes of a name.
fn request(interface: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(interface.bytes()) {
        *to = from as c_char;
    }
    request
}

/// # Safety
/// `data` begins with an ethtool command, and is as large as what the kernel writes for it.
unsafe fn ioctl(socket: &OwnedFd, request: &mut libc::ifreq, data: &mut [u64]) -> io::Result<()> {
    request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
    // SAFETY: the request is a live ifreq with a terminated name, whose data pointer is that of a live buffer that
    // is large enough, by the contract of this function.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts `head` at the start of a buffer that has room for `more` words behind it.
fn begin(buffer: &mut Vec<u64>, head: &[u64], more: usize) {
    buffer.resize(buffer.len().max(head.len() + more), 0);
    for (word, value) in buffer.iter_mut().zip(head) {
        *word = *value;
    }
}

/// Two u32 as they stand in memory one after the other.
fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}

/// `length` bytes from byte `start` on.
fn bytes(words: &[u64], start: usize, length: usize) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).skip(start).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_loopback_and_of_nobody() {
        let mut ethtool = Ethtool::open().unwrap();
        assert!(ethtool.offload("lo", GSO).unwrap());
        assert_eq!(ethtool.rings("lo").unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        assert_eq!(ethtool.pause("wd-nobody").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn loopback_has_no_statistics_and_nobody_is_no_device() {
        let mut ethtool = Ethtool::open().unwrap();
        assert_eq!(ethtool.statistics("lo").unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        assert_eq!(ethtool.statistics("wd-nobody").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(halves(pair(1, 2)), (1, 2));
    }
}
