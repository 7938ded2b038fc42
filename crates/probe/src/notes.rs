//! What the pattern of a run means, in words.

use crate::account::Entry;
use crate::codec::Source;
use crate::split::Pattern;
use crate::stats::{self, sequential};
use whydrop_model::probe::{Elsewhere, Flow, SizeLimit};
use whydrop_model::{Phrase, ProbeResult, Text, text};

/// A prober that is held up longer than this tells of a busy machine.
const SLOW_HOST_MS: f64 = 20.0;
/// From this loss of requests on a full queue is as likely as the path.
const MUCH: f64 = 0.5;
/// Wrong sources that are listed.
const SOURCES: usize = 4;

/// Sentences for a run of SYN probes.
pub(crate) fn syn(result: &ProbeResult, pattern: &Pattern) -> Vec<Phrase> {
    let mut notes = vec![];
    let n = |text: Text, n: u64| text.fill(&[("n", &n)]);
    notes.extend(closed(result));
    // Where the path delays, answers meet the times of a repetition by chance.
    let comb = !pattern.delayed();
    if comb && pattern.late_on_comb > 0 {
        notes.push(n(
            text!(
                "{n} late answers came when a server repeats its SYN-ACK (1, 3, 7 s): the first answer was lost on its way back",
                "{n} 个迟到的应答正好落在服务器重发 SYN-ACK 的时刻（1、3、7 秒）：首个应答在回程丢失"
            ),
            pattern.late_on_comb,
        ));
    }
    if comb && pattern.repeated > 0 {
        notes.push(n(
            text!(
                "{n} answered SYNs were answered again after 1, 3 or 7 s: the RST of this side was lost on its way there",
                "{n} 个已应答的 SYN 在 1、3 或 7 秒后又收到应答：本端的 RST 在去程丢失"
            ),
            pattern.repeated,
        ));
    }
    if pattern.silent_server() {
        notes.push(
            text!(
                "the direction stays open: the server repeats no SYN-ACK (SYN cookies, a full SYN queue, or no retries)",
                "无法判断方向：服务器不重发 SYN-ACK（SYN cookie、SYN 队列已满或禁用重试）"
            )
            .phrase(),
        );
    }
    if pattern.some_silence() && result.forward.is_none() {
        notes.push(
            text!(
                "the direction stays open: the silent probes were lost on the way there, or their answers were never repeated (SYN cookies, a full SYN queue)",
                "无法判断方向：无应答的探测或在去程丢失，或其应答从未重发（SYN cookie、SYN 队列已满）"
            )
            .phrase(),
        );
    }
    if result.forward.is_some_and(|forward| forward.ci95[0] > MUCH) {
        notes.push(
            text!(
                "a SYN that a full SYN or accept queue of the server ignored looks like one that was lost on the way there",
                "被服务器已满的 SYN 队列或 accept 队列忽略的 SYN，看起来与去程丢失的 SYN 相同"
            )
            .phrase(),
        );
    }
    if pattern.off_comb > 0 {
        notes.push(n(
            text!(
                "{n} late answers fit no repetition of a SYN-ACK: real delay on the path",
                "{n} 个迟到的应答与 SYN-ACK 重发时刻不符：路径上确有延迟"
            ),
            pattern.off_comb,
        ));
    }
    notes
}

/// A port that refuses everything.
pub fn closed(result: &ProbeResult) -> Option<Phrase> {
    let text = text!("the port is closed: every probe was refused", "端口关闭：所有探测都被拒绝");
    (result.transmitted > 0 && result.refused == result.transmitted).then(|| text.phrase())
}

