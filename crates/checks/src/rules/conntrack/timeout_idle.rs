//! `conntrack.timeout_idle`: an idle connection was forgotten.

use super::lost_state;
use crate::coverage::Source;
use crate::culprit::Story;
use crate::evidence::case::Space;
use crate::evidence::forgotten::{DEFAULT_TIMEOUT_S, TIMEOUT, forgotten, timeout_s};
use crate::fixes::{fix, manual};
use crate::rule::{Judgement, Rule};
use whydrop_model::action::Action;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "conntrack.timeout_idle",
    title: text!("An idle connection was forgotten", "空闲的连接已被遗忘"),
    meaning: text!(
        "A connection was silent for longer than connection tracking remembers, and its next packet belongs to nothing.",
        "连接静默的时间超过了连接跟踪的记忆时长，其下一个包不再属于任何连接。"
    ),
    seen_by: text!(
        "A connection waits for an acknowledgement, a translator or stateful filter on its way has no entry for it, and it was silent for longer than nf_conntrack_tcp_timeout_established.",
        "某个连接在等待确认，途中的转换者或有状态过滤没有其条目，且静默时间超过 nf_conntrack_tcp_timeout_established。"
    ),
    why_lost: text!(
        "Without its entry a packet is neither translated back nor known as established, and is refused or lost.",
        "没有条目，包既不会被转换回去，也不被视为已建立连接，于是被拒绝或丢失。"
    ),
    what_to_do: text!(
        "Let the programs send keep-alives more often than the time-out, or raise it.",
        "让程序以短于超时的间隔发送 keep-alive，或提高该超时。"
    ),
    when_wrong: text!(
        "When the entries were deleted, and the connection was not idle.",
        "条目是被删除的、而连接并不空闲时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::ConntrackEntries, Source::Sockets], judge };

const SUMMARY: Text = text!(
    "{n} connections were idle for longer than {timeout} s and are forgotten here; they do not go on.",
    "有 {n} 个连接空闲超过 {timeout} 秒，在此已被遗忘，无法继续。"
);
const SETTING: Text =
    text!("established connections are forgotten after {timeout} s", "已建立的连接在 {timeout} 秒后被遗忘");
const RAISE: Text =
    text!("let connection tracking remember idle connections for longer", "让连接跟踪更久地记住空闲连接");
const KEEP_ALIVE: Text = text!(
    "let the programs send TCP keep-alives more often than that (SO_KEEPALIVE, net.ipv4.tcp_keepalive_time), and connect again",
    "让程序以更短的间隔发送 TCP keep-alive（SO_KEEPALIVE、net.ipv4.tcp_keepalive_time），并重新连接"
);
const COSTS: Text = text!(
    "connections that are given up without an end keep their entries for longer, too",
    "未正常结束的连接也会更久地占用条目"
);
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let timeout = timeout_s(space);
    let idle: Vec<_> = forgotten(space).into_iter().filter(|lost| lost.was_idle(timeout)).collect();
    lost_state(space, &CAUSE, idle, move |lost| {
        let words: [(&str, &dyn std::fmt::Display); 2] = [("n", &lost.len()), ("timeout", &timeout)];
        let story = Story::new(SUMMARY.fill(&words)).evidence(
            SETTING.fill(&words),
            "conntrack settings",
            &["sysctl", TIMEOUT],
        );
        // What is forgotten comes back only when the programs connect again: no setting is proven before that.
        let story = story.fix(manual(KEEP_ALIVE));
        if timeout >= DEFAULT_TIMEOUT_S {
            return story;
        }
        let value = DEFAULT_TIMEOUT_S.to_string();
        let action = Action::Sysctl { name: TIMEOUT.into(), value, was: timeout.to_string() };
        let mut raise = fix(space, RAISE.phrase(), vec![action]);
        (raise.caution, raise.persist) = (Some(COSTS.phrase()), Some(PERSIST.phrase()));
        story.fix(raise)
    })
    .into()
}
