//! `cgroup.bpf_drop`: A BPF program on a cgroup drops.

use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule};
use crate::rules::events::by_events;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "cgroup.bpf_drop",
    title: text!("A BPF program on a cgroup drops", "cgroup 上的 BPF 程序丢弃数据包"),
    meaning: text!(
        "A program attached to the cgroup of a process (systemd's IPAddressDeny, a container runtime) refuses packets.",
        "挂在进程 cgroup 上的程序（systemd 的 IPAddressDeny、容器运行时）拒绝数据包。"
    ),
    seen_by: text!("The kernel reported drops by a cgroup filter.", "内核报告了 cgroup 过滤器的丢弃。"),
    why_lost: text!(
        "The packets die at the socket; no firewall shows them. Senders get EPERM.",
        "包在套接字处被丢弃，防火墙看不到。发送方得到 EPERM。"
    ),
    what_to_do: text!(
        "See bpftool cgroup tree, and systemctl show UNIT -p IPAddressDeny.",
        "查看 bpftool cgroup tree 和 systemctl show UNIT -p IPAddressDeny。"
    ),
    when_wrong: text!("When the unit should not talk.", "该单元本来就不应通信时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents], consequence_of: &[], judge };

const SUMMARY: Text = text!("A BPF program on a cgroup drops packets.", "cgroup 上的 BPF 程序丢弃数据包。");
const DO: Text = text!(
    "find the program: bpftool cgroup tree; systemctl show UNIT -p IPAddressDeny",
    "查找该程序：bpftool cgroup tree；systemctl show UNIT -p IPAddressDeny"
);

fn judge(space: Space<'_>) -> Judgement {
    by_events(space, &CAUSE, "cgroup.egress", &[], SUMMARY, DO)
}
