//! The lines of a screen: no borders, no character of ambiguous width, numbers never cut.

use super::{Changed, MOST_DROPS, View, Watch};
use crate::layout::{name, pad, width, wrap};
use crate::number::count;
use crate::text::{Options, flow_line, headline, probe_lines, unseen};
use crate::way::{self, Picture};
use crate::words;
use unicode_width::UnicodeWidthChar;
use whydrop_model::shell::sanitize;
use whydrop_model::{Coverage, CoverageStatus, Lang, NoteStatus, Report, Text, text};

/// How a line is set off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    Plain,
    /// Head and foot: reversed.
    Bar,
    /// What counts.
    Bold,
    /// What is innocent or old.
    Dim,
}

/// A line with its tone; never wider than the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How it is set off.
    pub tone: Tone,
    /// What it says.
    pub text: String,
}

/// Below this there is the list only.
const SMALL: (usize, usize) = (60, 15);
/// From here on the strip has a sign for three seconds, below for six.
const WIDE: usize = 100;
/// Below this there is no room for the strip and the cause.
const NARROW: usize = 76;
/// Columns of the numbers.
const NUMBER: usize = 9;
/// Columns of a cause's short name.
const CAUSE: usize = 20;

/// The source whose step the head names.
const DROP_EVENTS: &str = "drop_events";
/// How the sources of changes begin.
const CHANGES: &str = "changes";

/// True for what is shown of the coverage of a round that one goes back to.
pub(super) fn is_shown_later(row: &Coverage) -> bool {
    row.source == DROP_EVENTS || row.source.starts_with(CHANGES)
}

const FOOT: Text = text!(
    "1 now 2 way 3 drops 4 counters 5 flows 6 changes  ? keys  Space hold  q quit",
    "1 现状 2 路径 3 丢包 4 计数器 5 流 6 改动  ? 按键  空格 定格  q 退出"
);
const KEYS: [Text; 18] = [
    text!(
        "1-6, Tab    screens: now, way, drops, counters, flows, changes",
        "1-6、Tab    屏幕：现状、路径、丢包、计数器、流、改动"
    ),
    text!("j k, arrows choose a cause, or scroll; n N the same", "j k、方向键 选择原因或滚动；n N 相同"),
    text!("g G, PgUp PgDn   first, last, ten lines", "g G、PgUp PgDn   首行、末行、十行"),
    text!("Enter       all of the chosen cause", "Enter       所选原因的全部内容"),
    text!("e           explain it", "e           解释该原因"),
    text!("F           its fix as a plan, with the way back", "F           该原因的修复计划及撤销方法"),
    text!("y           copy the command of its fix", "y           复制修复命令"),
    text!("Esc         back; in the list: show all again", "Esc         返回；在列表中则重新显示全部"),
    text!("/           only lines with a word in them", "/           只显示含有某个词的行"),
    text!("t           one target after the other", "t           逐个目标查看"),
    text!("s           sort by last minute, total, place", "s           按最近一分钟、总数、位置排序"),
    text!("Space, f    hold the screen, and go on", "空格、f     定格，再按继续"),
    text!("[ ]         one round back and forth", "[ ]         前后移动一轮"),
    text!("+ -         look more often, less often", "+ -         加快、放慢观察"),
    text!(
        "z, Ctrl-R   count from zero (nothing in the kernel is touched)",
        "z、Ctrl-R   从零重新计数（不触及内核）"
    ),
    text!(
        "w           write a recording: last round, and what was changed",
        "w           写录制文件：最近一轮及改动记录"
    ),
    text!("L  language    q, Ctrl-C  end", "L  切换语言    q、Ctrl-C  退出"),
    text!(
        "No key changes the machine: whydrop fix does, after a question.",
        "没有任何按键会改动本机：改动由 whydrop fix 在询问后执行。"
    ),
];

