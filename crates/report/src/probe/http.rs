//! A GET in phases.

use super::Block;
use crate::layout::name;
use crate::number::{count, millis};
use whydrop_model::{Phrase, ProbeResult, Text, text};

/// Adds the rows of a GET: its phases, each with what this side had to send again in it, then the answer.
pub(super) fn rows(block: &mut Block, p: &ProbeResult) {
    let Some(http) = &p.http else { return };
    let (lang, again) = (block.lang, http.retransmissions_in);
    let handshake = http.tls.as_ref().and_then(|tls| tls.handshake_ms);
    let phases = [
        (text!("name {v}", "域名解析 {v}"), http.name_ms, None),
        (text!("connect {v}", "建连 {v}"), http.connect_ms, again.map(|a| a.connect)),
        (text!("TLS {v}", "TLS 握手 {v}"), handshake, again.map(|a| a.tls)),
        (text!("first byte {v}", "首字节 {v}"), http.first_byte_ms, again.map(|a| a.first_byte)),
        (text!("whole {v}", "总计 {v}"), http.total_ms, again.map(|a| a.rest)),
    ];
    let mut parts: Vec<String> = vec![];
    for (text, ms, again) in phases {
        let Some(ms) = ms else { continue };
        let mut part = text.fill(&[("v", &millis(ms))]).get(lang).to_owned();
        if let Some(n) = again.filter(|n| *n > 0) {
            let text = text!(" ({n} sent again)", "（重传 {n}）");
            part += text.fill(&[("n", &n)]).get(lang);
        }
        parts.push(part);
    }
    let mut also = |text: Text, value: Option<String>| {
        parts.extend(value.map(|v| text.fill(&[("v", &v)]).get(lang).to_owned()));
    };
    also(text!("status {v}", "状态码 {v}"), http.status.map(|s| s.to_string()));
    also(text!("{v} bytes", "{v} 字节"), Some(count(http.bytes)));
    also(text!("{v} retransmissions", "重传 {v}"), http.retransmissions.map(|n| n.to_string()));
    also(text!("mss {v}", "mss {v}"), http.mss.map(|(send, receive)| format!("{send}/{receive}")));
    also(
        text!("ended: {v}", "终止原因：{v}"),
        http.error.as_deref().map(|e| failure(e).get(lang).to_owned()),
    );
    block.row(text!("http", "http"), parts.join(", "));
    if let Some(said) = encryption(p) {
        block.row(text!("tls", "TLS"), said.get(lang));
    }
}

/// What ended a GET, in words; an errno stays as it is.
pub fn failure(error: &str) -> Phrase {
    let text = match error {
        "timeout" => text!("timeout", "超时"),
        "reset" => text!("the connection was reset", "连接被重置"),
        "closed early" => {
            text!("the server closed before its answer was complete", "服务器在应答完整之前关闭了连接")
        }
        "header too long" => text!("the header of the answer is too long", "应答头部过长"),
        "not HTTP" => text!("the answer is not HTTP", "应答不是 HTTP"),
        "malformed chunks" => text!("the chunks of the answer are malformed", "应答的分块格式错误"),
        "refused" => text!("refused", "被拒绝"),
        other => return Phrase::same(name(other)),
    };
    text.phrase()
}

/// Why a certificate is not trusted, in words, with the code that people look up.
fn distrusted(code: &str) -> Phrase {
    let text = match code {
        "UnknownIssuer" => {
            text!(
                "signed by nobody whom this machine trusts (UnknownIssuer)",
                "签发者不受本机信任（UnknownIssuer）"
            )
        }
        "CaUsedAsEndEntity" => text!(
            "it is the certificate of an authority, as self-signed ones are (CaUsedAsEndEntity)",
            "服务器直接使用了 CA 证书，常见于自签名证书（CaUsedAsEndEntity）"
        ),
        "Expired" => text!("it has expired (Expired)", "已过期（Expired）"),
        "NotValidYet" => text!("it is not valid yet (NotValidYet)", "尚未生效（NotValidYet）"),
        "NotValidForName" => {
            text!("it is for another name (NotValidForName)", "证书的名称不符（NotValidForName）")
        }
        "Revoked" => text!("it was revoked (Revoked)", "已被吊销（Revoked）"),
        other => return Phrase::same(name(other)),
    };
    text.phrase()
}

/// Adds the rows of a sweep of segment sizes.
pub(super) fn sizes(block: &mut Block, p: &ProbeResult) {
    let Some(sizes) = &p.extra.sizes else { return };
    for (label, limit) in [
        (text!("segments there", "去程报文段"), &sizes.there),
        (text!("segments back", "回程报文段"), &sizes.back),
    ] {
        let Some(ok) = limit.passes else { continue };
        let text = match (limit.stuck, limit.told) {
            (Some(bad), _) => text!(
                "packets up to {ok} bytes pass, {bad} bytes do not",
                "{ok} 字节以内的包能通过，{bad} 字节不能"
            )
            .fill(&[("ok", &ok), ("bad", &bad)]),
            (None, true) => text!(
                "packets up to {ok} bytes pass: an ICMP error told the path MTU",
                "{ok} 字节以内的包能通过：路径 MTU 由 ICMP 告知"
            )
            .fill(&[("ok", &ok)]),
            (None, false) => {
                text!("packets up to {ok} bytes pass", "{ok} 字节以内的包能通过").fill(&[("ok", &ok)])
            }
        };
        block.row(label, text.get(block.lang));
    }
}

/// Version and certificate; none without a handshake that came so far.
fn encryption(p: &ProbeResult) -> Option<Phrase> {
    let tls = p.http.as_ref()?.tls.as_ref()?;
    let version = tls.version.as_deref().map_or_else(|| "TLS".to_owned(), name);
    match (&tls.distrust, &tls.version) {
        (Some(why), _) => Some(
            text!("{version}, certificate not trusted: {why}", "{version}，证书不受信任：{why}")
                .with(&[("version", &Phrase::same(version)), ("why", &distrusted(why))]),
        ),
        (None, Some(_)) => {
            let text = text!("{version}, certificate trusted", "{version}，证书受信任");
            Some(text.fill(&[("version", &version)]))
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whydrop_model::Lang;
    use whydrop_model::probe::{Http, Retransmissions, Tls};

    #[test]
    fn a_phase_shows_what_was_sent_again_in_it() {
        let http = Http {
            connect_ms: Some(3012.0),
            tls: Some(Tls {
                handshake_ms: Some(2.0),
                version: Some("TLSv1.3".into()),
                distrust: Some("UnknownIssuer".into()),
            }),
            retransmissions_in: Some(Retransmissions { connect: 2, ..Default::default() }),
            ..Http::default()
        };
        let mut block = Block { rows: vec![], lang: Lang::En };
        rows(&mut block, &ProbeResult { http: Some(http), ..ProbeResult::default() });
        let text: Vec<&str> = block.rows.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(
            text,
            [
                "connect 3012 ms (2 sent again), TLS 2.0 ms, 0 bytes",
                "TLSv1.3, certificate not trusted: signed by nobody whom this machine trusts (UnknownIssuer)"
            ]
        );
    }
}
