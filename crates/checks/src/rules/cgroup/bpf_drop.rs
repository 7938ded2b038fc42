//! `cgroup.bpf_drop`: A BPF program on a cgroup drops.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::forbidden;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use crate::rules::socket::{holding, is_filtered};
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::{Attach, Cgroup};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "cgroup.bpf_drop",
    title: text!("A BPF program on a cgroup drops", "cgroup 上的 BPF 程序丢弃数据包"),
    meaning: text!(
        "A program attached to the cgroup of a process (systemd's IPAddressDeny, a container runtime) refuses packets, or the calls that would send them.",
        "挂在进程 cgroup 上的程序（systemd 的 IPAddressDeny、容器运行时）拒绝数据包，或拒绝将要发送它们的系统调用。"
    ),
    seen_by: text!(
        "The kernel reported drops by a cgroup filter; for arriving packets, at the socket of a process to whose cgroup a program is attached. Or connect() or sendmsg() failed with EPERM in a cgroup that has a program for such calls.",
        "内核报告了 cgroup 过滤器的丢弃；对于入站包，丢弃发生在某个进程的套接字处，而该进程的 cgroup 上挂有程序。或者 connect() 或 sendmsg() 以 EPERM 失败，而所在 cgroup 挂有针对此类调用的程序。"
    ),
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents], judge };

/// More calls are not listed.
const MOST_CALLS: usize = 4;
/// Longest name shown.
const MAX_NAME: usize = 120;

const SUMMARY: Text =
    text!("A BPF program on the cgroup {path} drops packets.", "cgroup {path} 上的 BPF 程序丢弃数据包。");
const SUMMARY_ANY: Text =
    text!("A BPF program on a cgroup drops packets.", "cgroup 上的 BPF 程序丢弃数据包。");
const SUMMARY_CALLS: Text = text!(
    "A BPF program on the cgroup {path} refuses calls of its programs: nothing is sent.",
    "cgroup {path} 上的 BPF 程序拒绝其中程序的系统调用：什么也没有发出。"
);
const FAILED: Text = text!(
    "{n} calls of {comm} to {remote} failed with EPERM",
    "{comm} 到 {remote} 的 {n} 次调用以 EPERM 失败"
);
const ATTACHED: Text = text!(
    "program {name} (id {id}) is attached to {path} as {attach}",
    "程序 {name}（id {id}）以 {attach} 挂在 {path} 上"
);
const DETACH: Text = text!(
    "find out who attached it (systemctl show UNIT -p IPAddressDeny), or detach it: bpftool cgroup detach {mount}{path} {attach} id {id}",
    "查明是谁挂载的（systemctl show UNIT -p IPAddressDeny），或卸下它：bpftool cgroup detach {mount}{path} {attach} id {id}"
);
const FIND: Text = text!(
    "find the program: bpftool cgroup tree; systemctl show UNIT -p IPAddressDeny",
    "查找该程序：bpftool cgroup tree；systemctl show UNIT -p IPAddressDeny"
);
/// Where version 2 is usually mounted.
const MOUNT: &str = "/sys/fs/cgroup";

