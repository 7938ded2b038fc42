//! `mtu.pmtu_blackhole`: packets too big for a hop vanish without an ICMP answer.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::{Loss, missing};
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::snapshot::Socket;
use whydrop_model::{Cause, Phrase, ProbeResult, Text, text};

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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Mib], judge };

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
const WAITS: Text = text!(
    "{local} of {target} waits for an acknowledgement of full segments for {seconds} s, and takes the path's MTU for {mtu}",
    "{target} 的 {local} 等待满长度报文段的确认已 {seconds} 秒，并认为路径 MTU 为 {mtu}"
);
const NARROW: Text = text!(
    "{dev} of {target} has an MTU of {mtu}, less than the ends",
    "{target} 的 {dev} 的 MTU 为 {mtu}，小于两端"
);
const REFUSED: Text = text!(
    "{target} could not forward {n} {n|packet that was|packets that were} too big",
    "{target} 有 {n} 个包因过大无法转发"
);
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

/// So long without an acknowledgement, in seconds, the pause between two repeats is about as long as a window.
const LONG: f64 = 3.0;

/// Nothing in sight is a weak witness for what is out of sight.
const BY_EXCLUSION: f64 = 0.8;

/// The kernel's name for a packet that is larger than the next link takes and may not be cut.
const TOO_BIG: &str = "PKT_TOO_BIG";

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut paths: BTreeMap<IpAddr, Path<'_>> = BTreeMap::new();
    for flow in space.case.flows.iter().filter(|flow| reporter(space, flow)) {
        let Some(address) = flow.address else { continue };
        let witnesses: Vec<_> =
            flow.probe().and_then(probed).into_iter().chain(stalled(space, flow)).collect();
        if !witnesses.is_empty() {
            let path = paths.entry(address).or_insert_with(|| Path { flows: vec![], witnesses: vec![] });
            path.flows.push(flow);
            path.witnesses.extend(witnesses);
        }
    }
    paths.into_iter().map(|(address, path)| culprit(space, address, path)).collect::<Vec<_>>().into()
}

/// Flows to one address that lose what is big, and what speaks for it.
struct Path<'a> {
    flows: Vec<&'a Flow<'a>>,
    witnesses: Vec<(Phrase, &'static str)>,
}

fn culprit<'a>(space: Space<'a>, address: IpAddr, path: Path<'a>) -> Culprit<'a> {
    let Path { flows, witnesses } = path;
    let unseen = flows.iter().any(|flow| flow.leaves_sight());
    let answers = flows.iter().flat_map(|flow| missing::too_big(space.case, flow)).collect();
    let ids: Vec<usize> = flows.iter().map(|flow| flow.id).collect();
    Culprit::new(space, &CAUSE, "path", Scope::Route, format!("path to {address}"))
        .reaches()
        .at_most(if unseen { BY_EXCLUSION } else { 1.0 })
        .names_roots()
        .misses(answers)
        .takes(move |loss| takes(space, &flows, loss))
        // What certainly takes the flow's packets explains as much.
        .harms(move |flow| if ids.contains(&flow.id) { Fit::Maybe } else { Fit::No })
        .tell(move |_| {
            let story = Story::new(SUMMARY.fill(&[("address", &address)])).fix(manual(CLAMP));
            witnesses.iter().fold(story, |story, (claim, source)| story.evidence(claim.clone(), source, &[]))
        })
}

/// Packets of the flows that a hop found too big.
fn takes<'a>(space: Space<'a>, flows: &[&'a Flow<'a>], loss: &Loss<'a>) -> Fit {
    let too_big = loss.reason() == Some(TOO_BIG);
    let there = loss.inode.and_then(|inode| space.case.space_by_inode(inode));
    let passes = |flow: &&Flow<'_>| there.is_some_and(|there| flow.visits(there));
    match loss.event {
        _ if !too_big || !flows.iter().any(passes) => Fit::No,
        Some(event) => {
            let ends = [event.source, event.destination].map(|end| end.map(|end| end.ip()));
            match flows.iter().any(|flow| ends.contains(&flow.address) && ends.contains(&flow.source)) {
                true => Fit::Yes,
                false => Fit::No,
            }
        }
        None => Fit::Maybe,
    }
}