/// Sentences on what this side itself does to its packets, and on answers from elsewhere; for every kind of probe.
pub(crate) fn own_side(result: &ProbeResult) -> Vec<Phrase> {
    let n = |text: Text, n: u64| text.fill(&[("n", &n)]);
    let mut notes = vec![];
    if let Some(refused) = result.send_errors.get("EPERM") {
        notes.push(n(
            text!(
                "{n} sends failed with EPERM: a filter on this side (OUTPUT chain or cgroup program) drops them; that is no loss on the path",
                "{n} 次发送返回 EPERM：被本端过滤器（OUTPUT 链或 cgroup 程序）丢弃，不是路径丢包"
            ),
            *refused,
        ));
    }
    if let Some(count) = result.extra.never_left.filter(|n| *n > 0) {
        notes.push(n(
            text!(
                "{n} of the lost never left this side: the send succeeded, but no interface sent the packet (a queue, an egress filter, or a neighbour that does not answer)",
                "丢失的探测中有 {n} 个从未离开本端：发送成功，但没有任何接口发出该包（队列、出口过滤器，或邻居不应答 ARP/ND）"
            ),
            count,
        ));
    }
    if let Some(count) = result.extra.dropped_on_return.filter(|n| *n > 0) {
        notes.push(n(
            text!(
                "{n} of the lost or late were answered, and the answer reached an interface here but no socket: a filter on this side drops it",
                "丢失或迟到的探测中有 {n} 个其实得到了应答：应答到达本端接口却未到达套接字，被本端过滤器丢弃"
            ),
            count,
        ));
    }
    if result.extra.answered_elsewhere > 0 {
        let source = |e: &Elsewhere| Source { address: e.address, port: e.port }.to_string();
        let sources: Vec<String> = result.extra.elsewhere.iter().take(SOURCES).map(source).collect();
        let text = text!(
            "{n} of the lost were answered, but from {sources}: no client takes an answer from there (the server answers from another address of its own, or the way back lacks the address translation)",
            "丢失的探测中有 {n} 个其实得到了应答，但应答来自 {sources}：任何客户端都不会接受（服务器用自己的另一个地址应答，或回程缺少地址转换）"
        );
        let n = result.extra.answered_elsewhere;
        notes.push(text.fill(&[("n", &n), ("sources", &sources.join(", "))]));
    }
    notes
}

/// Sentences for a sweep of segment sizes.
pub fn sizes(result: &ProbeResult) -> Vec<Phrase> {
    let Some(sizes) = &result.extra.sizes else {
        let none = text!(
            "not even small exchanges succeed: nothing can be told of sizes",
            "连小的交换都不成功：无法判断大小"
        );
        return if result.transmitted > result.refused { vec![none.phrase()] } else { vec![] };
    };
    let there = [
        text!(
            "large segments of this side vanish on the way there: packets of {ok} bytes pass, of {bad} bytes never do, and no ICMP error says so; a link on the path has a smaller MTU, and uploads hang",
            "本端的大报文段在去程消失：{ok} 字节的包能通过，{bad} 字节的从未通过，且没有 ICMP 通知；路径上某条链路的 MTU 较小，上传会卡住"
        ),
        text!(
            "whether large segments of this side pass cannot be told: too many connections failed for other reasons",
            "无法判断本端的大报文段能否通过：太多连接因其他原因失败"
        ),
        text!("the request was never long enough", "请求不够长"),
    ];
    let back = [
        text!(
            "large segments of the server vanish on the way back: packets of {ok} bytes pass, of {bad} bytes never do; a link on the path has a smaller MTU, the server does not hear of it, and downloads hang",
            "服务器的大报文段在回程消失：{ok} 字节的包能通过，{bad} 字节的从未通过；路径上某条链路的 MTU 较小，服务器未得到通知，下载会卡住"
        ),
        text!(
            "whether large segments of the server pass cannot be told: too many connections failed for other reasons",
            "无法判断服务器的大报文段能否通过：太多连接因其他原因失败"
        ),
        text!(
            "the answer is too short to fill a segment: name a larger object to test the way back",
            "应答太短，填不满一个报文段：请指定更大的对象以测试回程"
        ),
    ];
    let words = |limit: &SizeLimit, [stuck, unclear, untested]: [Text; 3]| match limit.verdict.as_str() {
        "stuck" => {
            let number = |size: Option<u32>| size.map_or_else(|| "?".to_owned(), |n| n.to_string());
            Some(stuck.fill(&[("ok", &number(limit.passes)), ("bad", &number(limit.stuck))]))
        }
        "unclear" => Some(unclear.phrase()),
        "untested" => Some(untested.phrase()),
        _ => None,
    };
    words(&sizes.there, there).into_iter().chain(words(&sizes.back, back)).collect()
}

