//! struct tcp_info as sock_diag sends it (INET_DIAG_INFO).

use netlink_bindings::utils::{parse_u32, parse_u64};
use whydrop_model::snapshot::{TcpInfo, Timer};

/// What every kernel since 2.6.12 sends: through tcpi_total_retrans.
const SHORTEST: usize = 104;

/// Reads it; `timer` and `timer_ms` are those of the message. None if it is shorter than any kernel's.
pub fn parse(info: &[u8], timer: u8, timer_ms: u32) -> Option<TcpInfo> {
    let byte = |offset: usize| info.get(offset).copied();
    // Offsets of include/uapi/linux/tcp.h, which only ever grows at its end.
    let short = |offset: usize| parse_u32(info.get(offset..)?);
    let long = |offset: usize| parse_u64(info.get(offset..)?);
    info.get(..SHORTEST)?;
    Some(TcpInfo {
        timer: match timer {
            0 => Timer::None,
            1 => Timer::Retransmit,
            2 => Timer::KeepAlive,
            3 => Timer::TimeWait,
            4 => Timer::ZeroWindowProbe,
            _ => Timer::Unknown,
        },
        timer_ms,
        ca_state: byte(1)?,
        retransmits: byte(2)?,
        probes: byte(3)?,
        backoff: byte(4)?,
        rto_us: short(8)?,
        snd_mss: short(16)?,
        rcv_mss: short(20)?,
        unacked: short(24)?,
        sacked: short(28)?,
        lost: short(32)?,
        retrans: short(36)?,
        last_data_sent_ms: short(44)?,
        last_data_recv_ms: short(52)?,
        last_ack_recv_ms: short(56)?,
        pmtu: short(60)?,
        rtt_us: short(68)?,
        snd_cwnd: short(80)?,
        total_retrans: short(100)?,
        bytes_acked: long(120),
        bytes_received: long(128),
        segs_out: short(136),
        segs_in: short(140),
        notsent_bytes: short(144),
        // All ones if none was measured yet.
        min_rtt_us: short(148).filter(|rtt| *rtt != u32::MAX),
        data_segs_in: short(152),
        data_segs_out: short(156),
        busy_us: long(168),
        rwnd_limited_us: long(176),
        sndbuf_limited_us: long(184),
        bytes_sent: long(200),
        bytes_retrans: long(208),
        dsack_dups: short(216),
        rcv_ooopack: short(224),
        snd_wnd: short(228),
        rcv_wnd: short(232),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::torture;

    /// Each byte is the number of the u32 that it is in.
    fn info(length: usize) -> Vec<u8> {
        (0..length).map(|offset| (offset / 4) as u8).collect()
    }

    #[test]
    fn a_whole_one() {
        let read = parse(&info(248), 4, 200).unwrap();
        assert_eq!((read.timer, read.timer_ms), (Timer::ZeroWindowProbe, 200));
        assert_eq!((read.backoff, read.unacked, read.pmtu), (1, 0x0606_0606, 0x0f0f_0f0f));
        assert_eq!(read.total_retrans, 0x1919_1919);
        assert_eq!((read.segs_out, read.min_rtt_us), (Some(0x2222_2222), Some(0x2525_2525)));
        assert_eq!(read.rcv_wnd, Some(0x3a3a_3a3a));
        torture(&info(248), |b| parse(b, 1, 0));
    }

    #[test]
    fn what_an_older_kernel_does_not_send_is_none() {
        assert_eq!(parse(&info(SHORTEST - 1), 0, 0), None);
        let v4_9 = parse(&info(168), 9, 0).unwrap();
        assert_eq!((v4_9.timer, v4_9.data_segs_out), (Timer::Unknown, Some(0x2727_2727)));
        assert_eq!((v4_9.busy_us, v4_9.rwnd_limited_us, v4_9.snd_wnd), (None, None, None));
    }
}