/// One finding per path: at the target that was asked, else where the flow starts.
fn reporter(space: Space<'_>, flow: &Flow<'_>) -> bool {
    match flow.destination(space.case).filter(|d| d.is_target()) {
        Some(destination) => destination.same(space),
        None => flow.starts_in(space),
    }
}

fn probed(probe: &ProbeResult) -> Option<(Phrase, &'static str)> {
    let pmtu = probe.pmtu.as_ref().filter(|p| p.black_hole)?;
    let (ok, lost) = (pmtu.largest_ok?, pmtu.smallest_lost?);
    Some((PROBED.fill(&[("url", &probe.url), ("ok", &ok), ("lost", &lost)]), "pmtu probe"))
}

/// A connection that opens and then gets no data, although handshakes pass, while a side sends its data again, and a
/// hop of the way is narrower than the ends or says that packets were too big for it. A hop out of sight is the
/// answer if nothing in sight is.
fn stalled(space: Space<'_>, flow: &Flow<'_>) -> Vec<(Phrase, &'static str)> {
    let mut out = vec![];
    let mut resent = None;
    let mut widest = ETHERNET;
    match (flow.probe(), flow.conversation()) {
        (Some(probe), _) => {
            let waits = |h: &whydrop_model::probe::Http| {
                h.connect_ms.is_some() && h.error.as_deref() == Some("timeout")
            };
            if !probe.http.as_ref().is_some_and(waits) || handshakes_are_lost(space, flow) {
                return vec![];
            }
            out.push((STALLED.fill(&[("url", &probe.url)]), "http"));
        }
        // Data that was not acknowledged for long is sent again seldom.
        (None, Some(talk))
            if talk.syn_repeats == 0
                && (talk.data_repeats >= RETRANSMISSIONS
                    || talk.data_repeats > 0 && flow.trouble.stalled_seconds.is_some_and(|s| s >= LONG)) =>
        {
            let target = flow.home(space.case).unwrap_or(space).target().name.as_str();
            resent = Some((RESENT.fill(&[("target", &target), ("n", &talk.data_repeats)]), "flows"));
        }
        // After some time a window passes without any repeat: then only the sender's socket tells.
        (None, Some(talk)) if talk.syn_repeats + talk.data_repeats == 0 => match stuck(space, flow) {
            Some((phrase, mtu)) => {
                resent = Some((phrase, "sockets"));
                widest = mtu;
            }
            None => return vec![],
        },
        _ => return vec![],
    }
    let mut hops = vec![];
    for there in space.case.spaces().filter(|s| flow.visits(*s)) {
        let target = there.target().name.as_str();
        let again = there.mib("Tcp.RetransSegs").saturating_sub(there.mib("TcpExt.TCPSynRetrans"));
        if again >= RETRANSMISSIONS && flow.probe().is_some() {
            resent = Some((RESENT.fill(&[("target", &target), ("n", &again)]), "/proc/net/snmp"));
        }
        let too_big = there.mib("Ip.FragFails");
        if too_big > 0 && flow.is_forwarded_by(there) {
            hops.push((REFUSED.fill(&[("target", &target), ("n", &too_big)]), "Ip.FragFails"));
        }
        let ends = |link: &&whydrop_model::snapshot::Link| {
            flow.passes(there, link.index) && flow.is_forwarded_by(there)
        };
        for link in there.links().filter(ends).filter(|l| l.mtu < widest) {
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("dev", &link.name), ("target", &target), ("mtu", &link.mtu)];
            hops.push((NARROW.fill(&words), "links"));
        }
    }
    // Of a program's data anything may happen out of sight; only the request of a probe is known to be whole.
    if hops.is_empty() && flow.leaves_sight() && flow.probe().is_some() {
        hops.push((UNSEEN.phrase(), "counters"));
    }
    match resent {
        Some(resent) if !hops.is_empty() => out.into_iter().chain([resent]).chain(hops).collect(),
        _ => vec![],
    }
}