fn judge(space: Space<'_>) -> Judgement<'_> {
    let ways = [(Attach::Ingress, "socket.filter"), (Attach::Egress, "cgroup.egress")];
    let culprits = ways.into_iter().filter_map(|(attach, stage)| {
        let mut mine = space.losses().filter(|loss| is_mine(space, loss, attach));
        mine.next().map(|loss| culprit(space, attach, stage, holding(space, loss, attach).next()))
    });
    let mut cgroups: Vec<&Cgroup> = forbidden::calls(space).map(|(_, cgroup)| cgroup).collect();
    cgroups.sort_by_key(|cgroup| &cgroup.path);
    cgroups.dedup_by_key(|cgroup| &cgroup.path);
    let refusing = cgroups.into_iter().map(|cgroup| of_calls(space, cgroup));
    culprits.chain(refusing).collect::<Vec<_>>().into()
}

/// A cgroup whose programs refuse calls.
fn of_calls<'a>(space: Space<'a>, cgroup: &'a Cgroup) -> Culprit<'a> {
    let path = sanitize(&cgroup.path, MAX_NAME);
    let mine = move || forbidden::calls(space).filter(move |(_, by)| by.path == cgroup.path);
    Culprit::new(space, &CAUSE, "cgroup.egress", Scope::Rule, format!("cgroup {path}"))
        .direction(Direction::Transmit)
        .harms(move |flow| {
            let wanted = flow.conversation().map(|talk| (talk.protocol, talk.remote));
            let refused = flow.in_trouble() && flow.starts_in(space) && flow.trouble.unsent > 0;
            sure(refused && mine().any(|(call, _)| call.protocol.zip(call.remote) == wanted))
        })
        .tell(move |_| {
            let mut story = Story::new(SUMMARY_CALLS.fill(&[("path", &path)]));
            let mut kinds: Vec<Attach> = vec![];
            for (call, _) in mine() {
                let Some(remote) = call.remote else { continue };
                let comm = sanitize(call.owner.comm.as_deref().unwrap_or("?"), MAX_NAME);
                let words: [(&str, &dyn std::fmt::Display); 3] =
                    [("n", &call.count), ("comm", &comm), ("remote", &remote)];
                if story.evidence.len() < MOST_CALLS {
                    story = story.evidence(FAILED.fill(&words), "system calls", &[]);
                }
                kinds.extend(forbidden::asked(&call.call, remote).filter(|kind| !kinds.contains(kind)));
            }
            kinds.into_iter().fold(story, |story, attach| attached(story, cgroup, attach, &path))
        })
}

/// True for a packet that a program of a cgroup refused. What leaves has a reason of its own (net/ipv4/ip_output.c).
fn is_mine(space: Space<'_>, loss: &Loss<'_>, attach: Attach) -> bool {
    match attach {
        Attach::Ingress => is_filtered(loss) && holding(space, loss, attach).next().is_some(),
        _ => loss.is_of(CAUSE.id),
    }
}

fn culprit<'a>(
    space: Space<'a>,
    attach: Attach,
    stage: &'static str,
    cgroup: Option<&'a Cgroup>,
) -> Culprit<'a> {
    let path = cgroup.map(|cgroup| sanitize(&cgroup.path, MAX_NAME));
    let subject = path.as_ref().map_or_else(|| attach.word().to_owned(), |path| format!("cgroup {path}"));
    let direction = if attach == Attach::Ingress { Direction::Receive } else { Direction::Transmit };
    Culprit::new(space, &CAUSE, stage, Scope::Rule, subject)
        .direction(direction)
        .takes(move |loss| match loss.is_in(space) && is_mine(space, loss, attach) {
            true => Fit::Yes,
            false => Fit::No,
        })
        .harms(move |flow| {
            let forbidden = flow.in_trouble() && flow.starts_in(space) && attach == Attach::Egress;
            if forbidden && flow.trouble.errors.contains_key("EPERM") { Fit::Maybe } else { Fit::No }
        })
        .tell(move |_| story(cgroup, attach, path.as_deref()))
}

fn story(cgroup: Option<&Cgroup>, attach: Attach, path: Option<&str>) -> Story {
    let Some((cgroup, path)) = cgroup.zip(path) else {
        return Story::new(SUMMARY_ANY.phrase()).fix(by_hand(FIND.phrase()));
    };
    attached(Story::new(SUMMARY.fill(&[("path", &path)])), cgroup, attach, path)
}

/// Adds the programs of this kind that the cgroup has.
fn attached(mut story: Story, cgroup: &Cgroup, attach: Attach, path: &str) -> Story {
    let programs = cgroup.programs.get().into_iter().flatten().filter(|program| program.attach == attach);
    for program in programs {
        let name = sanitize(&program.name, MAX_NAME);
        let words: [(&str, &dyn std::fmt::Display); 5] = [
            ("name", &name),
            ("id", &program.id),
            ("path", &path),
            ("attach", &attach.word()),
            ("mount", &MOUNT),
        ];
        story = story
            .evidence(ATTACHED.fill(&words), "attached programs", &["bpftool", "cgroup", "tree"])
            .fix(by_hand(DETACH.fill(&words)));
    }
    story
}
