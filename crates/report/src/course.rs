//! `whydrop way`: the way of a packet, step by step, for people and as JSON.

use crate::json::pretty;
use crate::layout::{Ink, name};
use crate::text::Options;
use serde::Serialize;
use std::io::{self, Write};
use whydrop_model::course::{Course, CourseEnd, CourseFate, CourseStep};
use whydrop_model::{Lang, Phrase, text};

/// Name and version of the document.
pub const SCHEMA: &str = "whydrop.way.v1";

#[derive(Serialize)]
struct Document<'c> {
    schema: &'static str,
    url: &'c str,
    from: &'c str,
    address: String,
    end: &'static str,
    target: &'c str,
    summary: &'c str,
    request: Vec<Step<'c>>,
    answer: Vec<Step<'c>>,
}

#[derive(Serialize)]
struct Step<'c> {
    target: &'c str,
    stage: &'c str,
    fate: &'static str,
    text: &'c str,
    tried: Vec<Tried<'c>>,
}

#[derive(Serialize)]
struct Tried<'c> {
    rule: &'c str,
    missed: &'c str,
}

/// Writes the way as one document.
///
/// # Errors
/// Those of `out`.
pub fn json(course: &Course, lang: Lang, out: &mut dyn Write) -> io::Result<()> {
    let document = Document {
        schema: SCHEMA,
        url: &course.url,
        from: &course.from,
        address: course.address.to_string(),
        end: course.end.word(),
        target: &course.target,
        summary: course.summary.get(lang),
        request: course.request.iter().map(|step| document(step, lang)).collect(),
        answer: course.answer.iter().map(|step| document(step, lang)).collect(),
    };
    pretty(&document, out)
}

fn document(step: &CourseStep, lang: Lang) -> Step<'_> {
    let tried = step.tried.iter().map(|tried| Tried { rule: &tried.rule, missed: &tried.missed });
    Step {
        target: &step.target,
        stage: &step.stage,
        fate: step.fate.word(),
        text: step.text.get(lang),
        tried: tried.collect(),
    }
}

/// Writes the way for people: the answer first, then each step under its namespace.
///
/// # Errors
/// Those of `out`.
pub fn write(course: &Course, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let lang = options.lang;
    let mut page = options.page();
    let head = text!("{url} from {from}: {word} at {target}", "{url}（从 {from}）：{word}，位于 {target}");
    let word = word(course.end);
    let filled = |word: &str| {
        head.fill(&[
            ("url", &name(&course.url)),
            ("from", &course.from),
            ("word", &word),
            ("target", &course.target),
        ])
    };
    let line = Phrase { en: filled(&word.en).en, zh: filled(&word.zh).zh };
    page.paragraph(0, line.get(lang));
    page.paragraph(0, course.summary.get(lang));
    let request = text!("The request", "请求").phrase();
    let answer = text!("The answer", "应答").phrase();
    for (title, steps) in [(request, &course.request), (answer, &course.answer)] {
        if steps.is_empty() {
            continue;
        }
        page.blank();
        page.paragraph(0, title.get(lang));
        let mut target = "";
        for step in steps {
            if step.target != target {
                target = &step.target;
                page.paragraph(2, &name(target));
            }
            let ink = match step.fate {
                CourseFate::Passes | CourseFate::Translated => Ink::Plain,
                CourseFate::Ends => Ink::Red,
                CourseFate::May => Ink::Yellow,
            };
            page.marked(ink, &format!("    {}", step.stage), 28, step.text.get(lang));
            for tried in &step.tried {
                let missed = text!("{rule} does not fit: {missed}", "{rule} 不匹配：{missed}");
                let words: [(&str, &dyn std::fmt::Display); 2] =
                    [("rule", &tried.rule), ("missed", &tried.missed)];
                page.paragraph(28, missed.fill(&words).get(lang));
            }
        }
    }
    let note = text!(
        "Nothing was sent: this is what the tables say, not what happened.",
        "没有发送任何包：这是各表的说法，不是实际发生的事。"
    );
    page.blank();
    page.paragraph(0, note.phrase().get(lang));
    out.write_all(page.finish().as_bytes())
}

fn word(end: CourseEnd) -> Phrase {
    match end {
        CourseEnd::Arrives => text!("arrives", "到达"),
        CourseEnd::Dropped => text!("would be dropped", "会被丢弃"),
        CourseEnd::Rejected => text!("would be rejected", "会被拒绝"),
        CourseEnd::Queued => text!("would go to a queue in user space", "会进入用户态队列"),
        CourseEnd::NoRoute => text!("has no way out", "没有出路"),
        CourseEnd::Refused => text!("is refused by a route", "被路由拒绝"),
        CourseEnd::NotForwarded => text!("is not forwarded", "不会被转发"),
        CourseEnd::NotListening => text!("finds nobody who listens", "无人监听"),
        CourseEnd::NoNeighbour => text!("finds no neighbour", "找不到邻居"),
        CourseEnd::Circles => text!("goes in a circle", "陷入环路"),
        CourseEnd::OutOfSight => text!("leaves what is in view", "离开可见范围"),
        CourseEnd::Unclear => text!("cannot be told for sure", "无法确定"),
    }
    .phrase()
}