/// The end of a flow whose full segments were not acknowledged for long, and the MTU that it believes its path has.
fn stuck(space: Space<'_>, flow: &Flow<'_>) -> Option<(Phrase, u32)> {
    let seconds = flow.trouble.stalled_seconds.filter(|seconds| *seconds >= LONG)?;
    let (source, address) = (flow.source?, flow.address?);
    let is_end = |s: &Socket| {
        let ends = (s.local.ip().to_canonical(), s.remote.ip().to_canonical());
        let forth = ends == (source, address) && flow.port == Some(s.remote.port());
        forth || ends == (address, source) && flow.port == Some(s.local.port())
    };
    space.case.spaces().find_map(|there| {
        let open = there.after.sockets.iter().filter(|s| s.state == "established" && is_end(s));
        let mut waiting = open.filter_map(|s| Some((s, s.tcp.as_ref()?)));
        let (socket, tcp) = waiting.find(|(socket, tcp)| {
            tcp.unacked > 0 && tcp.backoff > 0 && tcp.snd_mss > 0 && socket.send_queue >= tcp.snd_mss
        })?;
        let seconds = format!("{seconds:.0}");
        let words: [(&str, &dyn std::fmt::Display); 4] = [
            ("local", &socket.local),
            ("target", &there.target().name),
            ("seconds", &seconds),
            ("mtu", &tcp.pmtu),
        ];
        Some((WAITS.fill(&words), tcp.pmtu))
    })
}

/// True if not even small packets get through to where the flow goes.
fn handshakes_are_lost(space: Space<'_>, flow: &Flow<'_>) -> bool {
    let syn = |other: &Flow<'_>| other.probe().is_some_and(|probe| probe.method == "syn");
    let same = |other: &&Flow<'_>| other.address == flow.address && syn(other);
    space.case.flows.iter().filter(same).any(|other| other.lost() > 0)
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::Reading;
    use whydrop_model::snapshot::{Protocol, TcpInfo};

    /// A client that sends to a host behind the server, whose next network has this MTU; the client believes in 1500, and
    /// so many bytes have waited for an acknowledgement so long that none is sent again in the window.
    fn stuck(mtu: u32, waiting: u32) -> World {
        let mut world = World::pair();
        world.both(CLIENT, |s| {
            let (Reading::Present(routes), Reading::Present(sockets)) = (&mut s.routes, &mut s.sockets)
            else {
                panic!("routes and sockets")
            };
            routes.push(route("10.9.0.0/24", "unicast", Some("10.0.0.2"), Some(2)));
            let mut sender = socket(Protocol::Tcp, "10.0.0.1:40000");
            (sender.state, sender.remote) = ("established".into(), "10.9.0.9:80".parse().unwrap());
            (sender.cookie, sender.send_queue) = (5, waiting);
            let sent = TcpInfo { snd_mss: 1448, pmtu: 1500, unacked: 1, ..TcpInfo::default() };
            let again = TcpInfo { retransmits: 6, backoff: 6, last_ack_recv_ms: 20_000, ..sent };
            sender.tcp = Some(again);
            sockets.push(sender);
        });
        world.both(SERVER, |s| {
            let (Reading::Present(links), Reading::Present(routes)) = (&mut s.links, &mut s.routes) else {
                panic!("links and routes")
            };
            let mut narrow = veth(3, "eth1", 9999);
            narrow.mtu = mtu;
            links.push(narrow);
            routes.push(route("10.9.0.0/24", "unicast", None, Some(3)));
        });
        world.talk(CLIENT, "10.9.0.9:80");
        world
    }

    #[test]
    fn full_segments_that_wait_before_a_narrow_hop_tell_without_a_repeat() {
        let path = ["mtu.pmtu_blackhole @ netns:client: path to 10.9.0.9"];
        assert_eq!(stuck(1300, 20_000).found(), path);
        // What is small, or fits, waits for another reason.
        let beyond = ["path.remote_loss @ netns:client: path to 10.9.0.9"];
        assert_eq!(stuck(1300, 200).found(), beyond);
        assert_eq!(stuck(1500, 20_000).found(), beyond);
    }
}