impl Watch {
    /// Draws the screen: exactly `rows` lines of at most `columns`.
    pub fn draw(&mut self, columns: usize, rows: usize) -> Vec<Line> {
        let mut out = vec![];
        let small = columns < SMALL.0 || rows < SMALL.1;
        out.push(Line { tone: Tone::Bar, text: self.head() });
        out.push(Line { tone: Tone::Bold, text: self.sum() });
        let mut body = match self.view {
            View::Now => self.now(columns, small),
            View::Way => self.way(columns),
            View::Drops => self.drops(),
            View::Counters => self.counters(columns),
            View::Flows => self.flows(columns),
            View::Changes => self.changed(),
            View::Cause => self.cause(columns),
            View::Fix => self.fix(columns),
            View::Explain => self.explain(columns),
            View::Keys => KEYS.iter().map(|line| plain(line.get(self.lang).to_owned())).collect(),
        };
        if body.is_empty() {
            body.push(plain(text!("nothing so far", "暂无").get(self.lang).to_owned()));
        }
        let room = rows.saturating_sub(out.len() + 1 + usize::from(!small));
        let first = match self.view {
            // The cursor stays in sight.
            View::Now => self.row().saturating_sub(room.saturating_sub(1)),
            _ => {
                self.scroll = self.scroll.min(body.len().saturating_sub(1));
                self.scroll
            }
        };
        if !small {
            out.push(plain(String::new()));
        }
        out.extend(body.into_iter().skip(first).take(room));
        let end = rows.saturating_sub(1);
        out.truncate(end);
        out.resize(end, plain(String::new()));
        let typed = self.typing.as_ref().map(|text| format!("/{text}_"));
        let foot = typed.or_else(|| self.message.clone());
        let foot = foot.unwrap_or_else(|| FOOT.get(self.lang).to_owned());
        out.push(Line { tone: Tone::Bar, text: foot });
        for line in &mut out {
            // Blanks at the end are no reason to cut what stands before them.
            line.text = fit(sanitize(&line.text, usize::MAX).trim_end(), columns);
        }
        out.truncate(rows);
        out
    }

    /// What stays on the normal screen at the end: the sum, and the causes with what they took.
    pub fn farewell(&mut self) -> Vec<String> {
        self.held = None;
        let mut out = vec![self.sum()];
        let number = |n: u64| format!("{:>NUMBER$}", count(n));
        for cause in &self.causes {
            out.push(format!("  {}  {}  {}", number(cause.lost), cause.place, cause.cause));
        }
        if self.older > 0 {
            let rest = text!("older causes", "更早的原因").get(self.lang);
            out.push(format!("  {}  {rest}", number(self.older)));
        }
        let rest = text!("unexplained", "未查明").get(self.lang);
        out.push(format!("  {}  {rest}", number(self.unexplained)));
        out.into_iter().map(|line| sanitize(&line, 200)).collect()
    }

    fn head(&self) -> String {
        let names = fit(&self.names, 30);
        let Some(round) = self.shown() else {
            let first =
                text!("whydrop watch  {names}  first look ...", "whydrop watch  {names}  首次查看 ...");
            return first.fill(&[("names", &names)]).get(self.lang).to_owned();
        };
        let (state, at) = match (self.held, &self.now) {
            (Some(_), _) => (text!("HELD", "定格"), &round.at),
            (None, now) => (text!("LIVE", "实时"), now.as_ref().unwrap_or(&round.at)),
        };
        let step = round.report.coverage.iter().find(|row| row.source == DROP_EVENTS);
        let step = step.map_or("", |row| row.detail.as_str());
        let mut narrowed = String::new();
        if let Some(target) = &self.target {
            narrowed.push_str(&format!("  [{}]", fit(target, 20)));
        }
        if !self.filter.is_empty() {
            narrowed.push_str(&format!("  /{}", fit(&self.filter, 20)));
        }
        // What changes comes first: on a narrow screen the rest is cut.
        let (state, kernel) = (state.get(self.lang), fit(&round.report.kernel, 20));
        format!("whydrop watch  {state} {at}{narrowed}  {names}  {kernel}  {}", fit(&name(step), 12))
    }

    fn sum(&self) -> String {
        let lang = self.lang;
        let word = words::verdict(self.verdict()).get(lang);
        // The sum of nothing would be -0.
        let second = self.second();
        let rates = self.causes.iter().filter_map(|cause| cause.rate_at(second));
        let rate = rates.fold(0.0, |sum, rate| sum + rate);
        let sum = text!(
            "{word}  {rate}/s   {n} lost in {s} s since {since}   unexplained {u}",
            "{word}  {rate}/秒   自 {since} 起 {s} 秒内丢失 {n}   未查明 {u}"
        );
        let sum = sum.fill(&[
            ("word", &word),
            ("rate", &format!("{rate:.1}")),
            ("n", &count(self.lost())),
            ("s", &format!("{:.0}", self.watched)),
            ("since", &self.since),
            ("u", &count(self.unexplained_then())),
        ]);
        sum.get(lang).to_owned()
    }

