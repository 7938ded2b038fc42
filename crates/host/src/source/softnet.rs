//! The per-CPU receive backlog: /proc/net/softnet_stat. Whole machine, whatever the namespace.

use crate::error::Result;
use crate::sys::file;
use whydrop_model::snapshot::SoftnetCpu;

const PATH: &str = "/proc/thread-self/net/softnet_stat";

// The file has no header (net/core/net-procfs.c:softnet_seq_show): 11 columns until 5.9, 13 from 5.10 with the CPU
// number in column 13, 15 from 6.4.
const PROCESSED: usize = 0;
const DROPPED: usize = 1;
const TIME_SQUEEZE: usize = 2;
const RECEIVED_RPS: usize = 9;
const FLOW_LIMIT: usize = 10;
const BACKLOG: usize = 11;
const CPU: usize = 12;

/// A row per online CPU. Needs no privilege.
pub fn read() -> Result<Vec<SoftnetCpu>> {
    let text = file::read(PATH)?;
    parse(&text).ok_or_else(|| file::malformed(PATH))
}

fn parse(text: &str) -> Option<Vec<SoftnetCpu>> {
    let rows: Option<Vec<_>> = (0..).zip(text.lines()).map(|(row, line)| parse_row(row, line)).collect();
    rows.filter(|rows| !rows.is_empty())
}

/// `row` stands for the CPU number where the kernel does not print it; with offline CPUs it is too low then.
fn parse_row(row: u32, line: &str) -> Option<SoftnetCpu> {
    let columns: Option<Vec<u32>> =
        line.split_ascii_whitespace().map(|word| u32::from_str_radix(word, 16).ok()).collect();
    let columns = columns?;
    let column = |index: usize| columns.get(index).copied().map(u64::from);
    Some(SoftnetCpu {
        cpu: columns.get(CPU).copied().unwrap_or(row),
        processed: column(PROCESSED)?,
        dropped: column(DROPPED)?,
        time_squeeze: column(TIME_SQUEEZE)?,
        flow_limit: column(FLOW_LIMIT)?,
        received_rps: column(RECEIVED_RPS),
        backlog: column(BACKLOG),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_three_kernels() {
        let v4_18 = "0000000a 00000002 00000001 0 0 0 0 0 0 0 00000003\n00000001 0 0 0 0 0 0 0 0 0 0\n";
        let rows = parse(v4_18).unwrap();
        assert_eq!(rows.iter().map(|r| (r.cpu, r.processed)).collect::<Vec<_>>(), [(0, 10), (1, 1)]);
        let first = rows.first().unwrap();
        assert_eq!((first.dropped, first.time_squeeze, first.flow_limit), (2, 1, 3));
        let v5_10 = "0000000a 2 1 0 0 0 0 0 0 0 3 00000000 00000007\n";
        assert_eq!(parse(v5_10).unwrap().first().unwrap().cpu, 7);
        let v6_12 = "0000000a 2 1 0 0 0 0 0 0 0 3 00000000 00000007 00000000 00000000\n";
        assert_eq!(parse(v6_12).unwrap().first().unwrap().cpu, 7);
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["", "\n", "0 0\n", "x y z", "0 0 0 0 0 0 0 0 0 0 fffffffff\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
