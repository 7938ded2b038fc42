//! `xdp.drop`: an XDP program drops.

use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, manual};
use whydrop_facts::place;
use whydrop_model::delta::Change;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "xdp.drop",
    title: text!("An XDP program drops", "XDP 程序丢弃数据包"),
    meaning: text!(
        "A BPF program attached to an interface with XDP decides on each frame before the kernel's stack sees it.",
        "通过 XDP 挂载在接口上的 BPF 程序，在内核协议栈看到之前就决定每个帧的去留。"
    ),
    seen_by: text!(
        "An interface has an XDP program, and the driver's xdp_drop counters rose or the kernel reported drops in do_xdp_generic.",
        "接口挂有 XDP 程序，且驱动的 xdp_drop 计数增加，或内核报告了 do_xdp_generic 中的丢弃。"
    ),
    why_lost: text!(
        "Frames that the program refuses are gone before tcpdump, tc and iptables can see them.",
        "被程序拒绝的帧在 tcpdump、tc 和 iptables 看到之前就已消失。"
    ),
    what_to_do: text!(
        "Detach the program (ip link set dev DEV xdp off) or mend it.",
        "卸载该程序（ip link set dev DEV xdp off）或修正它。"
    ),
    when_wrong: text!(
        "A load balancer or a shield against attacks drops on purpose.",
        "负载均衡或抗攻击程序有意丢弃时。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Links, Source::Ethtool], consequence_of: &[], judge };

const SUMMARY: Text =
    text!("An XDP program on {dev} drops incoming frames.", "{dev} 上的 XDP 程序丢弃入站帧。");
const ATTACHED: Text =
    text!("{dev} has an XDP program, id {id} ({mode})", "{dev} 挂有 XDP 程序，id {id}（{mode}）");
const COUNTED: Text = text!("the driver counted {n} frames dropped by XDP", "驱动计数：XDP 丢弃 {n} 帧");
const DETACH: Text =
    text!("detach the program: ip link set dev {dev} xdp off", "卸载该程序：ip link set dev {dev} xdp off");

fn judge(space: Space<'_>) -> Judgement {
    let suspects = space.links().filter_map(|link| {
        let xdp = link.xdp.as_ref()?;
        let dev = link.name.as_str();
        let generic = space.drop_counts().filter(|c| place::of_count(c).cause == Some(CAUSE.id));
        let events: u64 = generic.filter(|c| c.link.is_none_or(|i| i == link.index)).map(|c| c.drops).sum();
        let counted = driver_drops(space, dev);
        let lost = events.max(counted);
        if lost == 0 {
            return None;
        }
        let mut detach = manual(DETACH);
        detach.title = DETACH.fill(&[("dev", &dev)]);
        let id = xdp.program.map_or_else(|| "?".to_owned(), |id| id.to_string());
        let attached = ATTACHED.fill(&[("dev", &dev), ("id", &id), ("mode", &xdp.mode)]);
        let mut suspect =
            Suspect::new(space, &CAUSE, "xdp.receive", dev.to_owned(), SUMMARY.fill(&[("dev", &dev)]))
                .direction(Direction::Receive)
                .packets(lost, if counted >= events { "driver counter" } else { "drop events" })
                .evidence(attached, "links", &["ip", "link", "show", "dev", dev])
                .drop_events(events, "do_xdp_generic")
                .touches(space.probes_via(link.index))
                .fix(detach);
        if counted > 0 {
            suspect = suspect.evidence(COUNTED.fill(&[("n", &counted)]), "ethtool", &["ethtool", "-S", dev]);
        }
        Some(suspect)
    });
    suspects.collect::<Vec<_>>().into()
}

/// Rise of the driver's XDP drop counters: `rx_queue_0_xdp_drops` of veth, `rx_xdp_drop` of mlx5 and others.
fn driver_drops(space: Space<'_>, dev: &str) -> u64 {
    let (before, after) = (space.before.ethtool.get(), space.after.ethtool.get());
    let Some((before, after)) = before.zip(after).and_then(|(b, a)| Some((b.get(dev)?, a.get(dev)?))) else {
        return 0;
    };
    let is_drop = |name: &str| name.contains("xdp") && name.contains("drop");
    let rises = after.iter().filter(|(name, _)| is_drop(name));
    rises.map(|(name, now)| Change::of(before.get(name).copied(), Some(*now)).risen()).sum()
}