    fn now(&self, columns: usize, small: bool) -> Vec<Line> {
        let lang = self.lang;
        let mut out = vec![];
        let (strip, cause) = match columns {
            WIDE.. => (20, CAUSE),
            NARROW.. => (10, CAUSE - 6),
            _ => (0, 0),
        };
        let between = if strip > 0 { 4 } else { 0 };
        let room = columns.saturating_sub(5 + 2 * (NUMBER + 1) + strip + cause + between).max(12);
        let right = |text: &str| format!("{}{text}", " ".repeat(NUMBER.saturating_sub(width(text))));
        let (place, lost) = (text!("place", "位置").get(lang), text!("lost", "丢失").get(lang));
        let (now, minute) = (text!("now/s", "每秒").get(lang), text!("60 s", "60 秒").get(lang));
        let why = text!("cause", "原因").get(lang);
        let (minute, why) = if strip > 0 { (pad(minute, strip), why) } else { (String::new(), "") };
        let header = format!("  #  {} {} {}  {minute}  {why}", pad(place, room), right(lost), right(now));
        out.push(Line { tone: Tone::Dim, text: header });
        let second = self.second();
        let selected = self.selected().map(|(number, _)| number);
        for (number, tracked) in self.listed() {
            let mark = if Some(number) == selected { ">" } else { " " };
            let rate = tracked.rate_at(second).map_or_else(|| "?".to_owned(), |rate| format!("{rate:.1}"));
            let place = pad(&fit(&tracked.place, room), room);
            let (lost, rate) = (right(&count(tracked.lost_at(second))), right(&rate));
            let bars = tracked.strip(second, strip);
            let short = tracked.cause.split_once('.').map_or(tracked.cause.as_str(), |(_, short)| short);
            let short = fit(short, cause);
            let tone = if tracked.is_fresh(second) { Tone::Plain } else { Tone::Dim };
            out.push(Line {
                tone,
                text: format!("{mark} {number:<2} {place} {lost} {rate}  {bars}  {short}"),
            });
        }
        let rest = text!("unexplained", "未查明").get(lang);
        let unexplained = right(&count(self.unexplained_then()));
        out.push(plain(format!("     {} {unexplained}", pad(rest, room))));
        let Some(round) = self.shown().filter(|_| !small) else { return out };
        out.push(plain(String::new()));
        for flow in round.report.flows.iter().take(3) {
            out.extend(lines(&flow_line(&round.report, flow, lang), columns, 0));
        }
        for note in innocent(&round.report, lang).into_iter().take(2) {
            out.push(Line { tone: Tone::Dim, text: note });
        }
        out.push(plain(String::new()));
        out.extend(self.detail(columns));
        out
    }

    /// Row of the cursor in the list, its header counted.
    fn row(&self) -> usize {
        let selected = self.selected().map(|(number, _)| number);
        self.listed().iter().position(|(number, _)| Some(*number) == selected).map_or(0, |row| row + 1)
    }

    /// The last ones first.
    fn drops(&self) -> Vec<Line> {
        let all = self.until_shown().flat_map(|round| round.drops.iter().rev());
        all.filter(|drop| self.passes(drop)).take(MOST_DROPS).map(|drop| plain(drop.clone())).collect()
    }

    fn way(&self, columns: usize) -> Vec<Line> {
        let Some(round) = self.shown() else { return vec![] };
        let Some(picture) = Picture::of(&round.report, self.lang) else { return vec![] };
        let options = Options { lang: self.lang, width: columns, ..Options::default() };
        let mut page = options.page();
        way::write(&picture, &options, &mut page);
        page.finish().lines().map(|line| plain(line.to_owned())).collect()
    }

    fn counters(&self, columns: usize) -> Vec<Line> {
        let Some(round) = self.shown() else { return vec![] };
        let seconds = round.report.window_seconds.max(f64::EPSILON);
        let row = |row: &crate::stat::Row| {
            let rate = row.change.risen() as f64 / seconds;
            let word = crate::stat::word(row.effect()).get(self.lang);
            let value = row.value.map_or_else(|| "-".to_owned(), count);
            let text = format!(
                "{rate:>NUMBER$.1}/s {value:>14}  {} {} {}  {word}",
                row.name(),
                row.target,
                row.place
            );
            let tone = match (row.is_loss() && row.change.risen() > 0, row.change.risen() > 0) {
                (true, _) => Tone::Bold,
                (false, true) => Tone::Plain,
                (false, false) => Tone::Dim,
            };
            Line { tone, text: fit(&text, columns) }
        };
        round.counters.iter().map(row).filter(|line| self.passes(&line.text)).collect()
    }

