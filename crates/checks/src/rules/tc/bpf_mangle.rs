//! `tc.bpf_mangle`: a BPF program attached with tc changes packets and leaves a wrong checksum.

use super::side;
use crate::coverage::Source;
use crate::culprit::{Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::damage::{self, Damage};
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use crate::rules::damaged;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::{Link, TcFilter};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tc.bpf_mangle",
    title: text!(
        "A BPF program attached with tc leaves wrong checksums",
        "用 tc 挂载的 BPF 程序留下错误的校验和"
    ),
    meaning: text!(
        "A BPF program on the way rewrites packets and does not correct their checksums.",
        "途中的 BPF 程序改写了包，却没有更正其校验和。"
    ),
    seen_by: text!(
        "Packets arrive with wrong checksums, no offload left them so, and a BPF program is attached with tc to an interface that they passed.",
        "包到达时校验和错误，并非卸载所致，而它们经过的接口上挂有 tc BPF 程序。"
    ),
    why_lost: text!(
        "Whoever receives such a packet takes it for damaged and discards it.",
        "接收方把这样的包视为损坏并丢弃。"
    ),
    what_to_do: text!(
        "Detach the program, or let it use bpf_l3_csum_replace and bpf_l4_csum_replace (or BPF_F_RECOMPUTE_CSUM).",
        "卸载该程序，或让它使用 bpf_l3_csum_replace 和 bpf_l4_csum_replace（或 BPF_F_RECOMPUTE_CSUM）。"
    ),
    when_wrong: text!(
        "When the wire damages packets that pass a program which only looks at them.",
        "线路损坏了包，而程序只是查看这些包时。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Mib, Source::Filters, Source::DropEvents], judge };

/// Longest program name shown.
const MAX_NAME: usize = 64;
/// That the program does it is only likely: it could merely look on.
const BY_PLACE: f64 = 0.9;

const SUMMARY: Text = text!(
    "Packets arrive with wrong checksums after the BPF program on {dev} ({side}) of {target}.",
    "包经过 {target} 的 {dev}（{side}）上的 BPF 程序后，校验和错误。"
);
const ATTACHED: Text = text!(
    "the BPF program {name} is attached to {dev} {side}, pref {pref}",
    "BPF 程序 {name} 挂在 {dev} {side}，pref {pref}"
);
const DELETE: Text = text!(
    "detach the program: tc filter del dev {dev} {side} pref {pref}",
    "卸载该程序：tc filter del dev {dev} {side} pref {pref}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let Some(Damage::Program(there, link, filter)) = damage::of(space) else { return Judgement::default() };
    let mut culprit = damaged::culprit(vec![space], there, &CAUSE).at_most(BY_PLACE);
    culprit.scope = Scope::Rule;
    culprit.subject = format!("{} {}, filter pref {}", link.name, side(filter.parent), filter.preference);
    Some(culprit.tell(move |_| story(space, there, link, filter))).into()
}

fn story(space: Space<'_>, there: Space<'_>, link: &Link, filter: &TcFilter) -> Story {
    let name = filter.program.as_ref().map_or_else(|| "?".to_owned(), |name| sanitize(name, MAX_NAME));
    let words: [(&str, &dyn std::fmt::Display); 5] = [
        ("dev", &link.name),
        ("side", &side(filter.parent)),
        ("target", &there.target().id),
        ("name", &name),
        ("pref", &filter.preference),
    ];
    let show = ["tc", "filter", "show", "dev", &link.name, side(filter.parent)];
    let story = Story::new(SUMMARY.fill(&words))
        .evidence(ATTACHED.fill(&words), "tc filters", &show)
        .fix(by_hand(DELETE.fill(&words)));
    damaged::witnesses(space, story)
}