/// Sentences that need the whole result: clusters, a slow host.
pub fn finish(result: &mut ProbeResult) {
    if result.loss.is_none() {
        // What is no loss comes in no runs.
        result.extra.bursts = None;
    }
    if let Some(bursts) = result.extra.bursts.filter(|b| b.clustered) {
        let mean = format!("{:.1}", bursts.mean);
        result.extra.notes.push(
            text!(
                "losses come in runs ({mean} on average, at most {longest}), not one by one",
                "丢包成串出现（平均连续 {mean} 个，最多 {longest} 个），而非零散"
            )
            .fill(&[("mean", &mean), ("longest", &bursts.longest)]),
        );
    }
    result.extra.notes.extend(bad_flow(&result.extra.flows));
    result.extra.notes.extend(held_up(result));
}

/// Whether this machine was slow. Kernel stamps keep that out of the round trips of packets; a GET has none.
pub fn held_up(result: &ProbeResult) -> Option<Phrase> {
    let delay = result.extra.host_delay_ms.filter(|ms| *ms > SLOW_HOST_MS)?;
    let text = if result.method == "http" {
        text!(
            "this machine held whydrop up for as long as {ms} ms (busy, or stopped): times of a GET may include that",
            "本机曾使 whydrop 停顿最长 {ms} 毫秒（繁忙或被暂停）：GET 的用时可能包含此延迟"
        )
    } else {
        text!(
            "this machine held whydrop up for as long as {ms} ms (busy, or stopped); no round trip includes that",
            "本机曾使 whydrop 停顿最长 {ms} 毫秒（繁忙或被暂停）；往返时间不含此延迟"
        )
    };
    Some(text.fill(&[("ms", &format!("{delay:.0}"))]))
}

/// Flows that lose much more than the others: a dead next hop or link of a bundle.
fn bad_flow(flows: &[Flow]) -> Option<Phrase> {
    let ports: Vec<String> = stats::flows::bad(flows).iter().map(u16::to_string).collect();
    let text = text!(
        "the flows from port {ports} lose much more than the others: one path of several (ECMP, bond) is bad",
        "源端口 {ports} 的流丢包远多于其他流：多条路径（ECMP、bond）中有一条有问题"
    );
    (!ports.is_empty()).then(|| text.fill(&[("ports", &ports.join(", "))]))
}

/// The answer to "is the loss above this?".
pub fn limit(limit: f64, result: &ProbeResult) -> Phrase {
    let percent = format!("{}", limit * 100.0);
    let text = match sequential::test(result.lost + result.late, result.transmitted, limit) {
        sequential::Answer::NotAbove => text!(
            "the loss is not above {percent} % (95 % certain after {n} probes)",
            "丢包率不高于 {percent}%（{n} 次探测后，95% 确定）"
        ),
        sequential::Answer::Above => text!(
            "the loss is above {percent} % (95 % certain after {n} probes)",
            "丢包率高于 {percent}%（{n} 次探测后，95% 确定）"
        ),
        sequential::Answer::Open => text!(
            "{n} probes are too few to tell whether the loss is above {percent} %",
            "{n} 次探测尚不足以判断丢包率是否高于 {percent}%"
        ),
    };
    text.fill(&[("percent", &percent), ("n", &result.transmitted)])
}

/// Whether each decided probe was lost or late, in the order of the sends.
pub(crate) fn losses(entries: &[Entry]) -> Vec<bool> {
    entries.iter().filter(|e| e.was_sent() && e.outcome().is_some()).map(|e| !e.answered_in_time()).collect()
}
