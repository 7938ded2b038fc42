//! pmtu://: echo requests of many sizes that must not be fragmented.

use super::packets::{PATIENCE, Sockets, Way, hear, set_ttl, wait};
use super::{Job, clock, errno_name, fail, icmp};
use crate::error::Result;
use socket2::SockAddr;
use std::net::SocketAddr;
use whydrop_model::{ProbeResult, text};
use whydrop_probe::account::Counts;
use whydrop_probe::codec::What;
use whydrop_probe::icmp::Icmp;
use whydrop_probe::pmtu::{Search, Step};
use whydrop_probe::progress::Event;
use whydrop_probe::stats::interval;

/// Time to live of packets that are not to die on the way.
const FAR: u8 = 64;

/// Searches the path MTU to an address. The counts of the result are those of small packets: what is too big is not
/// lost by chance.
pub fn run(job: &Job<'_>, remote: SocketAddr) -> Result<ProbeResult> {
    let v4 = remote.is_ipv4();
    let raw = icmp::raw(job, v4)?;
    raw.never_fragment(v4)
        .map_err(|e| fail(text!("forbid fragments of {object}", "禁止 {object} 的分片"), job.spec, &e))?;
    let mut sockets = Sockets { raw, icmp: None, devices: None, peer: None };
    let codec = Icmp::new(remote.ip(), std::process::id() as u16);
    let mut way = Way::raw(remote);
    job.tell(Counts::default(), Event::Started { address: remote.ip(), method: "pmtu", because: None });
    let mut search = Search::new(clock::now());
    while !job.cancelled() {
        let now = clock::now();
        match search.poll(now) {
            Step::Done => break,
            Step::Wait(until) => {
                wait(&sockets, until.min(now + PATIENCE).saturating_sub(now)).map_err(|e| {
                    fail(text!("wait for answers of {object}", "等待 {object} 的应答"), job.spec, &e)
                })?;
            }
            Step::Send { seq, size, ttl } => {
                let header = if v4 { 20 } else { 40 };
                let packet = codec.build_sized(seq, (size - header) as usize);
                set_ttl(sockets.raw.socket(), ttl.or(job.spec.ttl).unwrap_or(FAR), v4).map_err(|e| {
                    fail(text!("set the time to live of {object}", "设置 {object} 的 TTL"), job.spec, &e)
                })?;
                let mut to = remote;
                to.set_port(0);
                let to = SockAddr::from(to);
                match way.source().and_then(|_| sockets.raw.socket().send_to(&packet.payload, &to)) {
                    Ok(_) => {
                        search.sent(size, ttl, now, false);
                        let (transmitted, received) = search.base();
                        let counts = Counts {
                            transmitted,
                            received,
                            open: transmitted - received,
                            ..Counts::default()
                        };
                        job.tell(counts, Event::Sent(seq));
                    }
                    Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => search.sent(size, ttl, now, true),
                    Err(e) => return Ok(unsent(&search, errno_name(&e))),
                }
            }
        }
        let Ok(local) = way.source() else { continue };
        hear(&mut sockets, &codec, local, &mut |heard, packet| match heard.what {
            What::Answer(..) | What::Elsewhere(_) => search.answered(heard.seq, packet.at),
            What::IcmpError(error) => search.error(heard.seq, error, packet.at),
        });
    }
    Ok(summarise(&search))
}

fn unsent(search: &Search, errno: &str) -> ProbeResult {
    let mut result = summarise(search);
    result.not_sent = 1;
    result.send_errors.insert(errno.to_owned(), 1);
    result
}

fn summarise(search: &Search) -> ProbeResult {
    let (sent, received) = search.base();
    let pmtu = search.result();
    let mut result = ProbeResult {
        method: "pmtu".into(),
        transmitted: sent,
        received,
        lost: sent - received,
        loss: interval::share(sent - received, sent),
        loss_ci95: interval::clopper_pearson(sent - received, sent, 0.05),
        ..ProbeResult::default()
    };
    if received == 0 && sent > 0 {
        let note = text!(
            "no answer to small echo requests either: the path MTU cannot be told",
            "小的 ICMP 回显请求也没有应答：无法判断路径 MTU"
        );
        result.extra.notes.push(note.phrase());
    }
    if let (true, Some(size)) = (pmtu.black_hole, pmtu.smallest_lost) {
        let place = match search.hole() {
            (Some(last), Some(next)) => text!(
                "black hole: packets of {size} bytes get as far as {last} and vanish before {next}, and nobody says so",
                "黑洞：{size} 字节的包能到达 {last}，在 {next} 之前消失，且没有任何 ICMP 通知"
            )
            .fill(&[("size", &size), ("last", &last), ("next", &next)]),
            (Some(last), None) => text!(
                "black hole: packets of {size} bytes get as far as {last} and vanish behind it, and nobody says so",
                "黑洞：{size} 字节的包能到达 {last}，之后消失，且没有任何 ICMP 通知"
            )
            .fill(&[("size", &size), ("last", &last)]),
            (None, Some(next)) => text!(
                "black hole: packets of {size} bytes vanish before the first router, {next}, and nobody says so",
                "黑洞：{size} 字节的包在第一跳路由器 {next} 之前就已消失，且没有任何 ICMP 通知"
            )
            .fill(&[("size", &size), ("next", &next)]),
            (None, None) => text!(
                "black hole: packets of {size} bytes vanish, and nobody says so",
                "黑洞：{size} 字节的包消失，且没有任何 ICMP 通知"
            )
            .fill(&[("size", &size)]),
        };
        result.extra.notes.push(place);
    }
    result.pmtu = (received > 0).then_some(pmtu);
    result
}
