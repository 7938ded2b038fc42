//! `mtu.pmtu_blackhole`: packets too big for a hop vanish without an ICMP answer.

use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, manual};
use crate::way::Way;
use whydrop_model::{Cause, Phrase, Text, text};

/// What the ends of an ordinary path carry.
const ETHERNET: u32 = 1500;

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "mtu.pmtu_blackhole",
    title: text!(
        "Packets too big for a hop vanish without an ICMP answer",
        "过大的包在途中消失且没有 ICMP 应答"
    ),
    meaning: text!(
        "Somewhere on the way the MTU is smaller than at the ends, and the ICMP message that says so does not arrive.",
        "途中某处的 MTU 小于两端，而告知此事的 ICMP 消息没有到达。"
    ),
    seen_by: text!(
        "A pmtu:// probe found a size above which packets vanish without an ICMP answer; or a connection opens, its data is sent again and again and never arrives while a hop of the way has a smaller MTU.",
        "pmtu:// 探测发现超过某一大小的包消失且没有 ICMP 应答；或连接能建立，但数据反复重传仍无法到达，且途中某一跳的 MTU 更小。"
    ),
    why_lost: text!(
        "Small packets pass, so connections open; the first full segment is lost for ever, and the transfer hangs.",
        "小包能通过，所以连接能建立；第一个满长度报文段却永远丢失，传输挂起。"
    ),
    what_to_do: text!(
        "Let ICMP type 3 code 4 (IPv6: type 2) pass, clamp the MSS to the path MTU, or lower the MTU of the ends; net.ipv4.tcp_mtu_probing=1 helps TCP.",
        "放行 ICMP type 3 code 4（IPv6：type 2），把 MSS 钳制到路径 MTU，或降低两端的 MTU；net.ipv4.tcp_mtu_probing=1 对 TCP 有帮助。"
    ),
    when_wrong: text!(
        "A hung server looks alike to its client, but does not send its data again.",
        "挂起的服务器在客户端看来相似，但它不会重传数据。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[Source::Links, Source::Mib],
    consequence_of: &[
        "mtu.too_small",
        "mtu.peer_mismatch",
        "link.admin_down",
        "link.no_carrier",
        "qdisc.netem_loss",
        "qdisc.shaper_drop",
        "qdisc.queue_limit",
        "qdisc.blackhole",
        "netfilter.drop_rule",
        "netfilter.drop_policy",
        "netfilter.rate_limit",
        "netfilter.quota",
        "conntrack.invalid_drop",
        "tc.action_drop",
        "tc.bpf_drop",
        "tc.police",
        "xdp.drop",
    ],
    judge,
};

const SUMMARY: Text = text!(
    "Packets to {address} that are too big for a hop on the way vanish without an ICMP answer.",
    "发往 {address} 的包若超过途中某一跳的 MTU，就会消失且没有 ICMP 应答。"
);
const PROBED: Text = text!(
    "{url}: {ok} bytes pass, {lost} bytes vanish, no ICMP answer",
    "{url}：{ok} 字节能通过，{lost} 字节消失，没有 ICMP 应答"
);
const STALLED: Text = text!(
    "{url} connected and then stalled: small packets pass, full ones do not",
    "{url} 已连接但随后停滞：小包能通过，满长度的包不能"
);
const RESENT: Text = text!("{target} sent data again {n} times", "{target} 重传数据 {n} 次");
const NARROW: Text = text!(
    "{dev} of {target} has an MTU of {mtu}, less than the ends",
    "{target} 的 {dev} 的 MTU 为 {mtu}，小于两端"
);
const REFUSED: Text =
    text!("{target} could not forward {n} packets that were too big", "{target} 有 {n} 个包因过大无法转发");
const UNSEEN: Text = text!(
    "nothing that was looked at dropped the data, and a part of the way is out of sight",
    "所查看之处均未丢弃这些数据，且部分路径不可见"
);
const CLAMP: Text = text!(
    "let ICMP type 3 code 4 pass, or clamp the MSS: iptables -t mangle -A FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu",
    "放行 ICMP type 3 code 4，或钳制 MSS：iptables -t mangle -A FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu"
);

/// Two segments sent again may be chance; data that never arrives is sent again at least so often in a window.
const RETRANSMISSIONS: u64 = 2;

