//! `conntrack.helper_missing`: a protocol with a second flow passes NAT or a stateful filter without its helper.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::second::{self, Control};
use crate::evidence::tracked;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use crate::rules::netfilter::drop_policy::judge_policies;
use crate::rules::netfilter::drops::Class;
use crate::rules::netfilter::judge::judge_class;
use crate::rules::netfilter::unexpected;
use std::net::SocketAddr;
use whydrop_model::snapshot::ConntrackEntry;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "conntrack.helper_missing",
    title: text!(
        "A protocol with a second flow passes NAT or a stateful filter without its helper",
        "带有第二条流的协议在没有助手（helper）的情况下经过 NAT 或有状态过滤"
    ),
    meaning: text!(
        "FTP, TFTP, SIP and their like agree inside one flow on a second one, which connection tracking expects only with the helper of the protocol.",
        "FTP、TFTP、SIP 等协议在一条流中约定第二条流，连接跟踪只有在该协议的 helper 存在时才会预期它。"
    ),
    seen_by: text!(
        "A control connection has an entry without a helper here, and packets of another flow between the same two hosts are refused, or go to an address that only translation knows.",
        "控制连接在此有条目但没有 helper，而同样两台主机之间另一条流的包被拒绝，或发往只有地址转换才认识的地址。"
    ),
    why_lost: text!(
        "The second flow is NEW instead of RELATED, so that a stateful filter drops it; and the address inside the control flow is not translated.",
        "第二条流的状态是 NEW 而不是 RELATED，因而被有状态过滤丢弃；控制流中的地址也不会被转换。"
    ),
    what_to_do: text!(
        "Attach the helper to the control port (CT --helper in the raw table), or let the protocol use a mode and ports that the filter accepts.",
        "在 raw 表中为控制端口指定 helper（CT --helper），或让协议使用过滤规则允许的模式和端口。"
    ),
    when_wrong: text!(
        "An encrypted control flow cannot be read by a helper: open its data ports instead.",
        "加密的控制流无法被 helper 读取：应改为放行其数据端口。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[Source::ConntrackEntries, Source::Nftables, Source::IptablesLegacy, Source::Ip6tablesLegacy],
    judge,
};

const SUMMARY: Text = text!(
    "The second flow of {helper} between {client} and {server} is not expected here: no helper reads the first one.",
    "{client} 与 {server} 之间 {helper} 的第二条流在此不被预期：没有 helper 读取第一条流。"
);
const FILTERED: Text = text!(
    "No helper reads a control connection here, and what it agrees on is dropped as new ({way}).",
    "此处没有 helper 读取控制连接，其约定的第二条流被当作新连接丢弃（{way}）。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = judge_class(space, &CAUSE, Class::Unexpected, FILTERED);
    let policies = judge_policies(space, &CAUSE, FILTERED, |class| class == Some(Class::Unexpected));
    judgement.culprits.extend(policies.culprits);
    judgement.notes.extend(policies.notes);
    let mut found: Vec<Control<'_>> = vec![];
    for control in tracked::entries(space).filter(|entry| is_translated(entry)).filter_map(second::control) {
        if !found.contains(&control) && is_met(space, &control) {
            found.push(control);
        }
    }
    judgement.culprits.extend(found.into_iter().map(|control| culprit(space, control)));
    judgement
}

fn is_translated(entry: &ConntrackEntry) -> bool {
    entry.is("src_nat") || entry.is("dst_nat")
}

/// True if something was lost, or somebody is in trouble, that may be the second flow.
fn is_met(space: Space<'_>, control: &Control<'_>) -> bool {
    space.case.losses.iter().any(|loss| takes(control, loss) != Fit::No)
        || space.case.flows.iter().any(|flow| harms(control, flow) != Fit::No)
}

/// Behind NAT the second flow goes to an address that the control flow names and only the translator knows.
fn culprit<'a>(space: Space<'a>, control: Control<'a>) -> Culprit<'a> {
    Culprit::new(space, &CAUSE, "conntrack", Scope::Rule, unexpected::subject(&control))
        .direction(Direction::Forward)
        .reaches()
        .takes(move |loss| takes(&control, loss))
        .harms(move |flow| harms(&control, flow))
        .tell(move |_| story(space, &control))
}

fn takes(control: &Control<'_>, loss: &Loss<'_>) -> Fit {
    let Some(event) = loss.event else { return Fit::No };
    let (Some(from), Some(to), Some(protocol)) = (event.source, event.destination, event.protocol) else {
        return Fit::No;
    };
    let astray = ["route", "socket", "neighbour", "tcp"].iter().any(|stage| loss.is_at_stage(stage));
    Fit::sure(astray && control.is_second(protocol, from, to))
}

fn harms(control: &Control<'_>, flow: &Flow<'_>) -> Fit {
    let (Some(source), Some(address), Some(port)) = (flow.source, flow.address, flow.port) else {
        return Fit::No;
    };
    let from = SocketAddr::new(source, flow.source_port.unwrap_or(0));
    let meant = control.is_second(flow.protocol, from, SocketAddr::new(address, port));
    if meant && flow.in_trouble() { Fit::Maybe } else { Fit::No }
}

fn story(space: Space<'_>, control: &Control<'_>) -> Story {
    let original = &control.entry.original;
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("helper", &control.helper), ("client", &original.source), ("server", &original.destination)];
    unexpected::told(control, Story::new(SUMMARY.fill(&words))).fix(unexpected::attach(space, control))
}
