//! The picture of a way on a terminal.

use super::Picture;
use crate::layout::{Page, pad, width};
use crate::number::maybe;
use crate::text::Options;
use whydrop_model::{Text, text};

const LABEL: Text = text!("way", "路径");
const REQUEST: Text = text!("request", "去程");
const ANSWER: Text = text!("answer", "回程");
/// Columns of a lane's name, if they suffice.
const NAME: usize = 22;
/// Columns of a number.
const NUMBER: usize = 9;

/// Writes one line for each lane and each loss in it, in the order of the request.
pub(crate) fn write(picture: &Picture, options: &Options, page: &mut Page) {
    let lang = options.lang;
    let label = LABEL.get(lang);
    page.entry(label, width(label) + 2, &picture.title);
    let ends: Vec<String> = picture.ends(lang).into_iter().filter(|end| !end.is_empty()).collect();
    let comma = if lang == whydrop_model::Lang::Zh { "，" } else { ", " };
    if !ends.is_empty() {
        page.entry("", width(label) + 2, &ends.join(comma));
    }
    if options.plain {
        return plain(picture, options, page);
    }
    let right = |text: &str| format!("{}{text}", " ".repeat(NUMBER.saturating_sub(width(text))));
    let (request, answer) = (REQUEST.get(lang), ANSWER.get(lang));
    page.line(&format!("  {}{}{}", " ".repeat(NAME), right(request), right(answer)));
    let followed = picture.lanes.iter().any(|lane| lane.on_way);
    let beside = text!("(beside this way)", "（不在此路径上）").get(lang);
    for lane in &picture.lanes {
        let marks = if lane.on_way || !followed { lane.marks.join(", ") } else { beside.to_owned() };
        let blank = " ".repeat(2 * NUMBER);
        page.line(&format!("  {}{blank}  {marks}", pad(&lane.name, NAME)));
        for strip in &lane.losses {
            let lost = match strip.packets {
                Some(n) => format!("-{}", maybe(Some(n))),
                None => "?".to_owned(),
            };
            let (there, back) = if strip.back { ("", lost.as_str()) } else { (lost.as_str(), "") };
            let head = format!("  {}{}{}  ", " ".repeat(NAME), right(there), right(back));
            let column = width(&head) + width(&strip.number) + 2;
            page.entry(&format!("{head}{}", strip.number), column, &strip.label);
        }
    }
    if picture.leaves {
        let out = text!("goes on beyond this machine", "继续到本机之外").get(lang);
        page.line(&format!("  {out}"));
    }
}

fn plain(picture: &Picture, options: &Options, page: &mut Page) {
    let lang = options.lang;
    for lane in &picture.lanes {
        page.entry(&lane.name, 0, &lane.marks.join(", "));
        for strip in &lane.losses {
            let part = if strip.back { ANSWER } else { REQUEST };
            let text =
                text!("{part}: {n} {n|packet|packets} lost, {label}", "{part}：丢失 {n} 个包，{label}");
            let text = text.fill(&[
                ("part", &part.get(lang)),
                ("n", &maybe(strip.packets)),
                ("label", &strip.label),
            ]);
            let cause = text!("cause {n}", "原因 {n}").fill(&[("n", &strip.number)]);
            page.entry(cause.get(lang), 0, text.get(lang));
        }
    }
}
