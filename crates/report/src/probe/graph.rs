//! What a run looks like: loss over time, round-trip times.

use super::Block;
use crate::layout::{Page, pad};
use crate::number::{count, millis};
use whydrop_model::probe::Outcome;
use whydrop_model::{ProbeResult, text};

/// Columns of labels and margins: what of a line the strip cannot fill.
const MARGIN: usize = 20;
/// Columns of a histogram's row before its bar, and of the number behind it.
const ROW: usize = 32;
/// Rows of the histogram.
const ROWS: usize = 8;
/// Loss over time: a character per probe, or per equal number of probes.
pub(super) fn strip(block: &mut Block, p: &ProbeResult, width: usize) {
    if p.packets.len() < 2 {
        return;
    }
    let step = p.packets.len().div_ceil(width.saturating_sub(MARGIN).max(10));
    let strip: String = p.packets.chunks(step).map(|chunk| mark(chunk.iter().map(|k| &k.outcome))).collect();
    block.row(text!("over time", "时间轴"), strip);
    let legend = text!(
        "{n} per character: . answered, 1-9 tenths lost, x all lost, ! not sent",
        "每字符 {n} 个探测：. 有应答，1-9 为丢失十分之几，x 全部丢失，! 未发出"
    );
    let legend = legend.fill(&[("n", &step)]).get(block.lang).to_owned();
    block.rows.push((String::new(), legend));
}

fn mark<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> char {
    let (mut sent, mut lost) = (0u32, 0u32);
    for outcome in outcomes {
        match outcome {
            Outcome::NotSent(_) => continue,
            Outcome::Received | Outcome::Refused => {}
            Outcome::Late | Outcome::Lost | Outcome::Unreachable => lost += 1,
        }
        sent += 1;
    }
    match (sent, lost) {
        (0, _) => '!',
        (_, 0) => '.',
        _ if sent == lost => 'x',
        _ => char::from_digit((lost * 10 / sent).clamp(1, 9), 10).unwrap_or('?'),
    }
}

/// Round-trip times in rows whose limits double.
pub(super) fn histogram(p: &ProbeResult, page: &mut Page, width: usize) {
    let in_time = |o: &Outcome| matches!(o, Outcome::Received | Outcome::Refused);
    let rtts: Vec<f64> = p.packets.iter().filter(|k| in_time(&k.outcome)).filter_map(|k| k.rtt_ms).collect();
    let (Some(rtt), true) = (&p.rtt_ms, rtts.len() >= 5) else { return };
    let octaves = (rtt.max / rtt.min.max(1e-3)).log2().ceil().max(1.0);
    let factor = 2f64.powf((octaves / ROWS as f64).ceil());
    let mut low = rtt.min.max(1e-3);
    let mut rows = vec![];
    while rows.len() < ROWS && low <= rtt.max {
        let high = low * factor;
        let inside = |x: &&f64| **x < high && (rows.is_empty() || **x >= low);
        rows.push((low, high, rtts.iter().filter(inside).count()));
        low = high;
    }
    let longest = width.saturating_sub(ROW).clamp(8, 60);
    let most = rows.iter().map(|(.., n)| *n).max().unwrap_or(1).max(1);
    for (low, high, n) in rows {
        let label = pad(&format!("  {} - {}", millis(low), millis(high)), 24);
        let bar = "#".repeat((n * longest).div_ceil(most));
        page.line(&format!("{label}{bar} {}", count(n as u64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_shows_its_share() {
        let ok = Outcome::Received;
        assert_eq!(mark([&ok, &Outcome::Lost].into_iter()), '5');
        assert_eq!(mark([&Outcome::Late].into_iter()), 'x');
        assert_eq!(mark([&ok, &Outcome::NotSent("EPERM".into())].into_iter()), '.');
    }
}
