//! Connection tracking: its size from sysctls, its per-CPU counters from /proc or netlink.

use super::cpu_table;
use crate::error::{Error, Result};
use crate::sys::attributes::Attributes;
use crate::sys::file;
use crate::sys::netlink::Netlink;
use netlink_bindings::conntrack;
use whydrop_model::snapshot::{Conntrack, Counters};
use whydrop_model::text;

const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const STAT: &str = "/proc/thread-self/net/stat/nf_conntrack";

/// Length of struct nfgenmsg.
const HEADER: usize = 4;

/// CTA_STATS_* (include/uapi/linux/netfilter/nfnetlink_conntrack.h), by the names of the /proc file.
const STATS: [(u16, &str); 11] = [
    (2, "found"),
    (4, "invalid"),
    (8, "insert"),
    (9, "insert_failed"),
    (10, "drop"),
    (11, "early_drop"),
    (12, "icmp_error"),
    (13, "search_restart"),
    (14, "clashres"),
    (15, "chainlength"),
    (5, "ignore"),
];

/// Size and counters of the calling thread's namespace; absent without nf_conntrack. Needs no privilege where the
/// kernel has /proc/net/stat/nf_conntrack (CONFIG_NF_CONNTRACK_PROCFS), else CAP_NET_ADMIN.
pub fn read() -> Result<Conntrack> {
    Ok(Conntrack { count: number(COUNT)?, max: number(MAX)?, stats: stats()? })
}

fn number(path: &str) -> Result<u64> {
    file::read(path)?.trim().parse().map_err(|_| file::malformed(path))
}

fn stats() -> Result<Counters> {
    match file::read(STAT) {
        Ok(text) => parse_file(&text).ok_or_else(|| file::malformed(STAT)),
        Err(error) if error.is_absent() => stats_by_netlink(),
        Err(error) => Err(error),
    }
}

/// Column 8 was `delete_list` until 5.13 and is `chainlength` since. How many entries there are says [`COUNT`].
fn parse_file(text: &str) -> Option<Counters> {
    let mut sums = cpu_table::sum(text)?;
    sums.remove("entries");
    Some(sums)
}

fn stats_by_netlink() -> Result<Counters> {
    let request = conntrack::Request::new().op_get_stats_dump(&conntrack::Nfgenmsg::default());
    let per_cpu =
        Netlink::netfilter()?.dump(text!("the conntrack counters", "连接跟踪计数器"), &request, parse_cpu)?;
    let mut sums = Counters::new();
    for (name, value) in per_cpu.into_iter().flatten() {
        add(&mut sums, name, value);
    }
    if sums.is_empty() {
        return Err(Error::new(
            text!("read {object}", "读取{object}"),
            text!("the conntrack counters", "连接跟踪计数器"),
            text!("the kernel sent none", "内核没有返回任何数据").phrase(),
        ));
    }
    Ok(sums)
}

/// One CPU: 32-bit values in network order.
fn parse_cpu(message: &[u8]) -> Option<Vec<(&'static str, u64)>> {
    let attributes = Attributes::after(message, HEADER)?;
    let value = |kind| attributes.u32(kind).map(|v| u64::from(u32::from_be(v)));
    Some(STATS.iter().filter_map(|(kind, name)| Some((*name, value(*kind)?))).collect())
}

fn add(sums: &mut Counters, name: &str, value: u64) {
    let sum = sums.entry(name.to_owned()).or_insert(0);
    *sum = sum.saturating_add(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    const V5_10: &str = "entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
00000005  00000000 00000000 00000000 00000001 0000000a 00000000 00000000 00000000 00000002 00000003 00000000 00000000  00000000 00000000 00000000 00000000
00000005  00000000 00000000 00000000 00000001 0000000a 00000000 00000000 00000000 00000002 00000003 00000000 00000000  00000000 00000000 00000000 000000ff
";

    #[test]
    fn cpus_are_summed_by_column_name() {
        let sums = parse_file(V5_10).unwrap();
        let get = |name| sums.get(name).copied();
        assert_eq!((get("insert_failed"), get("drop"), get("invalid")), (Some(4), Some(6), Some(2)));
        assert_eq!((get("search_restart"), get("entries"), get("chainlength")), (Some(255), None, None));
    }

    #[test]
    fn netlink_sends_network_order() {
        let mut message = vec![0; HEADER];
        message.extend(attribute(10, &7u32.to_be_bytes()));
        assert_eq!(parse_cpu(&message), Some(vec![("drop", 7)]));
        torture(&message, parse_cpu);
    }
}
