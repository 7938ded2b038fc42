//! `tcp.md5_mismatch`: TCP MD5 or AO keys are missing or different.

use super::TCP;
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use crate::rules::events::{Events, by_events};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tcp.md5_mismatch",
    title: text!("TCP MD5 or AO keys are missing or different", "TCP MD5 或 AO 密钥缺失或不一致"),
    meaning: text!(
        "One end of a connection signs its segments (BGP, LDP), and the other end has another key, or none.",
        "连接的一端对报文段签名（BGP、LDP），而另一端的密钥不同或没有密钥。"
    ),
    seen_by: text!(
        "TcpExt.TCPMD5NotFound, TCPMD5Unexpected, TCPMD5Failure or a counter of TCP-AO rose in the window.",
        "TcpExt.TCPMD5NotFound、TCPMD5Unexpected、TCPMD5Failure 或 TCP-AO 的计数器在窗口内增加。"
    ),
    why_lost: text!(
        "A segment without the expected signature is discarded without an answer: the connection never comes about, or hangs.",
        "没有预期签名的报文段被直接丢弃，不作应答：连接无法建立，或一直挂起。"
    ),
    what_to_do: text!(
        "Compare the keys of both ends (the neighbor's password in the routing daemon), and the addresses for which each is set.",
        "比较两端的密钥（路由守护进程中邻居的 password），以及各自所针对的地址。"
    ),
    when_wrong: text!(
        "Strangers without a key who try a protected port are kept out on purpose.",
        "没有密钥的陌生人尝试受保护的端口时，被拒绝正是目的。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib], judge };

const SUMMARY: Text = text!(
    "TCP segments carry no signature, one that nobody expects, or a wrong one, and are discarded.",
    "TCP 报文段没有签名、带有意外的签名或签名错误，已被丢弃。"
);
const DO: Text = text!(
    "compare the MD5 or AO keys of both ends: TCPMD5NotFound counts segments without a signature, TCPMD5Unexpected those with one where no key is set, TCPMD5Failure those with another key",
    "比较两端的 MD5 或 AO 密钥：TCPMD5NotFound 统计没有签名的报文段，TCPMD5Unexpected 统计本端未设密钥却带签名的，TCPMD5Failure 统计密钥不同的"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let seen = Events {
        stage: "tcp.receive",
        // net/ipv4/tcp_ipv4.c:tcp_inbound_hash(); without events the counters are all there is.
        counters: &[
            "TcpExt.TCPMD5NotFound",
            "TcpExt.TCPMD5Unexpected",
            "TcpExt.TCPMD5Failure",
            "TcpExt.TCPAORequired",
            "TcpExt.TCPAOBad",
            "TcpExt.TCPAOKeyNotFound",
        ],
        protocol: Some(TCP),
        summary: SUMMARY,
        advice: DO,
    };
    by_events(space, &CAUSE, seen).into()
}
