//! `--compare`: did the change in between help?

use crate::failure::Refusal;
use anyhow::{Context, Result};
use std::path::Path;
use whydrop_model::{Phrase, ProbeResult, Text, text};
use whydrop_probe::stats::compare::{Run, compare};

/// Reads the counts of an earlier `--json` output.
pub fn read(path: &Path) -> Result<Run> {
    let shown = path.display();
    let refusal = |what: Text| Refusal::new(what.fill(&[("path", &shown)]));
    let unread = || refusal(text!("cannot read {path}", "无法读取 {path}"));
    let text = std::fs::read_to_string(path).with_context(unread)?;
    let json: serde_json::Value = serde_json::from_str(&text).with_context(unread)?;
    let number = |key: &str| json.get(key).and_then(serde_json::Value::as_u64);
    let missing = || {
        refusal(text!(
            "{path} is not the output of `whydrop probe --json`",
            "{path} 不是 `whydrop probe --json` 的输出"
        ))
    };
    let (total, lost, late) =
        (|| Some((number("transmitted")?, number("lost")?, number("late")?)))().with_context(missing)?;
    Ok(Run { lost: lost.saturating_add(late).min(total), total })
}

/// One sentence: the change with its interval, and whether chance explains it.
pub fn sentence(before: Run, result: &ProbeResult) -> Phrase {
    let after = Run { lost: result.lost + result.late, total: result.transmitted };
    let Some(c) = compare(before, after) else {
        return text!("nothing to compare: one of the runs sent nothing", "无法比较：其中一次没有发出探测")
            .phrase();
    };
    let points = |share: f64| format!("{:+.1}", share * 100.0);
    let chance = if c.chance < 0.001 { "< 0.1".to_owned() } else { format!("{:.1}", c.chance * 100.0) };
    let text = match (c.chance < 0.05, c.change < 0.0) {
        (true, true) => text!(
            "better than before: {change} points of loss (95 % interval {low} to {high}); chance alone does that in {chance} % of cases",
            "比之前好：丢包率变化 {change} 个百分点（95% 置信区间 {low} 至 {high}）；纯属偶然的概率为 {chance}%"
        ),
        (true, false) => text!(
            "worse than before: {change} points of loss (95 % interval {low} to {high}); chance alone does that in {chance} % of cases",
            "比之前差：丢包率变化 {change} 个百分点（95% 置信区间 {low} 至 {high}）；纯属偶然的概率为 {chance}%"
        ),
        (false, _) => text!(
            "no certain difference: {change} points of loss (95 % interval {low} to {high}); chance alone does that in {chance} % of cases",
            "无法确定有差别：丢包率变化 {change} 个百分点（95% 置信区间 {low} 至 {high}）；纯属偶然的概率为 {chance}%"
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
        let result = |lost, transmitted| ProbeResult { lost, transmitted, ..ProbeResult::default() };
        let before = Run { lost: 30, total: 100 };
        assert!(sentence(before, &result(0, 100)).en.starts_with("better"));
        assert!(sentence(before, &result(25, 100)).en.starts_with("no certain"));
        assert!(sentence(before, &result(70, 100)).en.starts_with("worse"));
        assert!(sentence(before, &result(0, 0)).en.starts_with("nothing"));
    }
}
