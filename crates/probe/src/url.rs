//! Probe URLs.

use crate::spec::Scheme;
use std::net::Ipv6Addr;
use whydrop_model::shell::sanitize;

/// Longest URL that is read.
const MAX_URL: usize = 2048;

/// What is wrong with a probe URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No `://`.
    #[error("\"{url}\" has no scheme; write one of {}", forms())]
    NoScheme {
        /// As given.
        url: String,
    },
    /// A scheme that whydrop does not probe.
    #[error("\"{scheme}://\" cannot be probed; known are {}", forms())]
    UnknownScheme {
        /// As given.
        scheme: String,
    },
    /// Nothing between `://` and the port or path.
    #[error("\"{url}\" names no host; write {form}")]
    NoHost {
        /// As given.
        url: String,
        /// Right form of this scheme.
        form: &'static str,
    },
    /// The scheme needs a port.
    #[error("\"{url}\" names no port; write {form}")]
    NoPort {
        /// As given.
        url: String,
        /// Right form of this scheme.
        form: &'static str,
    },
    /// Not a number from 1 to 65535.
    #[error("port \"{port}\" is not a number from 1 to 65535")]
    BadPort {
        /// As given.
        port: String,
    },
    /// An IPv6 address outside brackets, or broken brackets.
    #[error("\"{host}\" must be an IPv6 address in brackets, as in tcp://[fd00::2]:80")]
    Brackets {
        /// As given.
        host: String,
    },
    /// Something that this scheme has no use for.
    #[error("\"{extra}\" does not belong there; write {form}")]
    Extra {
        /// The part that is too much.
        extra: String,
        /// Right form of this scheme.
        form: &'static str,
    },
    /// A character that no host or path may hold, or too long.
    #[error("\"{url}\" holds a space or control character, or is longer than {MAX_URL} bytes")]
    Hostile {
        /// As given, escaped and cut.
        url: String,
    },
}

fn forms() -> String {
    Scheme::ALL.map(Scheme::form).join(", ")
}

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
        return Err(UrlError::Hostile { url: url() });
    }
    let (name, rest) = text.split_once("://").ok_or_else(|| UrlError::NoScheme { url: url() })?;
    let scheme = Scheme::ALL
        .into_iter()
        .find(|s| s.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| UrlError::UnknownScheme { scheme: sanitize(name, 20) })?;
    let form = scheme.form();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if let Some((user, _)) = authority.rsplit_once('@') {
        return Err(UrlError::Extra { extra: format!("{}@", sanitize(user, 20)), form });
    }
    let (host, zone, port) = split_authority(authority)?;
    if host.is_empty() {
        return Err(UrlError::NoHost { url: url(), form });
    }
    let port = match port {
        None => None,
        Some(port) => Some(
            port.parse()
                .ok()
                .filter(|p| *p != 0)
                .ok_or_else(|| UrlError::BadPort { port: sanitize(port, 20) })?,
        ),
    };
    let extra = |extra: &str| UrlError::Extra { extra: sanitize(extra, 40), form };
    let (port, path) = match scheme {
        Scheme::Http | Scheme::Https => {
            let default = if scheme == Scheme::Http { 80 } else { 443 };
            let tail = tail.split('#').next().unwrap_or(tail);
            let path = if tail.starts_with('/') { tail.to_owned() } else { format!("/{tail}") };
            (Some(port.unwrap_or(default)), path)
        }
        _ if !matches!(tail, "" | "/") => return Err(extra(tail)),
        Scheme::Tcp | Scheme::Udp => {
            (Some(port.ok_or_else(|| UrlError::NoPort { url: url(), form })?), String::new())
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
    let brackets = || UrlError::Brackets { host: sanitize(authority, 60) };
    if let Some(inside) = authority.strip_prefix('[') {
        let (address, after) = inside.split_once(']').ok_or_else(brackets)?;
        let (host, zone) = match address.split_once('%') {
            Some((host, zone)) if !zone.is_empty() => (host, Some(zone)),
            Some(_) => return Err(brackets()),
            None => (address, None),
        };
        host.parse::<Ipv6Addr>().map_err(|_| brackets())?;
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
    fn names_what_is_wrong() {
        let message = |url| parse(url).expect_err(url).to_string();
        assert!(message("10.0.0.2:80").contains("no scheme"));
        assert!(message("ftp://h:1").contains("tcp://host:port"), "lists what is known");
        assert!(message("tcp://h").contains("no port"));
        assert!(message("tcp://:80").contains("no host"));
        assert!(message("tcp://h:0").contains("1 to 65535"));
        assert!(message("tcp://h:99999").contains("99999"));
        assert!(message("tcp://fd00::2:80").contains("brackets"));
        assert!(message("tcp://[fd00::2:80").contains("brackets"));
        assert!(message("tcp://[10.0.0.1]:80").contains("brackets"));
        assert!(message("tcp://h:80/x").contains("/x"));
        assert!(message("icmp://h:80").contains(":80"));
        assert!(message("udp://h").contains("no port"));
        assert!(message("tcp://u@h:80").contains("u@"));
        assert!(message("tcp://h\x1b[31m:80").contains("\\u{1b}"));
    }
}
