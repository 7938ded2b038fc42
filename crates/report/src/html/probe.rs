//! A probe: its numbers, how long answers took, and when packets were lost.

use super::{Page, escape};
use crate::number::millis;
use crate::text::probe_lines;
use std::fmt::Write;
use whydrop_model::probe::Outcome;
use whydrop_model::{ProbeResult, Report, text};

/// Classes of the histogram.
const BARS: usize = 16;
/// Packets in the strip of outcomes; more are folded, the worst outcome of each group counts.
const CELLS: usize = 200;
const WIDE: f64 = 420.0;
const HIGH: f64 = 90.0;

pub(super) fn write(report: &Report, probe: &ProbeResult, index: usize, page: &mut Page) {
    let lines = probe_lines(report, probe, page.lang);
    page.html.push_str("<section class=\"card\">\n");
    for (nth, line) in lines.iter().enumerate() {
        page.tag(if nth == 0 { "h3" } else { "p" }, "", line);
    }
    if let Some(drawn) = histogram(probe, index, page) {
        page.html.push_str(&drawn);
    }
    if let Some(drawn) = strip(probe, index, page) {
        page.html.push_str(&drawn);
    }
    page.html.push_str("</section>\n");
}

/// Round-trip times in classes of equal width on a logarithmic scale.
fn histogram(probe: &ProbeResult, index: usize, page: &Page) -> Option<String> {
    let times: Vec<f64> = probe.packets.iter().filter_map(|p| p.rtt_ms).filter(|ms| *ms > 0.0).collect();
    let (low, high) = (times.iter().copied().reduce(f64::min)?, times.iter().copied().reduce(f64::max)?);
    if times.len() < 2 {
        return None;
    }
    let (from, to) = (low.ln(), high.ln().max(low.ln() + 1e-6));
    let mut bars = [0u32; BARS];
    for ms in &times {
        let share = (ms.ln() - from) / (to - from);
        let class = ((share * BARS as f64) as usize).min(BARS - 1);
        if let Some(bar) = bars.get_mut(class) {
            *bar += 1;
        }
    }
    let most = f64::from(bars.iter().copied().max()?.max(1));
    let title = page.say(text!("Round-trip times (logarithmic)", "往返时间（对数刻度）"));
    let mut out =
        open(&format!("rtt{index}"), HIGH + 24.0, title, &format!("{} - {}", millis(low), millis(high)));
    let step = WIDE / BARS as f64;
    for (class, n) in bars.iter().enumerate() {
        let tall = f64::from(*n) / most * HIGH;
        let x = class as f64 * step;
        writeln!(
            out,
            "<rect class=\"bar\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\"><title>{n}</title></rect>",
            HIGH - tall,
            step - 2.0
        )
        .ok()?;
    }
    let base = HIGH + 18.0;
    writeln!(
        out,
        "<line class=\"axis\" x1=\"0\" y1=\"{HIGH}\" x2=\"{WIDE}\" y2=\"{HIGH}\"/><text x=\"0\" y=\"{base}\">{}</text>\
         <text x=\"{WIDE}\" y=\"{base}\" text-anchor=\"end\">{}</text></svg>",
        millis(low),
        millis(high)
    )
    .ok()?;
    Some(out)
}

/// One cell for each packet in the order of sending: answered low, late in between, lost high.
fn strip(probe: &ProbeResult, index: usize, page: &Page) -> Option<String> {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Received | Outcome::Refused => 0,
        Outcome::Late => 1,
        Outcome::Lost | Outcome::Unreachable | Outcome::NotSent(_) => 2,
    };
    let ranks: Vec<usize> = probe.packets.iter().map(|packet| rank(&packet.outcome)).collect();
    if ranks.len() < 2 {
        return None;
    }
    let group = ranks.len().div_ceil(CELLS);
    let cells: Vec<usize> = ranks.chunks(group).filter_map(|cells| cells.iter().max().copied()).collect();
    let title = page.say(text!(
        "In the order of sending: short is answered, middle late, tall lost",
        "按发送顺序：短为已应答，中为迟到，高为丢失"
    ));
    let lost = ranks.iter().filter(|rank| **rank == 2).count();
    let mut out = open(&format!("time{index}"), 30.0, title, &format!("{lost} / {}", ranks.len()));
    let step = (WIDE / cells.len() as f64).min(12.0);
    for (nth, rank) in cells.iter().enumerate() {
        let (class, tall) = match rank {
            0 => ("bar", 6.0),
            1 => ("late", 16.0),
            _ => ("miss", 28.0),
        };
        let x = nth as f64 * step;
        writeln!(
            out,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.2}\" height=\"{tall:.1}\"/>",
            29.0 - tall,
            (step - 0.8).max(0.6)
        )
        .ok()?;
    }
    out.push_str("</svg>\n");
    Some(out)
}

fn open(id: &str, high: f64, title: &str, told: &str) -> String {
    let (title, told) = (escape(title), escape(told));
    format!(
        "<p class=\"note\">{title}</p>\n<svg role=\"img\" viewBox=\"0 0 {WIDE} {high}\" width=\"{WIDE}\" height=\"{high}\" \
         aria-labelledby=\"{id}-title {id}-desc\" xmlns=\"http://www.w3.org/2000/svg\"><title id=\"{id}-title\">{title}</title>\
         <desc id=\"{id}-desc\">{told}</desc>\n"
    )
}
