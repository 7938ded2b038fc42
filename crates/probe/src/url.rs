//! Probe URLs.

use crate::spec::Scheme;
use std::net::Ipv6Addr;
use whydrop_model::shell::sanitize;
use whydrop_model::{Phrase, text};

/// Longest URL that is read.
const MAX_URL: usize = 2048;

/// What is wrong with a probe URL. The first part is as given, escaped and cut; the second how the scheme wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// No `://`.
    NoScheme(String),
    /// A scheme that whydrop does not probe.
    UnknownScheme(String),
    /// Nothing between `://` and the port or path.
    NoHost(String, &'static str),
    /// The scheme needs a port.
    NoPort(String, &'static str),
    /// Not a number from 1 to 65535.
    BadPort(String),
    /// An IPv6 address outside brackets, or broken brackets.
    Brackets(String),
    /// A link-local address without its interface.
    NoZone(String),
    /// Something that this scheme has no use for.
    Extra(String, &'static str),
    /// A character that no host or path may hold, or too long.
    Hostile(String),
}

impl UrlError {
    /// What is wrong, and how it would be right.
    pub fn phrase(&self) -> Phrase {
        let known = Scheme::ALL.map(|scheme| format!("{}://", scheme.name())).join(", ");
        let (text, part, form) = match self {
            Self::NoScheme(url) => (
                text!("\"{part}\" has no scheme; known are {form}", "\"{part}\" 缺少协议；可用的有 {form}"),
                url,
                known.as_str(),
            ),
            Self::UnknownScheme(scheme) => (
                text!(
                    "\"{part}://\" cannot be probed; known are {form}",
                    "不支持 \"{part}://\"；可用的有 {form}"
                ),
                scheme,
                known.as_str(),
            ),
            Self::NoHost(url, form) => (
                text!("\"{part}\" names no host; write {form}", "\"{part}\" 缺少主机；应写成 {form}"),
                url,
                *form,
            ),
            Self::NoPort(url, form) => (
                text!("\"{part}\" names no port; write {form}", "\"{part}\" 缺少端口；应写成 {form}"),
                url,
                *form,
            ),
            Self::BadPort(port) => (
                text!("port \"{part}\" is not a number from {form}", "端口 \"{part}\" 不是 {form} 的数字"),
                port,
                "1-65535",
            ),
            Self::Brackets(host) => (
                text!(
                    "\"{part}\" must be an IPv6 address in brackets, as in {form}",
                    "\"{part}\" 应为方括号内的 IPv6 地址，例如 {form}"
                ),
                host,
                "tcp://[fd00::2]:80",
            ),
            Self::NoZone(host) => (
                text!(
                    "every link can have a {part}: name the interface, as in {form}",
                    "每条链路上都可能有 {part}：请指明接口，例如 {form}"
                ),
                host,
                "tcp://[fe80::1%eth0]:80",
            ),
            Self::Extra(extra, form) => (
                text!("\"{part}\" does not belong there; write {form}", "\"{part}\" 不应出现；应写成 {form}"),
                extra,
                *form,
            ),
            Self::Hostile(url) => (
                text!(
                    "\"{part}\" holds a space or control character, or is longer than {form}",
                    "\"{part}\" 含空格或控制字符，或长于 {form}"
                ),
                url,
                "2048 B",
            ),
        };
        text.fill(&[("part", part), ("form", &form)])
    }
}

impl std::fmt::Display for UrlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.phrase().en)
    }
}

impl std::error::Error for UrlError {}

/// The parts of a URL.
#[derive(Debug)]
pub(crate) struct Parts {
    pub scheme: Scheme,
    pub host: String,
    pub zone: Option<String>,
    pub port: Option<u16>,
    pub path: String,
}

