//! A subject in words.

use super::Subject;
use crate::layout::Page;
use crate::number::count;
use crate::text::Options;
use std::io::{self, Write};
use whydrop_facts::{self as facts, Class, Counter, Effect, Pitfall, Reason, Sentence, Stage, State};
use whydrop_model::{Cause, Lang, Text, text};

/// Entries that are shown where several share a name.
const SHOWN: usize = 4;
/// Names in one list.
const NAMES: usize = 12;

const LOSS: Text = text!("Does it mean loss?", "是否意味着丢包？");
const SEE_ALSO: Text = text!("See also", "参见");
const ON_THE_WAY: Text = text!("Where on the packet's way", "在收发路径上的位置");

/// Writes what a subject is, whether it means loss, and what to look at. `now` is the value of the counter on this
/// machine, if it could be read.
///
/// # Errors
/// Those of `out`.
pub fn write_explain(
    subject: &Subject<'_>,
    now: Option<u64>,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut text = Explanation { page: options.page(), lang: options.lang, untranslated: false };
    match subject {
        Subject::Cause(cause) => text.cause(cause),
        Subject::Unjudged(cause) => {
            text.first(cause.id, cause.title, None);
            text.section(
                LOSS,
                text!(
                    "It depends: whydrop knows this cause by name, but no rule looks for it yet.",
                    "不一定：whydrop 知道这个原因的名称，但还没有规则去判断它。"
                )
                .get(options.lang),
            );
        }
        Subject::Counters(counters) => text.counters(counters, now),
        Subject::Sentences(sentences) => text.sentences(sentences, now),
        Subject::Reason(reason) => text.reason(reason),
        Subject::Stage(stage) => text.stage(stage),
        Subject::States(states) => text.states(states),
        Subject::Pitfall(pitfall) => text.pitfall(pitfall),
    }
    if text.untranslated && options.lang == Lang::Zh {
        text.page.blank();
        text.page.paragraph(0, "（部分说明目前只有英文。）");
    }
    out.write_all(text.page.finish().as_bytes())
}

struct Explanation {
    page: Page,
    lang: Lang,
    /// True once a text was shown in English because there is no Chinese.
    untranslated: bool,
}

impl Explanation {
    /// The first line: name and one sentence.
    fn first(&mut self, id: &str, en: &'static str, zh: Option<&'static str>) {
        let text = self.choose(en, zh);
        self.page.lead(&format!("{id}:"), text);
    }

