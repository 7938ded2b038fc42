//! SYN probes as lines in the shape that hping3 gave them, which people know how to read.

use whydrop_model::ProbeResult;
use whydrop_probe::progress::Reply;

/// `len=44 ip=10.0.0.2 ttl=64 DF id=0 sport=80 flags=SA seq=3 win=64240 rtt=7.52 ms`. What was not seen is left out.
pub fn reply(reply: &Reply, port: u16) -> String {
    let mut words = vec![];
    words.extend(reply.length.map(|n| format!("len={n}")));
    words.push(format!("ip={}", reply.from));
    words.extend(reply.ttl.map(|n| format!("ttl={n}")));
    if let Some((fragment_not, id)) = reply.ip {
        words.extend(fragment_not.then(|| "DF".to_owned()));
        words.push(format!("id={id}"));
    }
    words.push(format!("sport={port}"));
    // A connection of the kernel's own shows neither flags nor window.
    let segment = !reply.detail.flags.is_empty();
    words.extend(segment.then(|| format!("flags={}", reply.detail.flags)));
    words.push(format!("seq={}", reply.seq));
    words.extend(segment.then(|| format!("win={}", reply.detail.window)));
    // hping3 gives one decimal; on a veth that is 0.0.
    words.push(format!("rtt={:.2} ms", reply.rtt_ms));
    words.join(" ")
}

/// `20 packets transmitted, 9 packets received, 55% packet loss`; late answers count as lost, as in the report.
pub fn summary(result: &ProbeResult) -> String {
    let loss = result.loss.map_or_else(|| "no".to_owned(), |loss| format!("{:.0}%", loss * 100.0));
    format!(
        "{} packets transmitted, {} packets received, {loss} packet loss",
        result.transmitted, result.received
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use whydrop_probe::account::{Answer, Credit};
    use whydrop_probe::codec::Detail;

    #[test]
    fn what_was_not_seen_is_left_out() {
        let mut seen = Reply {
            seq: 3,
            credit: Credit::OnTime,
            answer: Answer::Reply,
            rtt_ms: 0.5,
            attempt: Some(0),
            from: [10, 0, 0, 2].into(),
            length: None,
            ttl: None,
            ip: None,
            detail: Detail::default(),
        };
        assert_eq!(reply(&seen, 80), "ip=10.0.0.2 sport=80 seq=3 rtt=0.50 ms");
        (seen.length, seen.ttl, seen.ip) = (Some(44), Some(64), Some((true, 0)));
        seen.detail = Detail { flags: "SA".into(), window: 64240, isn: 7 };
        assert_eq!(
            reply(&seen, 80),
            "len=44 ip=10.0.0.2 ttl=64 DF id=0 sport=80 flags=SA seq=3 win=64240 rtt=0.50 ms"
        );
    }
}
