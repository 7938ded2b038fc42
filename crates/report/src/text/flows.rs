//! Who suffers: directly under the verdict, the worst first.

use crate::layout::{Page, name};
use crate::text::target_name;
use whydrop_model::flow::FlowDirection;
use whydrop_model::report::{Repeats, SufferingFlow};
use whydrop_model::{Lang, Phrase, Report, Text, text};

/// More than these are counted only.
const SHOWN: usize = 4;

const REFUSED: Text =
    text!("{n} of {of} connections to {to} refused", "到 {to} 的 {of} 次连接中 {n} 次被拒绝");
const UNANSWERED: Text =
    text!("{n} of {of} connections to {to} unanswered", "到 {to} 的 {of} 次连接中 {n} 次无应答");
const REFUSED_ALONE: Text =
    text!("{n} of {of} requests to {to} refused", "发往 {to} 的 {of} 个请求中 {n} 个被拒绝");
const UNANSWERED_ALONE: Text =
    text!("{n} of {of} requests to {to} unanswered", "发往 {to} 的 {of} 个请求中 {n} 个无应答");
const RESET: Text = text!("{n} of {of} connections to {to} cut", "到 {to} 的 {of} 次连接中 {n} 次被切断");
const FAILED: Text = text!("{n} of {of} connections to {to} failed", "到 {to} 的 {of} 次连接中 {n} 次失败");
const REPEATED: Text = text!("{n} segments to {to} sent again", "发往 {to} 的报文段重传 {n} 次");
const REPEATED_WHERE: Text = text!(
    "{n} segments to {to} sent again: {here} were lost here, {beyond} beyond",
    "发往 {to} 的报文段重传 {n} 次：{here} 个丢在本机，{beyond} 个丢在更远处"
);
const STALLED: Text = text!("waits for {to} since {s} s", "等待 {to} 已 {s} 秒");
const ERRORS: Text = text!("to {to}: {errors}", "到 {to}：{errors}");
const FURTHER: Text = text!("and {n} more", "另有 {n} 个");
const WHO: Text = text!("who", "受影响");

/// Writes the block; nothing if nobody suffers.
pub(super) fn write(report: &Report, lang: Lang, page: &mut Page) {
    let label = WHO.get(lang);
    let shown =
        report.flows.iter().take(SHOWN).map(|flow| line(&target_name(report, &flow.target), flow, lang));
    let left = report.flows.len().saturating_sub(SHOWN) as u64 + report.flows_seen.not_kept;
    let rest = (left > 0).then(|| FURTHER.fill(&[("n", &left)]).get(lang).to_owned());
    for (index, sentence) in shown.chain(rest).enumerate() {
        let indent = crate::layout::width(label) + 2;
        page.entry(if index == 0 { label } else { "" }, indent, &sentence);
    }
}

/// `curl (pid 4123) in web: 20 of 20 connections to 10.0.0.5:80 refused`; `place` is the name of its target.
pub fn line(place: &str, flow: &SufferingFlow, lang: Lang) -> String {
    let owner = flow.owner.as_ref().and_then(|owner| {
        let comm = name(owner.comm.as_deref()?);
        // Several containers of a pod share a namespace: which one it is.
        let inside = owner.container.as_deref().filter(|container| *container != place).map(name);
        let facts: Vec<String> =
            owner.pid.map(|pid| format!("pid {pid}")).into_iter().chain(inside).collect();
        Some(if facts.is_empty() { comm } else { format!("{comm} ({})", facts.join(", ")) })
    });
    let who = match (owner, flow.direction) {
        (Some(owner), _) => {
            text!("{owner} in {place}", "{place} 中的 {owner}").fill(&[("owner", &owner), ("place", &place)])
        }
        (None, FlowDirection::In) => {
            let from = name(&flow.remote);
            text!("{from}, from outside of {place}", "来自 {place} 之外的 {from}")
                .fill(&[("from", &from), ("place", &place)])
        }
        (None, FlowDirection::Out) => {
            text!("a program in {place}", "{place} 中的程序").fill(&[("place", &place)])
        }
    };
    let what = trouble(flow);
    let separator = match lang {
        Lang::En => ": ",
        Lang::Zh => "：",
    };
    format!("{}{separator}{}", who.get(lang), what.get(lang))
}

fn trouble(flow: &SufferingFlow) -> Phrase {
    let to = name(match flow.direction {
        FlowDirection::Out => &flow.remote,
        FlowDirection::In => &flow.local,
    });
    let trouble = &flow.trouble;
    let (refused, unanswered) = match flow.protocol.as_str() {
        "tcp" => (REFUSED, UNANSWERED),
        _ => (REFUSED_ALONE, UNANSWERED_ALONE),
    };
    let kinds = [(trouble.refused, refused), (trouble.unanswered, unanswered), (trouble.reset, RESET)];
    let kinds: Vec<(u64, Text)> = kinds.into_iter().filter(|(n, _)| *n > 0).collect();
    let failed: u64 = kinds.iter().map(|(n, _)| n).sum();
    match (kinds.as_slice(), trouble.retransmitted, trouble.stalled_seconds) {
        ([(n, text)], _, _) => text.fill(&[("n", n), ("of", &flow.attempts.max(*n)), ("to", &to)]),
        ([], _, Some(seconds)) => STALLED.fill(&[("to", &to), ("s", &format!("{seconds:.1}"))]),
        ([], n, None) if n > 0 => {
            match flow.repeats.as_ref().filter(|account| account.unmatched.total() == 0) {
                Some(Repeats { here, beyond, .. }) => {
                    REPEATED_WHERE.fill(&[("n", &n), ("to", &to), ("here", here), ("beyond", beyond)])
                }
                None => REPEATED.fill(&[("n", &n), ("to", &to)]),
            }
        }
        ([], _, None) => {
            let errors: Vec<String> =
                trouble.errors.iter().map(|(errno, n)| format!("{} x {n}", name(errno))).collect();
            ERRORS.fill(&[("to", &to), ("errors", &errors.join(", "))])
        }
        (_, _, _) => FAILED.fill(&[("n", &failed), ("of", &flow.attempts.max(failed)), ("to", &to)]),
    }
}
