//! The report as one HTML file: no script, nothing from outside, both colour schemes, fit for print and for a ticket.

mod appendix;
mod cause;
mod probe;

use crate::number::{count, maybe};
use crate::stat::Row;
use crate::text::{
    flow_line, headline, history, next_commands, rows, target_name, tenants, unexplained_places, unseen,
};
use crate::way::{self, Picture};
use crate::words;
use std::fmt::Write as _;
use std::io::{self, Write};
use whydrop_model::shell::sanitize;
use whydrop_model::{Lang, Report, Text, Verdict, text};

/// Longest text of one paragraph, in characters.
const LONGEST: usize = 2000;
/// Flows that are told one by one.
const FLOWS: usize = 50;
/// Causes that are told in full; a file stays below 2 MiB.
const CAUSES: usize = 200;

/// Writes the report. `counters` are those of the appendix, in the order of their table.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, counters: &[Row], lang: Lang, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { lang, html: String::new() };
    page.open(report);
    page.who(report);
    page.picture(report);
    page.ledger(report);
    page.first(report);
    if !report.findings.is_empty() {
        page.heading("causes", text!("Causes", "原因"));
        for (index, finding) in report.findings.iter().enumerate().take(CAUSES) {
            cause::write(report, finding, index, &mut page);
        }
        let more = report.findings.len().saturating_sub(CAUSES);
        if more > 0 {
            let said = text!("{n} more causes stand in the JSON.", "另有 {n} 个原因，见 JSON。")
                .fill(&[("n", &more)]);
            page.tag("p", "note", said.get(lang));
        }
    }
    page.changed(report);
    page.notes(report);
    page.unseen(report);
    if !report.probes.is_empty() {
        page.heading("probes", text!("Probes", "探测"));
        for (index, result) in report.probes.iter().enumerate() {
            probe::write(report, result, index, &mut page);
        }
    }
    appendix::write(report, counters, &mut page);
    page.html.push_str("</main>\n</body>\n</html>\n");
    out.write_all(page.html.as_bytes())
}

/// Text that HTML leaves as it is, also in an attribute; what could steer a terminal is spelled out before.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in sanitize(text, LONGEST).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The file under construction.
struct Page {
    lang: Lang,
    html: String,
}

