//! `xfrm.bad_key`: the authentication of protected packets fails.

use super::{Refusals, refused_by_state};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "xfrm.bad_key",
    title: text!("The authentication of protected packets fails", "受保护的包认证失败"),
    meaning: text!(
        "Packets come with a known SPI, but their check does not fit: the two ends have different keys or algorithms, or somebody changed them on the way.",
        "到达的包带有已知的 SPI，但校验不符：两端的密钥或算法不同，或途中被改动。"
    ),
    seen_by: text!(
        "XfrmInStateProtoError in /proc/net/xfrm_stat rises, and a state counts failed checks.",
        "/proc/net/xfrm_stat 的 XfrmInStateProtoError 上升，且某个状态的校验失败计数增加。"
    ),
    why_lost: text!(
        "The kernel drops such a packet without an answer: tcpdump sees ESP arrive and nothing behind it.",
        "内核直接丢弃这样的包，不作应答：tcpdump 能看到 ESP 到达，之后什么也没有。"
    ),
    what_to_do: text!(
        "Let both ends negotiate new keys, or compare ip xfrm state of both ends (algorithm, key, SPI) where they are set by hand.",
        "让两端重新协商密钥；手工设置时比较两端的 ip xfrm state（算法、密钥、SPI）。"
    ),
    when_wrong: text!("A single damaged packet is no wrong key.", "单个损坏的包并不说明密钥错误。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Xfrm, Source::XfrmStat], judge };

const SUMMARY: Text = text!(
    "{n} protected packets did not pass the check of {state}: the two ends have different keys.",
    "{n} 个受保护的包未通过 {state} 的校验：两端的密钥不同。"
);
const DO: Text = text!(
    "let both ends negotiate new keys, or compare the algorithms and keys of {state} at both ends (ip xfrm state)",
    "让两端重新协商密钥，或比较两端 {state} 的算法与密钥（ip xfrm state）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let of = Refusals {
        // net/xfrm/xfrm_input.c:xfrm_input(): the transform's input failed.
        counter: "XfrmInStateProtoError",
        of_state: |state| u64::from(state.integrity_failed),
        summary: SUMMARY,
        advice: DO,
    };
    refused_by_state(space, &CAUSE, of).into()
}
