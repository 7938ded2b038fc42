//! TCP_INFO of a connection.
#![allow(unsafe_code)] // getsockopt(TCP_INFO) has no safe wrapper.

use socket2::Socket;
use std::mem::{size_of, zeroed};
use std::os::fd::AsRawFd;

/// What probes want to know (include/uapi/linux/tcp.h).
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    /// Segments that this side sent again, SYNs included.
    pub total_retrans: u32,
    /// Largest segment sent, in bytes.
    pub snd_mss: u32,
    /// Largest segment seen from the other side, in bytes.
    pub rcv_mss: u32,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u32,
    /// TCP timestamps are in use.
    pub timestamps: bool,
}

/// Reads it; none if the kernel refuses.
pub fn read(socket: &Socket) -> Option<TcpInfo> {
    // SAFETY: tcp_info is plain integers; the kernel fills at most `length` bytes, and older kernels fewer.
    let (result, info, length) = unsafe {
        let mut info: libc::tcp_info = zeroed();
        let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
        let fd = socket.as_raw_fd();
        let result =
            libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length);
        (result, info, length)
    };
    // Through tcpi_total_retrans, which Linux 2.6.12 has.
    let known = result == 0 && length as usize >= size_of::<libc::tcp_info>();
    /// TCPI_OPT_TIMESTAMPS.
    const TIMESTAMPS: u8 = 1;
    known.then_some(TcpInfo {
        total_retrans: info.tcpi_total_retrans,
        snd_mss: info.tcpi_snd_mss,
        rcv_mss: info.tcpi_rcv_mss,
        rtt_us: info.tcpi_rtt,
        timestamps: info.tcpi_options & TIMESTAMPS != 0,
    })
}
