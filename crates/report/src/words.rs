//! The fixed words: the same on every surface.

use whydrop_model::{Applicability, NoteStatus, Severity, Text, Verdict, text};

/// LOSS, CLEAR or UNSURE.
pub const fn verdict(verdict: Verdict) -> Text {
    match verdict {
        Verdict::Loss => text!("LOSS", "丢包"),
        Verdict::Clear => text!("CLEAR", "正常"),
        Verdict::Inconclusive => text!("UNSURE", "无法定论"),
    }
}

/// critical or warning.
pub const fn severity(severity: Severity) -> Text {
    match severity {
        Severity::Critical => text!("critical", "严重"),
        Severity::Warning => text!("warning", "警告"),
    }
}

/// safe, weakens, disruptive or manual.
pub const fn applicability(applicability: Applicability) -> Text {
    match applicability {
        Applicability::Safe => text!("safe", "安全"),
        Applicability::Weakens => text!("weakens", "会放宽防护"),
        Applicability::Disruptive => text!("disruptive", "会中断业务"),
        Applicability::Manual => text!("manual", "需人工处理"),
    }
}

/// innocent, latent, old, consequence or unjudged.
pub const fn note_status(status: NoteStatus) -> Text {
    match status {
        NoteStatus::Benign => text!("innocent", "无害"),
        NoteStatus::Latent => text!("latent", "隐患"),
        NoteStatus::Old => text!("old", "早先发生"),
        NoteStatus::Consequence => text!("consequence", "连带现象"),
        NoteStatus::Unjudged => text!("unjudged", "无法判断"),
    }
}