pub(crate) fn parse(text: &str) -> Result<Parts, UrlError> {
    let url = || sanitize(text, 80);
    if text.len() > MAX_URL || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(UrlError::Hostile(url()));
    }
    let (name, rest) = text.split_once("://").ok_or_else(|| UrlError::NoScheme(url()))?;
    let scheme = Scheme::ALL
        .into_iter()
        .find(|s| s.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| UrlError::UnknownScheme(sanitize(name, 20)))?;
    let form = scheme.form();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if let Some((user, _)) = authority.rsplit_once('@') {
        return Err(UrlError::Extra(format!("{}@", sanitize(user, 20)), form));
    }
    let (host, zone, port) = split_authority(authority)?;
    if host.is_empty() {
        return Err(UrlError::NoHost(url(), form));
    }
    let port = match port {
        None => None,
        Some(port) => {
            Some(port.parse().ok().filter(|p| *p != 0).ok_or_else(|| UrlError::BadPort(sanitize(port, 20)))?)
        }
    };
    let extra = |extra: &str| UrlError::Extra(sanitize(extra, 40), form);
    let (port, path) = match scheme {
        Scheme::Http | Scheme::Https => {
            let default = if scheme == Scheme::Http { 80 } else { 443 };
            let tail = tail.split('#').next().unwrap_or(tail);
            let path = if tail.starts_with('/') { tail.to_owned() } else { format!("/{tail}") };
            (Some(port.unwrap_or(default)), path)
        }
        _ if !matches!(tail, "" | "/") => return Err(extra(tail)),
        Scheme::Tcp | Scheme::Udp => {
            (Some(port.ok_or_else(|| UrlError::NoPort(url(), form))?), String::new())
        }
        Scheme::Icmp | Scheme::Pmtu => match port {
            Some(port) => return Err(extra(&format!(":{port}"))),
            None => (None, String::new()),
        },
        Scheme::Path => (port, String::new()),
    };
    Ok(Parts { scheme, host: host.to_owned(), zone: zone.map(str::to_owned), port, path })
}

/// Host, zone and port of `host`, `host:port`, `[v6%zone]`, `[v6%zone]:port`.
fn split_authority(authority: &str) -> Result<(&str, Option<&str>, Option<&str>), UrlError> {
    let brackets = || UrlError::Brackets(sanitize(authority, 60));
    if let Some(inside) = authority.strip_prefix('[') {
        let (address, after) = inside.split_once(']').ok_or_else(brackets)?;
        let (host, zone) = match address.split_once('%') {
            Some((host, zone)) if !zone.is_empty() => (host, Some(zone)),
            Some(_) => return Err(brackets()),
            None => (address, None),
        };
        let address: Ipv6Addr = host.parse().map_err(|_| brackets())?;
        if address.is_unicast_link_local() && zone.is_none() {
            return Err(UrlError::NoZone(host.to_owned()));
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, zone, Some(port))),
            None if after.is_empty() => Ok((host, zone, None)),
            None => Err(brackets()),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(brackets()),
        Some((host, port)) => Ok((host, None, Some(port))),
        None => Ok((authority, None, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_ports_paths_and_zones() {
        let p = parse("tcp://10.0.0.2:80").expect("plain");
        assert_eq!((p.scheme, p.host.as_str(), p.port), (Scheme::Tcp, "10.0.0.2", Some(80)));
        let p = parse("HTTP://[fd00::2]:8080/a?b#c").expect("v6");
        assert_eq!((p.host.as_str(), p.port, p.path.as_str()), ("fd00::2", Some(8080), "/a?b"));
        let p = parse("tcp://[fe80::1%eth0]:22").expect("zone");
        assert_eq!((p.host.as_str(), p.zone.as_deref()), ("fe80::1", Some("eth0")));
        let p = parse("http://web?x=1").expect("default port");
        assert_eq!((p.port, p.path.as_str()), (Some(80), "/?x=1"));
        let p = parse("https://web").expect("default port");
        assert_eq!((p.scheme, p.port, p.path.as_str()), (Scheme::Https, Some(443), "/"));
    }

    #[test]
    fn every_error_speaks_both_languages() {
        let wrong = [
            "h",
            "ftp://h",
            "tcp://:80",
            "tcp://h",
            "tcp://h:0",
            "tcp://::1",
            "tcp://[fe80::1]:80",
            "icmp://h:1",
            "a b",
        ];
        for url in wrong {
            let phrase = parse(url).expect_err(url).phrase();
            assert!(phrase.en.is_ascii() && !phrase.zh.is_ascii(), "{phrase:?}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let message = |url| parse(url).expect_err(url).to_string();
        assert!(message("10.0.0.2:80").contains("no scheme"));
        assert!(message("ftp://h:1").contains("pmtu://"), "lists what is known");
        assert!(message("tcp://h").contains("no port"));
        assert!(message("tcp://:80").contains("no host"));
        assert!(message("tcp://h:0").contains("1-65535"));
        assert!(message("tcp://h:99999").contains("99999"));
        assert!(message("tcp://fd00::2:80").contains("brackets"));
        assert!(message("tcp://[fd00::2:80").contains("brackets"));
        assert!(message("tcp://[10.0.0.1]:80").contains("brackets"));
        assert!(message("tcp://[fe80::1]:80").contains("%eth0"));
        assert!(message("tcp://h:80/x").contains("/x"));
        assert!(message("icmp://h:80").contains(":80"));
        assert!(message("udp://h").contains("no port"));
        assert!(message("tcp://u@h:80").contains("u@"));
        assert!(message("tcp://h\x1b[31m:80").contains("\\u{1b}"));
    }
}
