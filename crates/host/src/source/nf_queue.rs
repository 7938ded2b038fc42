//! Queues of NFQUEUE: /proc/thread-self/net/netfilter/nfnetlink_queue, their programs by /proc/thread-self/net/netlink.

use super::owner::Owners;
use crate::error::Result;
use crate::sys::file;
use std::collections::BTreeMap;
use whydrop_model::snapshot::NfQueue;

const QUEUES: &str = "/proc/thread-self/net/netfilter/nfnetlink_queue";
const NETLINK: &str = "/proc/thread-self/net/netlink";

/// All queues that a program has open in the calling thread's namespace; absent without the module nfnetlink_queue.
/// The file is only root's to read.
pub fn read(owners: &Owners) -> Result<Vec<NfQueue>> {
    let text = file::read(QUEUES)?;
    let mut queues = parse(&text).ok_or_else(|| file::malformed(QUEUES))?;
    if !queues.is_empty() {
        let inodes = parse_netlink(&file::read(NETLINK)?);
        for queue in &mut queues {
            queue.owners = inodes.get(&queue.port_id).map_or_else(Vec::new, |inode| owners.of(*inode));
        }
    }
    Ok(queues)
}

/// Lines of nine numbers (net/netfilter/nfnetlink_queue.c:seq_show).
fn parse(text: &str) -> Option<Vec<NfQueue>> {
    text.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<NfQueue> {
    let mut words = line.split_ascii_whitespace();
    Some(NfQueue {
        number: words.next()?.parse().ok()?,
        port_id: words.next()?.parse().ok()?,
        waiting: words.next()?.parse().ok()?,
        copy_mode: words.next()?.parse().ok()?,
        // Behind the bytes of a packet that are copied.
        queue_dropped: words.nth(1)?.parse().ok()?,
        user_dropped: words.next()?.parse().ok()?,
        last_id: words.next()?.parse().ok()?,
        owners: Vec::new(),
    })
}

/// Port id to inode of the sockets of NETLINK_NETFILTER: `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`.
fn parse_netlink(text: &str) -> BTreeMap<u32, u64> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let protocol: i32 = words.next()?.parse().ok()?;
        let port_id = words.next()?.parse().ok()?;
        (protocol == libc::NETLINK_NETFILTER).then_some((port_id, words.nth(6)?.parse().ok()?))
    };
    text.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader() {
        let text = "    5   4123    16 2 65531   480     3      700  1\n";
        let queues = parse(text).unwrap();
        let queue = queues.first().unwrap();
        assert_eq!((queue.number, queue.port_id, queue.waiting, queue.copy_mode), (5, 4123, 16, 2));
        assert_eq!((queue.queue_dropped, queue.user_dropped, queue.last_id), (480, 3, 700));
        for text in ["5 4123\n", "a b c\n", "99999 1 1 1 1 1 1 1 1\n", "\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(""), Some(vec![]));
    }

    #[test]
    fn the_socket_of_the_program() {
        let text = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000000000000 0   4123       00000000 0        0        0     2        0        11
0000000000000000 12  4123       00000000 0        0        0     2        0        777
rubbish
";
        assert_eq!(parse_netlink(text), BTreeMap::from([(4123, 777)]));
    }
}
