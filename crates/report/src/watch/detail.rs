//! The chosen cause: in short, in full, explained, and its fix as a plan.

use super::screen::{Line, Tone, lines, plain};
use super::{Tracked, Watch};
use crate::words;
use whydrop_model::text;

/// Changes before a loss that are named.
const SUSPECTS: usize = 3;

impl Watch {
    /// In short, for the list.
    pub(super) fn detail(&self, columns: usize) -> Vec<Line> {
        let Some((number, cause)) = self.selected() else { return vec![] };
        let mut out = self.began(number, cause, columns, SUSPECTS);
        if let Some(command) = cause.fix.commands.first() {
            let fix = text!("fix  {command}", "修复  {command}").fill(&[("command", command)]);
            out.extend(lines(fix.get(self.lang), columns, 2));
        }
        out
    }

    fn began(&self, number: usize, cause: &Tracked, columns: usize, suspects: usize) -> Vec<Line> {
        let lang = self.lang;
        let began = text!("{n}  {place}, since {at}: {summary}", "{n}  {place}，自 {at} 起：{summary}");
        let began = began.fill(&[
            ("n", &number),
            ("place", &cause.place),
            ("at", &cause.began.first.at),
            ("summary", &cause.summary.get(lang)),
        ]);
        let mut out: Vec<Line> = lines(began.get(lang), columns, 2);
        for changed in cause.suspects.iter().take(suspects) {
            let before = match changed.announced {
                true => text!(
                    "changed shortly before, {at}, {target}: {what}",
                    "此前不久的改动，{at}，{target}：{what}"
                ),
                false => text!(
                    "changed shortly before, up to {at}, {target}: {what}",
                    "此前不久的改动，不晚于 {at}，{target}：{what}"
                ),
            };
            let before = before.fill(&[
                ("at", &changed.when.at),
                ("target", &changed.target),
                ("what", &changed.what.get(lang)),
            ]);
            let told = lines(before.get(lang), columns, 2);
            out.extend(told.into_iter().map(|line| Line { tone: Tone::Bold, ..line }));
        }
        out
    }

    /// In full.
    pub(super) fn cause(&self, columns: usize) -> Vec<Line> {
        let Some((number, cause)) = self.selected() else { return vec![] };
        let mut out = vec![title(cause), plain(String::new())];
        out.extend(self.began(number, cause, columns, usize::MAX));
        for command in &cause.fix.commands {
            let fix = text!("fix  {command}", "修复  {command}").fill(&[("command", command)]);
            out.extend(lines(fix.get(self.lang), columns, 2));
        }
        out.push(plain(String::new()));
        out.push(plain(format!("whydrop explain {}", cause.cause)));
        out
    }

    /// What it means.
    pub(super) fn explain(&self, columns: usize) -> Vec<Line> {
        let Some((_, cause)) = self.selected() else { return vec![] };
        let mut out = vec![title(cause), plain(String::new())];
        out.extend(lines(cause.summary.get(self.lang), columns, 0));
        for paragraph in cause.explanation.get(self.lang).lines() {
            out.extend(lines(paragraph, columns, 0));
        }
        out.push(plain(String::new()));
        out.push(plain(format!("whydrop explain {}", cause.cause)));
        out
    }

    /// What would be done, and how it is taken back; nothing is done from here.
    pub(super) fn fix(&self, columns: usize) -> Vec<Line> {
        let Some((_, cause)) = self.selected() else { return vec![] };
        let lang = self.lang;
        let mut out = vec![title(cause), plain(String::new())];
        let Some(kind) = cause.fix.applicability else {
            out.push(plain(text!("no change to propose", "没有可提议的改动").get(lang).to_owned()));
            return out;
        };
        let kind = words::applicability(kind).get(lang);
        out.extend(lines(&format!("{kind}: {}", cause.fix.title.get(lang)), columns, 0));
        cause.fix.commands.iter().for_each(|command| out.extend(lines(command, columns, 2)));
        for command in &cause.fix.undo {
            let undo = text!("undo: {command}", "撤销：{command}").fill(&[("command", command)]);
            out.extend(lines(undo.get(lang), columns, 2));
        }
        if let Some(caution) = &cause.fix.caution {
            out.extend(lines(caution.get(lang), columns, 2));
        }
        out.push(plain(String::new()));
        let asks = text!(
            "To do it, with a question before and a measurement after:",
            "若要执行（先询问，后测量）："
        );
        out.push(plain(asks.get(lang).to_owned()));
        out.push(plain(format!("  whydrop fix {} --only {}", cause.word, cause.cause)));
        out
    }
}

fn title(cause: &Tracked) -> Line {
    Line { tone: Tone::Bold, text: format!("{}  {}", cause.cause, cause.place) }
}