impl Page {
    fn say(&self, text: Text) -> &'static str {
        text.get(self.lang)
    }

    /// Markup of our own.
    fn put(&mut self, markup: std::fmt::Arguments<'_>) {
        // A string takes everything.
        self.html.write_fmt(markup).ok();
        self.html.push('\n');
    }

    fn heading(&mut self, id: &str, title: Text) {
        let title = self.say(title);
        self.put(format_args!("<h2 id=\"{id}\">{title}</h2>"));
    }

    /// An element with escaped text in it.
    fn tag(&mut self, tag: &str, class: &str, text: &str) {
        let text = escape(text);
        match class {
            "" => self.put(format_args!("<{tag}>{text}</{tag}>")),
            class => self.put(format_args!("<{tag} class=\"{class}\">{text}</{tag}>")),
        }
    }

    /// Lines of commands: whole, and selected by one click.
    fn commands(&mut self, lines: &[String]) {
        let lines: Vec<String> = lines.iter().map(|line| escape_whole(line)).collect();
        self.put(format_args!("<pre><code>{}</code></pre>", lines.join("\n")));
    }

    fn open(&mut self, report: &Report) {
        let lang = self.lang;
        let (word, sentence) = headline(report, lang);
        let (tag, class) = (
            match lang {
                Lang::En => "en",
                Lang::Zh => "zh-Hans",
            },
            match report.verdict {
                Verdict::Loss => "is-loss",
                Verdict::Clear => "is-clear",
                Verdict::Inconclusive => "is-unsure",
            },
        );
        let (title, word, sentence) = (escape(&report.hostname), escape(word), escape(&sentence));
        self.put(format_args!(
            "<!DOCTYPE html>\n<html lang=\"{tag}\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{word}: {title}</title>\n<style>\n{}</style>\n</head>\n<body class=\"{class}\">\n<main>",
            include_str!("style.css")
        ));
        self.put(format_args!("<h1><b>{word}</b> {sentence}</h1>"));
        let names: Vec<String> = report.targets.iter().map(|target| target.id.clone()).collect();
        let made = text!(
            "{host}, Linux {kernel}, {at}, {s} s: {names}",
            "{host}，Linux {kernel}，{at}，{s} 秒：{names}"
        );
        let made = made.fill(&[
            ("host", &report.hostname),
            ("kernel", &report.kernel),
            ("at", &report.started_at),
            ("s", &format!("{:.1}", report.window_seconds)),
            ("names", &names.join(", ")),
        ]);
        self.tag("p", "made", made.get(lang));
        tenants::lines(report, lang).iter().for_each(|line| self.tag("p", "made", line));
    }

    fn who(&mut self, report: &Report) {
        if report.flows.is_empty() {
            return;
        }
        self.heading("who", text!("Who suffers", "受影响者"));
        self.html.push_str("<ul>\n");
        for flow in report.flows.iter().take(FLOWS) {
            self.tag("li", "", &flow_line(report, flow, self.lang));
        }
        let more = report.flows.len().saturating_sub(FLOWS) as u64 + report.flows_seen.not_kept;
        if more > 0 {
            let said = text!("and {n} more", "另有 {n} 个").fill(&[("n", &count(more))]);
            self.tag("li", "", said.get(self.lang));
        }
        self.html.push_str("</ul>\n");
    }

    fn picture(&mut self, report: &Report) {
        let Some(picture) = Picture::of(report, self.lang) else { return };
        self.heading("way", text!("The way of the packets", "数据包的路径"));
        self.tag("p", "", &picture.title);
        let how = text!(
            "Request above, from left to right; answer below. The width of the band is packets; what is lost peels off \
             with the number of its cause.",
            "上方为去程（自左向右），下方为回程。色带宽度表示包数；丢失的包带着原因编号分离出去。"
        );
        let drawn = way::draw(&picture, "way1", self.lang);
        self.put(format_args!("<div class=\"picture\">\n{drawn}</div>"));
        self.tag("p", "note", self.say(how));
        self.html.push_str("<ol class=\"lanes\">\n");
        for lane in &picture.lanes {
            let (lane_name, marks) = (escape(&lane.name), escape(&lane.marks.join(", ")));
            self.put(format_args!("<li><b>{lane_name}</b> <span class=\"note\">{marks}</span>"));
            for strip in &lane.losses {
                let part =
                    self.say(if strip.back { text!("answer", "回程") } else { text!("request", "去程") });
                let (number, label) = (escape(&strip.number), escape(&strip.label));
                let packets = maybe(strip.packets);
                self.put(format_args!("<br><span class=\"no\">{number}</span> {part} -{packets} {label}"));
            }
            self.html.push_str("</li>\n");
        }
        self.html.push_str("</ol>\n");
    }

    fn ledger(&mut self, report: &Report) {
        if report.ledger.lost == 0 && report.findings.is_empty() {
            return;
        }
        let lang = self.lang;
        self.heading("ledger", text!("Where packets were lost", "丢包去向"));
        let (cause, place, packets) =
            (text!("cause", "原因"), text!("where", "去向"), text!("packets", "包数"));
        self.put(format_args!(
            "<table>\n<thead><tr><th scope=\"col\">{}</th><th scope=\"col\">{}</th><th scope=\"col\" class=\"n\">{}</th></tr></thead>\n<tbody>",
            self.say(cause), self.say(place), self.say(packets)
        ));
        for row in rows(report, true, lang) {
            let number = match row.number.is_empty() {
                true => String::new(),
                false => format!("<a href=\"#f{0}\"><span class=\"no\">{0}</span></a>", row.number),
            };
            let place = escape(&format!("{} {}", row.target, row.place));
            self.put(format_args!(
                "<tr><td>{number}</td><td>{place}</td><td class=\"n\">{}</td></tr>",
                maybe(row.packets)
            ));
        }
        let rest = self.say(text!("unexplained", "未查明"));
        let total = self.say(text!("total", "合计"));
        self.put(format_args!(
            "<tr><td><span class=\"no\">?</span></td><td>{rest}</td><td class=\"n\">{}</td></tr>\n</tbody>\n<tfoot><tr><td></td>\
             <th scope=\"row\">{total}</th><td class=\"n\" id=\"lost\">{}</td></tr></tfoot>\n</table>",
            count(report.ledger.unexplained),
            count(report.ledger.lost)
        ));
        let places = unexplained_places(report, lang);
        if !places.is_empty() {
            self.html.push_str("<ul>\n");
            places.iter().for_each(|place| self.tag("li", "", place));
            self.html.push_str("</ul>\n");
        }
    }

    fn first(&mut self, report: &Report) {
        self.heading("next", text!("Do this next", "下一步"));
        for (command, what) in next_commands(report) {
            let what = what.get(self.lang);
            if !what.is_empty() {
                self.tag("p", "", what);
            }
            self.commands(&[command]);
        }
    }

    fn changed(&mut self, report: &Report) {
        let lines = history(report, self.lang);
        if lines.is_empty() {
            return;
        }
        self.heading("changed", text!("Changed", "改动"));
        self.html.push_str("<ul>\n");
        lines.iter().for_each(|line| self.tag("li", "", line));
        self.html.push_str("</ul>\n");
    }

    fn notes(&mut self, report: &Report) {
        if report.notes.is_empty() {
            return;
        }
        let lang = self.lang;
        self.heading("innocent", text!("Not a cause", "不是原因"));
        self.html.push_str("<ul>\n");
        for note in &report.notes {
            let status = words::note_status(note.status).get(lang);
            let place = escape(&format!("{} {}", target_name(report, &note.target), note.subject));
            let (said, cause) = (escape(note.text.get(lang)), note.cause.as_deref().map(escape));
            let cause = cause.map(|cause| format!(" (<code>{cause}</code>)")).unwrap_or_default();
            self.put(format_args!("<li><span class=\"tag\">{status}</span> {place}: {said}{cause}</li>"));
        }
        self.html.push_str("</ul>\n");
    }

    fn unseen(&mut self, report: &Report) {
        self.heading("unseen", text!("Not seen", "未能查看"));
        self.html.push_str("<ul>\n");
        unseen(report, self.lang).iter().for_each(|line| self.tag("li", "", line));
        self.html.push_str("</ul>\n");
    }
}

/// As [`escape`], never cut.
fn escape_whole(text: &str) -> String {
    let pieces: Vec<char> = text.chars().collect();
    pieces.chunks(LONGEST).map(|piece| escape(&piece.iter().collect::<String>())).collect()
}