/// Nothing in sight is a weak witness for what is out of sight.
const BY_EXCLUSION: f64 = 0.8;

fn judge(space: Space<'_>) -> Judgement {
    let mine = |way: &&Way<'_>| reporter(space, way);
    let mut out: Vec<Suspect> = vec![];
    for way in space.case.ways.iter().filter(mine) {
        let Some(address) = way.probe.address else { continue };
        let witnesses = probed(way).into_iter().chain(stalled(space, way)).collect::<Vec<_>>();
        if witnesses.is_empty() {
            continue;
        }
        let subject = format!("path to {address}");
        let index = match out.iter().position(|s| s.finding.subject == subject) {
            Some(index) => index,
            None => {
                let summary = SUMMARY.fill(&[("address", &address)]);
                out.push(Suspect::new(space, &CAUSE, "path", subject, summary).fix(manual(CLAMP)));
                out.len() - 1
            }
        };
        let Some(suspect) = out.get_mut(index) else { continue };
        suspect.touches.push(way.index);
        for (claim, source) in witnesses {
            *suspect = suspect.clone().evidence(claim, source, &[]);
        }
        if way.leaves_sight() {
            *suspect = suspect.clone().at_most(BY_EXCLUSION);
        }
    }
    out.into()
}

/// One finding per path: at the probed target, else where the probe starts.
fn reporter(space: Space<'_>, way: &Way<'_>) -> bool {
    match way.destination(space.case).filter(|d| d.is_target()) {
        Some(destination) => destination.same(space),
        None => way.starts_in(space),
    }
}

fn probed(way: &Way<'_>) -> Option<(Phrase, &'static str)> {
    let pmtu = way.probe.pmtu.as_ref().filter(|p| p.black_hole)?;
    let (ok, lost) = (pmtu.largest_ok?, pmtu.smallest_lost?);
    Some((PROBED.fill(&[("url", &way.probe.url), ("ok", &ok), ("lost", &lost)]), "pmtu probe"))
}

/// A request that connects and then gets no data, although handshakes pass, while a side sends its data again, and a
/// hop of the way is narrower than the ends or says that packets were too big for it. A hop out of sight is the
/// answer if nothing in sight is.
fn stalled(space: Space<'_>, way: &Way<'_>) -> Vec<(Phrase, &'static str)> {
    let waits = way
        .probe
        .http
        .as_ref()
        .is_some_and(|h| h.connect_ms.is_some() && h.error.as_deref() == Some("timeout"));
    let same = |other: &&Way<'_>| other.probe.address == way.probe.address && other.probe.method == "syn";
    if !waits || space.case.ways.iter().filter(same).any(|other| other.lost() > 0) {
        return vec![];
    }
    let mut hops = vec![];
    let mut resent = None;
    for there in space.case.spaces().filter(|s| way.visits(*s)) {
        let target = there.target().name.as_str();
        let again = there.mib("Tcp.RetransSegs").saturating_sub(there.mib("TcpExt.TCPSynRetrans"));
        if again >= RETRANSMISSIONS {
            resent = Some((RESENT.fill(&[("target", &target), ("n", &again)]), "/proc/net/snmp"));
        }
        let too_big = there.mib("Ip.FragFails");
        if too_big > 0 && way.is_forwarded_by(there) {
            hops.push((REFUSED.fill(&[("target", &target), ("n", &too_big)]), "Ip.FragFails"));
        }
        let ends = |link: &&whydrop_model::snapshot::Link| {
            way.passes(there, link.index) && way.is_forwarded_by(there)
        };
        for link in there.links().filter(ends).filter(|l| l.mtu < ETHERNET) {
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("dev", &link.name), ("target", &target), ("mtu", &link.mtu)];
            hops.push((NARROW.fill(&words), "links"));
        }
    }
    if hops.is_empty() && way.leaves_sight() {
        hops.push((UNSEEN.phrase(), "counters"));
    }
    match resent {
        Some(resent) if !hops.is_empty() => {
            let stall = (STALLED.fill(&[("url", &way.probe.url)]), "http");
            std::iter::once(stall).chain([resent]).chain(hops).collect()
        }
        _ => vec![],
    }
}
