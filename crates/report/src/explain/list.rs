//! `whydrop explain` without a name: everything that can be asked for.

use crate::layout::{Ink, width};
use crate::text::Options;
use std::io::{self, Write};
use whydrop_facts as facts;
use whydrop_model::{Cause, text};

/// Writes the causes by layer with one line each, and how many other names there are.
///
/// # Errors
/// Those of `out`.
pub fn write_list(causes: &[&Cause], options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let lang = options.lang;
    let mut page = options.page();
    let mut causes = causes.to_vec();
    causes.sort_by_key(|c| c.id);
    let column = causes.iter().map(|c| width(c.id) + 4).max().unwrap_or(0);
    let mut layer = "";
    for cause in &causes {
        if cause.layer() != layer {
            layer = cause.layer();
            page.blank();
            page.marked(Ink::Bold, layer, width(layer), "");
        }
        page.entry(&format!("  {}", cause.id), column, cause.title.get(lang));
    }
    page.blank();
    let also = text!(
        "Also: {counters} counters (TcpExt.ListenOverflows, rx_missed_errors), {reasons} drop reasons (NETFILTER_DROP), \
         lines of netstat -s, {stages} stages (rx.ring), settings (rp_filter) and {pitfalls} pitfalls (double.listendrops).",
        "还可以查询：{counters} 个计数器（例如 TcpExt.ListenOverflows 、rx_missed_errors ）、{reasons} 个丢弃原因（例如 \
         NETFILTER_DROP ）、netstat -s 的输出行、{stages} 个阶段（例如 rx.ring ）、内核参数（例如 rp_filter ）和 {pitfalls} \
         个易错点（例如 double.listendrops ）。"
    );
    let also = also.fill(&[
        ("counters", &facts::counters().len()),
        ("reasons", &facts::reasons().len()),
        ("stages", &facts::stages().len()),
        ("pitfalls", &facts::pitfalls().len()),
    ]);
    page.paragraph(0, also.get(lang));
    out.write_all(page.finish().trim_start_matches('\n').as_bytes())
}