    fn flows(&self, columns: usize) -> Vec<Line> {
        let Some(round) = self.shown() else { return vec![] };
        let report = &round.report;
        let flows =
            report.flows.iter().flat_map(|flow| lines(&flow_line(report, flow, self.lang), columns, 2));
        let probes = report.probes.iter().flat_map(|probe| probe_lines(report, probe, self.lang));
        let all = flows.chain(probes.map(plain));
        let mut out: Vec<Line> = all.filter(|line| self.passes(&line.text)).collect();
        let seen = text!("{n} conversations watched, {bad} in trouble", "观察 {n} 个会话，{bad} 个有问题");
        let seen =
            seen.fill(&[("n", &count(report.flows_seen.watched)), ("bad", &report.flows_seen.in_trouble)]);
        out.insert(0, Line { tone: Tone::Dim, text: seen.get(self.lang).to_owned() });
        out
    }

    fn changed(&self) -> Vec<Line> {
        // What came after the round that is held is not known yet.
        let until = self.held.and_then(|back| self.rounds.iter().rev().nth(back.checked_sub(1)?));
        let until = until.map_or(u64::MAX, |next| next.began.realtime_ns);
        let known = self.changes.iter().rev().filter(|changed| changed.when.realtime_ns <= until);
        let line = |changed: &Changed| {
            let about = if changed.announced { " " } else { "<" };
            let what = changed.what.get(self.lang);
            format!("{about}{}  {}  {what}", changed.when.at, changed.target)
        };
        let known = known.map(line).filter(|line| self.passes(line)).map(plain);
        self.unheard().into_iter().chain(known).collect()
    }

    /// What the list of changes does not hold.
    fn unheard(&self) -> Vec<Line> {
        let report = self.shown().map(|round| &round.report);
        let rows = report.into_iter().flat_map(|report| &report.coverage).filter(|row| is_shown_later(row));
        let hidden = rows.filter(|row| row.status != CoverageStatus::Read && row.source != DROP_EVENTS);
        let told =
            text!("not heard: {source} of {target} ({why})", "未能监听：{target} 的 {source}（{why}）");
        let line = |row: &Coverage| {
            let (source, target, why) = (name(&row.source), name(&row.target), name(&row.detail));
            let told = told.fill(&[("source", &source), ("target", &target), ("why", &why)]);
            Line { tone: Tone::Dim, text: told.get(self.lang).to_owned() }
        };
        hidden.map(line).collect()
    }
}

pub(super) fn plain(text: String) -> Line {
    Line { tone: Tone::Plain, text }
}

pub(super) fn lines(text: &str, columns: usize, indent: usize) -> Vec<Line> {
    let wrapped = wrap(&sanitize(text, 600), indent, indent + 2, columns);
    let blank = |index: usize| " ".repeat(if index == 0 { indent } else { indent + 2 });
    wrapped.iter().enumerate().map(|(index, line)| plain(format!("{}{line}", blank(index)))).collect()
}

/// Innocent notes, and what could not be seen, if that hides something.
fn innocent(report: &Report, lang: Lang) -> Vec<String> {
    let (word, _) = headline(report, lang);
    let hidden = unseen(report, lang);
    let status = |status: NoteStatus| words::note_status(status).get(lang);
    let notes = report
        .notes
        .iter()
        .map(|note| format!("{}  {}: {}", status(note.status), name(&note.subject), note.text.get(lang)));
    let unsure = report.verdict == whydrop_model::Verdict::Inconclusive;
    let blind = hidden.into_iter().filter(|_| unsure).map(|line| format!("{word}  {line}"));
    blind.chain(notes).collect()
}

/// Cut to so many columns; what is cut ends with two dots.
fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 2 > columns {
            break;
        }
        used += wide;
        out.push(c);
    }
    let dots = columns.saturating_sub(used).min(2);
    out + &"..".chars().take(dots).collect::<String>()
}
