//! `--compare`: did the change in between help?

use crate::failure::Refusal;
use anyhow::{Context, Result};
use std::path::Path;
use whydrop_host::sys::file;
use whydrop_model::shell::sanitize;
use whydrop_model::{Phrase, ProbeResult, Text, text};
use whydrop_probe::stats::compare::{Run, compare};

/// Bytes of an earlier output; a run with every packet in it has less.
const LARGEST: usize = 64 << 20;

/// Reads the counts of an earlier `--json` output of a run against `url`.
pub fn read(path: &Path, url: &str) -> Result<Run> {
    let shown = path.display();
    let refusal = |what: Text| Refusal::new(what.fill(&[("path", &shown)]));
    let unread = || refusal(text!("cannot read {path}", "无法读取 {path}"));
    let text = file::bounded(path, LARGEST)?;
    let json: serde_json::Value = serde_json::from_slice(&text).with_context(unread)?;
    let number = |key: &str| json.get(key).and_then(serde_json::Value::as_u64);
    let missing = || {
        refusal(text!(
            "{path} is not the output of `whydrop probe --json`",
            "{path} 不是 `whydrop probe --json` 的输出"
        ))
    };
    let (total, lost, late, then) = (|| {
        Some((
            number("transmitted")?,
            number("lost")?,
            number("late")?,
            json.get("url")?.as_str()?.to_owned(),
        ))
    })()
    .with_context(missing)?;
    if then != url {
        let what =
            text!("{path} holds a run against another URL: {then}", "{path} 是针对另一个 URL 的运行：{then}");
        return Err(Refusal::new(what.fill(&[("path", &shown), ("then", &sanitize(&then, 120))])).into());
    }
    // Of a closed UDP port, and of a run that sent nothing, no loss is known.
    let known = json.get("loss").is_some_and(serde_json::Value::is_number);
    Ok(Run { lost: lost.saturating_add(late).min(total), total: if known { total } else { 0 } })
}

/// One sentence: the change with its interval, and whether chance explains it.
pub fn sentence(before: Run, result: &ProbeResult) -> Phrase {
    let total = if result.loss.is_some() { result.transmitted } else { 0 };
    let after = Run { lost: result.lost + result.late, total };
    let Some(c) = compare(before, after) else {
        return text!(
            "nothing to compare: of one of the runs no loss is known",
            "无法比较：其中一次运行的丢包率未知"
        )
        .phrase();
    };
    let points = |share: f64| format!("{:+.1}", share * 100.0);
    let chance = if c.chance < 0.001 { "< 0.1".to_owned() } else { format!("{:.1}", c.chance * 100.0) };
    // `chance` is of this direction only, and the direction was not known before.
    let certain = c.chance < 0.025 && (c.ci95[0] > 0.0 || c.ci95[1] < 0.0);
    let text = match (certain, c.change < 0.0) {
        (true, true) => text!(
            "better than before: {change} points of loss (95 % interval {low} to {high}); chance alone does that in {chance} % of cases",
            "比之前好：丢包率变化 {change} 个百分点（95% 置信区间 {low} 至 {high}）；若无变化，仅凭偶然出现此差异的概率为 {chance}%"
        ),
        (true, false) => text!(
            "worse than before: {change} points of loss (95 % interval {low} to {high}); chance alone does that in {chance} % of cases",
            "比之前差：丢包率变化 {change} 个百分点（95% 置信区间 {low} 至 {high}）；若无变化，仅凭偶然出现此差异的概率为 {chance}%"
        ),
        (false, _) => text!(
            "no certain difference: {change} points of loss (95 % interval {low} to {high}); chance alone does that in {chance} % of cases",
            "无法确定有差别：丢包率变化 {change} 个百分点（95% 置信区间 {low} 至 {high}）；若无变化，仅凭偶然出现此差异的概率为 {chance}%"
        ),
    };
    let [low, high] = c.ci95;
    text.fill(&[
        ("change", &points(c.change)),
        ("low", &points(low)),
        ("high", &points(high)),
        ("chance", &chance),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_better_only_when_chance_is_unlikely() {
        let result = |lost, transmitted| ProbeResult {
            lost,
            transmitted,
            loss: (transmitted > 0).then(|| lost as f64 / transmitted as f64),
            ..ProbeResult::default()
        };
        let before = Run { lost: 30, total: 100 };
        assert!(sentence(before, &result(0, 100)).en.starts_with("better"));
        assert!(sentence(before, &result(25, 100)).en.starts_with("no certain"));
        assert!(sentence(before, &result(70, 100)).en.starts_with("worse"));
        assert!(sentence(before, &result(0, 0)).en.starts_with("nothing"));
        let unknown = ProbeResult { loss: None, ..result(20, 30) };
        assert!(sentence(before, &unknown).en.starts_with("nothing"));
        // One-sided chance 4 %: "better" with 95 % certainty would be too much.
        let border = sentence(Run { lost: 4, total: 10 }, &result(0, 10)).en;
        assert!(border.starts_with("no certain"), "{border}");
    }
}
