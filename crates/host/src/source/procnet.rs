//! Protocol counters: /proc/thread-self/net/{snmp,netstat,snmp6,sockstat,sockstat6}.

use crate::error::Result;
use crate::sys::file;
use whydrop_model::snapshot::Counters;

const SNMP: &str = "/proc/thread-self/net/snmp";
const NETSTAT: &str = "/proc/thread-self/net/netstat";
const SNMP6: &str = "/proc/thread-self/net/snmp6";
const SOCKSTAT: &str = "/proc/thread-self/net/sockstat";
const SOCKSTAT6: &str = "/proc/thread-self/net/sockstat6";

/// Counters of snmp and netstat, `Ip.InReceives`, `TcpExt.ListenDrops`, by the names that the running kernel uses.
pub fn mib() -> Result<Counters> {
    let mut counters = Counters::new();
    for path in [SNMP, NETSTAT] {
        let text = file::read(path)?;
        counters.extend(parse_tables(&text).ok_or_else(|| file::malformed(path))?);
    }
    Ok(counters)
}

/// Counters of snmp6, `Ip6InReceives`.
pub fn mib6() -> Result<Counters> {
    let text = file::read(SNMP6)?;
    parse_list(&text).ok_or_else(|| file::malformed(SNMP6))
}

/// sockstat and, where there is IPv6, sockstat6: `TCP.inuse`, `TCP6.inuse`. `TCP.orphan`, `TCP.alloc` and `*.mem`
/// (pages) count for the whole machine.
pub fn sockstat() -> Result<Counters> {
    let text = file::read(SOCKSTAT)?;
    let mut counters = parse_pairs(&text).ok_or_else(|| file::malformed(SOCKSTAT))?;
    match file::read(SOCKSTAT6) {
        Ok(text) => counters.extend(parse_pairs(&text).ok_or_else(|| file::malformed(SOCKSTAT6))?),
        Err(error) if error.is_absent() => (),
        Err(error) => return Err(error),
    }
    Ok(counters)
}

/// Pairs of lines `Group: name name` and `Group: value value`. Columns are taken by name, since kernels add and move
/// them. A negative value (`Tcp.MaxConn` -1: no limit) is no counter and left out.
fn parse_tables(text: &str) -> Option<Counters> {
    let mut counters = Counters::new();
    let mut lines = text.lines();
    while let Some(header) = lines.next() {
        let (group, names) = header.split_once(':')?;
        let (same, values) = lines.next()?.split_once(':')?;
        if group != same {
            return None;
        }
        let mut values = values.split_ascii_whitespace();
        for name in names.split_ascii_whitespace() {
            let value = values.next()?;
            if !value.starts_with('-') {
                counters.insert(format!("{group}.{name}"), value.parse().ok()?);
            }
        }
        if values.next().is_some() {
            return None;
        }
    }
    (!counters.is_empty()).then_some(counters)
}

/// Lines `name value`.
fn parse_list(text: &str) -> Option<Counters> {
    let mut counters = Counters::new();
    for line in text.lines() {
        let (name, value) = line.split_once(char::is_whitespace)?;
        counters.insert(name.to_owned(), value.trim().parse().ok()?);
    }
    (!counters.is_empty()).then_some(counters)
}

/// Lines `Group: name value name value`.
fn parse_pairs(text: &str) -> Option<Counters> {
    let mut counters = Counters::new();
    for line in text.lines() {
        let (group, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        while let Some(name) = words.next() {
            counters.insert(format!("{group}.{name}"), words.next()?.parse().ok()?);
        }
    }
    (!counters.is_empty()).then_some(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_go_by_name() {
        // Debian 5.10 has no MemErrors in Udp; 6.1 has.
        let old = "Tcp: RtoMin MaxConn CurrEstab\nTcp: 200 -1 3\nUdp: InDatagrams InErrors\nUdp: 7 2\n";
        let counters = parse_tables(old).unwrap();
        assert_eq!(counters.get("Udp.InErrors"), Some(&2));
        assert_eq!(counters.get("Udp.MemErrors"), None);
        assert_eq!(counters.get("Tcp.MaxConn"), None, "-1 is no counter");
        let new = "Udp: InDatagrams MemErrors InErrors\nUdp: 7 1 2\nIcmpMsg: InType3\nIcmpMsg: 18446744073709551615\n";
        let counters = parse_tables(new).unwrap();
        assert_eq!(counters.get("Udp.InErrors"), Some(&2));
        assert_eq!(counters.get("IcmpMsg.InType3"), Some(&u64::MAX));
    }

    #[test]
    fn a_table_that_does_not_fit_is_refused() {
        for text in [
            "",
            "Tcp: A B\nTcp: 1\n",
            "Tcp: A\nTcp: 1 2\n",
            "Tcp: A\nUdp: 1\n",
            "Tcp: A\n",
            "Tcp: A\nTcp: x\n",
        ] {
            assert_eq!(parse_tables(text), None, "{text:?}");
        }
        for text in ["", "Ip6InReceives", "Ip6InReceives x"] {
            assert_eq!(parse_list(text), None, "{text:?}");
        }
        assert_eq!(parse_pairs("TCP: inuse"), None);
    }

    #[test]
    fn lists_and_pairs() {
        let list = parse_list("Ip6InReceives                   \t5\nIcmp6InMsgs \t0\n").unwrap();
        assert_eq!((list.get("Ip6InReceives"), list.get("Icmp6InMsgs")), (Some(&5), Some(&0)));
        let pairs = parse_pairs("sockets: used 9\nTCP: inuse 5 orphan 0 tw 2 alloc 7 mem 1\n").unwrap();
        assert_eq!((pairs.get("TCP.tw"), pairs.get("sockets.used")), (Some(&2), Some(&9)));
    }
}
