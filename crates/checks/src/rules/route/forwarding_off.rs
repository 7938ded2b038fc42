//! `route.forwarding_off`: the machine should forward and does not.

use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, fix};
use crate::way::Way;
use whydrop_model::action::Action;
use whydrop_model::{Applicability, Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.forwarding_off",
    title: text!("The machine should forward and does not", "本机应当转发却没有转发"),
    meaning: text!(
        "Packets for others arrive, and forwarding is switched off.",
        "发给他人的包到达本机，而转发功能处于关闭状态。"
    ),
    seen_by: text!(
        "The way of a probe leads through this namespace, or Ip.InAddrErrors rose on a machine with several networks, and forwarding is 0.",
        "探测的路径经过该命名空间，或连接多个网络的机器上 Ip.InAddrErrors 增加，且 forwarding 为 0。"
    ),
    why_lost: text!(
        "A host that does not forward discards what is not addressed to it, without an answer.",
        "不转发的主机会丢弃不是发给自己的包，且不作应答。"
    ),
    what_to_do: text!(
        "Set net.ipv4.ip_forward=1, or net.ipv6.conf.all.forwarding=1.",
        "设置 net.ipv4.ip_forward=1 或 net.ipv6.conf.all.forwarding=1。"
    ),
    when_wrong: text!(
        "A machine that should not be a router is right to refuse: then the sender's route is wrong.",
        "不该充当路由器的机器拒绝转发是对的：那么是发送方的路由有误。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Routes, Source::Mib], consequence_of: &[], judge };

const SUMMARY: Text = text!(
    "Packets for others arrive, but forwarding is switched off.",
    "发给他人的包到达，但转发功能已关闭。"
);
const OFF: Text = text!("{name} is 0", "{name} 为 0");
const ON: Text = text!("switch forwarding on", "启用转发");
const ROUTER: Text = text!(
    "the machine becomes a router for everything that its firewall lets pass",
    "本机将成为路由器，转发防火墙放行的所有流量"
);
const PERSIST: Text = text!("a file in /etc/sysctl.d with this line", "在 /etc/sysctl.d 的文件中写入该行");

/// The kernel's name for these drops.
const REASON: &str = "IP_INADDRERRORS";

fn judge(space: Space<'_>) -> Judgement {
    [false, true].into_iter().filter_map(|v6| suspect(space, v6)).collect::<Vec<_>>().into()
}

/// What forwarding of one family costs by being off.
fn suspect(space: Space<'_>, v6: bool) -> Option<Suspect> {
    let (name, counter) = match v6 {
        true => ("net.ipv6.conf.all.forwarding", "Ip6InAddrErrors"),
        false => ("net.ipv4.ip_forward", "Ip.InAddrErrors"),
    };
    if space.after.sysctl(name) != Some(0) {
        return None;
    }
    let of_family = |way: &&Way<'_>| way.probe.address.is_some_and(|ip| ip.is_ipv6() == v6);
    let through = space.case.ways.iter().filter(|way| way.lost() > 0 && way.is_forwarded_by(space));
    let transit: Vec<usize> = through.filter(of_family).map(|way| way.index).collect();
    let refused = if v6 { space.mib6(counter) } else { space.mib(counter) };
    let networks = space.links().filter(|l| !l.loopback && l.up && l.lower_up && l.master.is_none()).count();
    if transit.is_empty() && (refused == 0 || networks < 2) {
        return None;
    }
    let action = Action::Sysctl { name: name.to_owned(), value: "1".into(), was: "0".into() };
    let mut on = fix(space, ON.phrase(), Applicability::Safe, vec![action]);
    on.caution = Some(ROUTER.phrase());
    on.persist = Some(PERSIST.phrase());
    // One reason of two functions, ip_error() and ip6_forward().
    let events = space.drop_counts().filter(|c| c.reason == REASON && c.function.starts_with("ip6") == v6);
    let suspect = Suspect::new(space, &CAUSE, "ip.forward", name.to_owned(), SUMMARY.phrase())
        .direction(Direction::Forward)
        .evidence(OFF.fill(&[("name", &name)]), "sysctl", &["sysctl", name])
        .drop_events(events.map(|c| c.drops).sum(), REASON)
        .touches(transit)
        .fix(on);
    Some(match refused {
        0 => suspect,
        n => suspect.packets(n, counter).counter(counter, n),
    })
}