    fn choose(&mut self, en: &'static str, zh: Option<&'static str>) -> &'static str {
        match (self.lang, zh) {
            (Lang::En, _) => en,
            (Lang::Zh, Some(zh)) => zh,
            (Lang::Zh, None) => {
                self.untranslated = true;
                en
            }
        }
    }

    fn section(&mut self, heading: Text, text: &str) {
        self.page.blank();
        self.page.paragraph(0, heading.get(self.lang));
        self.page.paragraph(2, text);
    }

    /// A section whose text exists in English only.
    fn english(&mut self, heading: Text, text: Option<&'static str>) {
        if let Some(text) = text {
            let text = self.choose(text, None);
            self.section(heading, text);
        }
    }

    fn loss(&mut self, answer: Text, why: Text) {
        let colon = if self.lang == Lang::Zh { "：" } else { ": " };
        let stop = if self.lang == Lang::Zh { '。' } else { '.' };
        let why = why.get(self.lang).trim_end_matches([stop, '：', ':']);
        let text = format!("{}{colon}{why}{stop}", answer.get(self.lang));
        self.section(LOSS, &text);
    }

    fn see_also(&mut self, names: &[&str]) {
        if !names.is_empty() {
            self.section(SEE_ALSO, &names[..names.len().min(NAMES)].join(", "));
        }
    }

    fn on_the_way(&mut self, stage: &str) {
        if let Some(stage) = facts::stage(stage) {
            self.section(ON_THE_WAY, &format!("{} ({})", stage.title.get(self.lang), stage.id));
        }
    }

    /// Others of the same name, one line each.
    fn others(
        &mut self,
        others: impl ExactSizeIterator<Item = (&'static str, &'static str, Option<&'static str>)>,
    ) {
        if others.len() == 0 {
            return;
        }
        self.page.blank();
        self.page.paragraph(0, text!("Others that are called so", "其他同名项").get(self.lang));
        let more = others.len().saturating_sub(SHOWN);
        for (id, en, zh) in others.take(SHOWN) {
            let text = format!("{id}: {}", self.choose(en, zh));
            self.page.paragraph(2, &text);
        }
        if more > 0 {
            let text = text!("and {n} more", "另有 {n} 项").fill(&[("n", &more)]);
            self.page.paragraph(2, text.get(self.lang));
        }
    }

    fn counters(&mut self, counters: &[&'static Counter], now: Option<u64>) {
        if let Some((first, rest)) = counters.split_first() {
            self.counter(first, now);
            self.others(rest.iter().map(|c| (c.id, c.meaning, c.meaning_zh)));
        }
    }

    fn states(&mut self, states: &[&'static State]) {
        if let Some((first, rest)) = states.split_first() {
            self.state(first);
            self.others(rest.iter().map(|s| (s.id, s.flag_when, None)));
        }
    }

    fn cause(&mut self, cause: &Cause) {
        self.first(cause.id, cause.title.en, Some(cause.title.zh));
        for (heading, text) in cause.sections() {
            self.section(heading, text.get(self.lang));
        }
        self.loss(
            text!("Yes", "是"),
            text!(
                "a finding costs packets now. The same thing unused, or before the window, is a note.",
                "列为原因时，它正在造成丢包。未被用到、或发生在观察窗口之前的，只列为备注。"
            ),
        );
        let kin =
            facts::cause_ids().filter(|id| *id != cause.id && id.split('.').next() == Some(cause.layer()));
        self.see_also(&kin.collect::<Vec<_>>());
    }

    fn counter(&mut self, counter: &Counter, now: Option<u64>) {
        self.first(counter.id, counter.meaning, counter.meaning_zh);
        self.loss(answer(counter.effect), counter.effect.text());
        if let Some(now) = now {
            let text = text!("{n} since the counter began", "自计数开始以来 {n}").fill(&[("n", &count(now))]);
            self.section(text!("On this machine now", "本机当前值"), text.get(self.lang));
        }
        let read = text!("{read}; counts for {scope}", "{read} ；范围：{scope}");
        let read = read.fill(&[("read", &counter.read), ("scope", &counter.scope.text().get(self.lang))]);
        self.section(text!("Where it is read", "从哪里读取"), read.get(self.lang));
        self.on_the_way(counter.stage);
        if let Some(related) = counter.related {
            self.section(text!("Look at", "相关检查"), related);
        }
        for pitfall in facts::pitfalls().iter().filter(|p| words(p.text).any(|w| w == counter.name)) {
            self.english(text!("Take care", "注意"), Some(pitfall.text));
        }
        let sentence = facts::all_sentences().iter().find(|s| s.counters == [counter.id]);
        if let Some(sentence) = sentence {
            self.section(text!("How netstat -s prints it", "netstat -s 的显示"), sentence.text);
        }
        if let Some(command) = by_hand(counter) {
            self.page.blank();
            self.page.paragraph(0, text!("By hand", "手工查看").get(self.lang));
            self.page.command("", 2, &command);
        }
        let related = counter.related.into_iter().flat_map(words).filter_map(known_name);
        self.see_also(&related.chain(facts::stage(counter.stage).map(|s| s.id)).collect::<Vec<_>>());
    }

    fn sentences(&mut self, sentences: &[&'static Sentence], now: Option<u64>) {
        let sections: Vec<&str> = sentences.iter().map(|s| s.section).collect();
        let counters: Vec<&Counter> =
            sentences.iter().flat_map(|s| s.counters).filter_map(|id| facts::counter(id)).collect();
        let gone: Vec<&str> = sentences.iter().flat_map(|s| s.gone).copied().collect();
        self.counters(&counters, now);
        if counters.is_empty() {
            let text = text!("netstat -s prints {names} so.", "netstat -s 如此显示 {names} 。");
            self.page.paragraph(0, text.fill(&[("names", &gone.join(", "))]).get(self.lang));
            let text = text!("No: today's kernels no longer have it.", "否：现在的内核已没有这个计数。");
            self.section(LOSS, text.get(self.lang));
        }
        self.section(text!("Section of netstat -s", "netstat -s 的段落"), &sections.join(", "));
    }

    fn reason(&mut self, reason: &Reason) {
        self.first(reason.id, reason.meaning, reason.meaning_zh);
        let yes = match reason.class {
            Class::Loss => text!("Yes", "是"),
            Class::Policy | Class::Conditional => text!("It depends", "不一定"),
            Class::Benign | Class::NotADrop => text!("No", "否"),
        };
        self.loss(yes, reason.class.text());
        self.english(text!("Usual causes", "常见原因"), reason.causes);
        self.english(text!("Where to look next", "接下来看哪里"), reason.look_next);
        self.english(text!("What ends it", "如何解决"), reason.fix);
        self.on_the_way(reason.stage);
        if !reason.functions.is_empty() {
            let functions = &reason.functions[..reason.functions.len().min(NAMES)];
            self.section(
                text!("Given by these functions, among others", "给出它的内核函数（不完全）"),
                &functions.join(", "),
            );
        }
        let mention = |c: &&Counter| c.related.is_some_and(|r| words(r).any(|w| w == reason.id));
        let counters = facts::counters().iter().filter(mention).map(|c| c.id);
        self.see_also(&counters.chain(facts::stage(reason.stage).map(|s| s.id)).collect::<Vec<_>>());
    }

    fn stage(&mut self, stage: &Stage) {
        self.first(stage.id, stage.title.en, Some(stage.title.zh));
        let counters: Vec<&Counter> =
            stage.counters().filter(|c| !c.group.starts_with("ethtool_driver.")).collect();
        let lossy =
            counters.iter().filter(|c| matches!(c.effect, Effect::Lost | Effect::LostConn | Effect::Maybe));
        let lossy: Vec<&str> = lossy.map(|c| c.id).collect();
        let reasons: Vec<&str> = stage.reasons().map(|r| r.id).collect();
        let states: Vec<&str> = stage.states().map(|s| s.id).collect();
        self.loss(
            text!("It depends", "不一定"),
            text!(
                "a stage is a place. What is lost here shows in the following",
                "阶段只是一个位置。在此处丢失的包体现在以下各项"
            ),
        );
        for (heading, names) in [
            (text!("Counters", "计数器"), lossy),
            (text!("Drop reasons", "丢弃原因"), reasons),
            (text!("Settings and states", "设置与状态"), states),
            (text!("Tools", "工具"), stage.tools.to_vec()),
            (text!("Tracepoints", "跟踪点"), stage.tracepoints.to_vec()),
            (text!("Kernel functions", "内核函数"), stage.functions.to_vec()),
        ] {
            if !names.is_empty() {
                self.section(heading, &names[..names.len().min(NAMES)].join(", "));
            }
        }
    }

    fn state(&mut self, state: &State) {
        self.first(state.id, state.flag_when, None);
        let why = match state.silent {
            true => text!(
                "a setting loses packets only if traffic meets it, and no counter shows it.",
                "只有流量遇到它时才会丢包，而且没有计数器能显示。"
            ),
            false => text!(
                "a setting loses packets only if traffic meets it; counters then show it.",
                "只有流量遇到它时才会丢包，此时计数器会显示。"
            ),
        };
        self.loss(text!("It depends", "不一定"), why);
        self.section(text!("Where it is read", "从哪里读取"), state.read);
        self.english(text!("What ends it", "如何解决"), Some(state.fix));
        self.english(text!("How to take that back", "如何撤销"), Some(state.rollback));
        self.english(text!("Risk", "风险"), Some(state.risk));
        self.on_the_way(state.stage);
    }

    fn pitfall(&mut self, pitfall: &Pitfall) {
        self.first(pitfall.id, pitfall.text, None);
        self.loss(text!("No", "否"), text!("it is about how numbers are read.", "它讲的是如何读数。"));
        self.section(text!("Read from", "出处"), pitfall.source);
    }
}

const fn answer(effect: Effect) -> Text {
    match effect {
        Effect::Lost | Effect::LostConn => text!("Yes", "是"),
        Effect::Evidence | Effect::Maybe => text!("It depends", "不一定"),
        Effect::Benign | Effect::Info | Effect::Gauge => text!("No", "否"),
    }
}

/// Words as the kernel writes names.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

/// The id behind a word that is the name of a drop reason or of a counter of the kernel.
fn known_name(word: &str) -> Option<&'static str> {
    let counter = || facts::counters().iter().find(|c| c.name == word && word.len() > 3);
    facts::reason(word).map(|r| r.id).or_else(|| counter().map(|c| c.id))
}

/// The classic command that shows the counter.
fn by_hand(counter: &Counter) -> Option<String> {
    let name = counter.name;
    match counter.group {
        "Ip" | "IpExt" | "Icmp" | "Tcp" | "TcpExt" | "Udp" | "UdpLite" | "MPTcpExt" => {
            Some(format!("nstat -az {}{name}", counter.group))
        }
        "snmp6" => Some(format!("nstat -az {name}")),
        "rtnl_link_stats64" => Some("ip -s -s link show dev DEV".to_owned()),
        "nf_conntrack_stat" => Some("conntrack -S".to_owned()),
        group if group.starts_with("qdisc_") => Some("tc -s -d qdisc show dev DEV".to_owned()),
        group if group.starts_with("ethtool_driver.") => Some("ethtool -S DEV".to_owned()),
        _ => None,
    }
}
