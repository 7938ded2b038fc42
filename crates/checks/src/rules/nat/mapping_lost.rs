//! `nat.mapping_lost`: translations of living connections were taken away.

use crate::coverage::Source;
use crate::culprit::Story;
use crate::evidence::case::Space;
use crate::evidence::forgotten::{forgotten, timeout_s};
use crate::fixes::manual;
use crate::rule::{Judgement, Rule};
use crate::rules::conntrack::lost_state;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "nat.mapping_lost",
    title: text!("Translations of living connections were taken away", "正在使用的连接的地址转换被清除"),
    meaning: text!(
        "The entries by which connection tracking translates were deleted while the connections lived: by conntrack -F or -D, a reload, or an interface that lost its address.",
        "连接跟踪用于地址转换的条目在连接仍存活时被删除：例如 conntrack -F 或 -D、重载，或接口失去地址。"
    ),
    seen_by: text!(
        "A connection waits for an acknowledgement, passes a namespace that translates it, and has no entry there although it was not silent for as long as entries are kept.",
        "某个连接在等待确认，经过对其做转换的命名空间，却在那里没有条目，而它的静默时间还没有达到条目的保留时长。"
    ),
    why_lost: text!(
        "Its packets pass untranslated, or come back to an address and port that mean nobody any more.",
        "它的包未经转换就通过，或回到一个不再对应任何人的地址和端口。"
    ),
    what_to_do: text!(
        "Let the programs connect again; find what deletes the entries, and let it delete no more than it must.",
        "让程序重新连接；找出删除条目的程序，并让它只删除必要的部分。"
    ),
    when_wrong: text!(
        "When the connection never passed this translator before: a route was changed.",
        "该连接以前并不经过这个转换者（路由改变）时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::ConntrackEntries, Source::Sockets], judge };

const SUMMARY: Text = text!(
    "{n} living connections have lost their translation here and do not go on.",
    "有 {n} 个存活的连接在此失去了地址转换，无法继续。"
);
const YOUNG: Text = text!(
    "entries are kept for {timeout} s of silence, and these were silent for less",
    "条目在静默 {timeout} 秒后才会删除，而这些连接的静默时间更短"
);
const AGAIN: Text = text!(
    "let the programs connect again, and find what deletes the entries: conntrack -E -e DESTROY shows it happen",
    "让程序重新连接，并找出删除条目的程序：conntrack -E -e DESTROY 可显示删除过程"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let timeout = timeout_s(space);
    let all = forgotten(space).into_iter();
    let taken: Vec<_> = all.filter(|lost| lost.translated && !lost.was_idle(timeout)).collect();
    lost_state(space, &CAUSE, taken, move |lost| {
        Story::new(SUMMARY.fill(&[("n", &lost.len())]))
            .evidence(YOUNG.fill(&[("timeout", &timeout)]), "conntrack settings", &[])
            .fix(manual(AGAIN))
    })
    .into()
}
