//! What the conclusions were drawn from: counters that rose, and how each source was read.

use super::{Page, escape};
use crate::number::{count, maybe};
use crate::stat::{self, Row};
use crate::text::target_name;
use whydrop_model::{CoverageStatus, Report, text};

/// Counters that are shown.
const COUNTERS: usize = 80;
/// Sources that are shown.
const SOURCES: usize = 400;

pub(super) fn write(report: &Report, counters: &[Row], page: &mut Page) {
    page.heading("appendix", text!("Appendix", "附录"));
    rising(report, counters, page);
    sources(report, page);
}

fn rising(report: &Report, counters: &[Row], page: &mut Page) {
    let rising: Vec<&Row> = counters.iter().filter(|row| row.change.risen() > 0 && row.matters()).collect();
    let title = page.say(text!("Counters that rose", "增加的计数器"));
    if rising.is_empty() {
        let none = page.say(text!("No counter of loss rose.", "没有丢包计数器增加。"));
        page.put(format_args!("<p>{none}</p>"));
        return;
    }
    let heads = [text!("rise", "增加"), text!("value", "数值"), text!("counter", "计数器")];
    let [rise, value, counter] = heads.map(|head| page.say(head));
    let (place, means) = (page.say(text!("where", "位置")), page.say(text!("a step means", "每增加 1 表示")));
    page.put(format_args!(
        "<details open><summary>{title}</summary>\n<table>\n<thead><tr><th scope=\"col\" class=\"n\">{rise}</th>\
         <th scope=\"col\" class=\"n\">{value}</th><th scope=\"col\">{counter}</th><th scope=\"col\">{place}</th>\
         <th scope=\"col\">{means}</th></tr></thead>\n<tbody>"
    ));
    for row in rising.iter().take(COUNTERS) {
        let target = target_name(report, &row.target);
        let (name, place) = (escape(row.name()), escape(&format!("{target} {}", row.place)));
        let word = page.say(stat::word(row.effect()));
        page.put(format_args!(
            "<tr><td class=\"n\">+{}</td><td class=\"n\">{}</td><td><code>{name}</code></td><td>{place}</td><td>{word}</td></tr>",
            count(row.change.risen()),
            maybe(row.value)
        ));
    }
    page.html.push_str("</tbody>\n</table>\n</details>\n");
}

fn sources(report: &Report, page: &mut Page) {
    let title = page.say(text!("How each source was read", "各数据源的读取情况"));
    page.put(format_args!("<details><summary>{title}</summary>\n<table>\n<tbody>"));
    for row in report.coverage.iter().take(SOURCES) {
        let status = page.say(match row.status {
            CoverageStatus::Read => text!("read", "已读取"),
            CoverageStatus::Absent => text!("none here", "本机没有"),
            CoverageStatus::Denied => text!("denied", "无权限"),
            CoverageStatus::Failed => text!("failed", "失败"),
        });
        let (target, source) = (escape(&target_name(report, &row.target)), escape(&row.source));
        let limits: Vec<&str> =
            [row.detail.as_str()].into_iter().chain(row.limits.iter().map(String::as_str)).collect();
        let detail = escape(&limits.join("; "));
        page.put(format_args!(
            "<tr><td>{target}</td><td><code>{source}</code></td><td>{status}</td><td>{detail}</td></tr>"
        ));
    }
    page.html.push_str("</tbody>\n</table>\n</details>\n");
}
