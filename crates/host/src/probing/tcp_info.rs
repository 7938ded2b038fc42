//! TCP_INFO of a connection, and its largest segment.
#![allow(unsafe_code)] // getsockopt(TCP_INFO) and TCP_MAXSEG have no safe wrapper.

use socket2::Socket;
use std::mem::{offset_of, size_of, zeroed};
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
    /// Largest segment that this side has told the other to send, in bytes, less the time stamps if they are in use.
    pub advertised: u32,
    /// Path MTU as the kernel knows it, in bytes.
    pub path_mtu: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Bytes received in order; none before Linux 4.1.
    pub bytes_received: Option<u64>,
    /// Retransmission time-out in microseconds.
    pub rto_us: u32,
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
    let reaches = |end: usize| result == 0 && length as usize >= end;
    // The structure grows with every kernel; through tcpi_total_retrans Linux 2.6.12 has it.
    let known = reaches(offset_of!(libc::tcp_info, tcpi_pacing_rate));
    let counts_bytes = reaches(offset_of!(libc::tcp_info, tcpi_segs_out));
    /// TCPI_OPT_TIMESTAMPS.
    const TIMESTAMPS: u8 = 1;
    known.then_some(TcpInfo {
        total_retrans: info.tcpi_total_retrans,
        snd_mss: info.tcpi_snd_mss,
        rcv_mss: info.tcpi_rcv_mss,
        advertised: info.tcpi_advmss,
        path_mtu: info.tcpi_pmtu,
        unacked: info.tcpi_unacked,
        bytes_received: counts_bytes.then_some(info.tcpi_bytes_received),
        rto_us: info.tcpi_rto,
        rtt_us: info.tcpi_rtt,
        timestamps: info.tcpi_options & TIMESTAMPS != 0,
    })
}

/// Bounds the segments of both sides to `mss` bytes of payload and options (TCP_MAXSEG, tcp(7)). Before the connection.
pub fn set_mss(socket: &Socket, mss: u32) -> std::io::Result<()> {
    let mss = libc::c_int::try_from(mss).unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer and the length describe `mss`, which lives through the call.
    let set = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        let fd = socket.as_raw_fd();
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_MAXSEG, (&raw const mss).cast(), length)
    };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
