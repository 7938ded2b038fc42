//! `ipvs.port_reuse`: IPVS drops the first packet of a connection that reuses a port.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::fix;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::action::Action;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "ipvs.port_reuse",
    title: text!("IPVS drops connections that reuse a port", "IPVS 丢弃复用端口的连接"),
    meaning: text!(
        "The kernel's load balancer still knows an ended connection from the same address and port, and drops the SYN of the new one to forget the old one first.",
        "内核的负载均衡器仍记着同一地址和端口的一个已结束的连接，它丢弃新连接的 SYN，以便先忘掉旧连接。"
    ),
    seen_by: text!(
        "net.ipv4.vs.conntrack is 1, conn_reuse_mode is not 0, and SYNs died in netfilter where no rule drops them.",
        "net.ipv4.vs.conntrack 为 1，conn_reuse_mode 不为 0，且 SYN 在 netfilter 中丢失，而那里没有规则丢弃它们。"
    ),
    why_lost: text!(
        "ip_vs_in() returns NF_DROP for it (net/netfilter/ipvs/ip_vs_core.c). The client sends it again after a second: each reuse costs 1 s.",
        "ip_vs_in() 对其返回 NF_DROP（net/netfilter/ipvs/ip_vs_core.c）。客户端一秒后重发：每次复用耗费 1 秒。"
    ),
    what_to_do: text!(
        "Set net.ipv4.vs.conn_reuse_mode to 0 (with expire_nodest_conn 1), or use more source addresses or ports; from Linux 5.9 on it seldom happens.",
        "把 net.ipv4.vs.conn_reuse_mode 设为 0（并把 expire_nodest_conn 设为 1），或使用更多源地址或端口；自 Linux 5.9 起很少发生。"
    ),
    when_wrong: text!(
        "IPVS also drops what goes to a service without a usable server, and a rule that could not be read may drop as well.",
        "IPVS 也会丢弃发往没有可用服务器的服务的包；无法读取的规则也可能丢包。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Nftables, Source::IptablesLegacy], judge };

const MODE: &str = "net.ipv4.vs.conn_reuse_mode";
const CONNTRACK: &str = "net.ipv4.vs.conntrack";
/// Flags of a TCP header: SYN, and what a first packet has alone of SYN, RST and ACK.
const SYN: u8 = 0x02;
const FIRST: u8 = 0x16;
const TCP: u8 = 6;
/// Nothing names IPVS: that no rule takes them is what speaks for it.
const BY_EXCLUSION: f64 = 0.7;

const SUMMARY: Text = text!(
    "IPVS dropped the first packets of {n} connections that reuse a port.",
    "IPVS 丢弃了 {n} 个复用端口的连接的首包。"
);
const SETTING: Text = text!("{name} is {value}", "{name} 为 {value}");
const OFF: Text = text!("set {name} to 0", "把 {name} 设为 0");
const CAUTION: Text = text!(
    "a reused port then stays with the server that it had, also with one that is being drained",
    "此后复用的端口仍去往原来的服务器，即使该服务器正在下线"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mode = space.after.sysctl(MODE).filter(|mode| *mode != 0);
    let Some(mode) = mode.filter(|_| space.after.sysctl(CONNTRACK) == Some(1)) else {
        return Judgement::default();
    };
    if !space.losses().any(|loss| takes(space, loss) != Fit::No) {
        return Judgement::default();
    }
    let culprit = Culprit::new(space, &CAUSE, "netfilter.input", Scope::Netns, MODE.to_owned())
        .at_most(BY_EXCLUSION)
        .takes(move |loss| takes(space, loss))
        .tell(move |share| {
            let name = MODE;
            let action = Action::Sysctl { name: name.into(), value: "0".into(), was: mode.to_string() };
            let mut off = fix(space, OFF.fill(&[("name", &name)]), vec![action]);
            off.caution = Some(CAUTION.phrase());
            let setting = |name: &str, value: i64| SETTING.fill(&[("name", &name), ("value", &value)]);
            Story::new(SUMMARY.fill(&[("n", &share.packets.unwrap_or(0))]))
                .evidence(setting(MODE, mode), "sysctl", &["sysctl", MODE])
                .evidence(setting(CONNTRACK, 1), "sysctl", &["sysctl", CONNTRACK])
                .fix(off)
        });
    Some(culprit).into()
}

/// The first packet of a connection that died in netfilter. A rule that certainly drops it goes before.
fn takes(space: Space<'_>, loss: &Loss<'_>) -> Fit {
    let first = loss.event.is_some_and(|event| {
        event.protocol == Some(TCP) && event.tcp_flags.is_some_and(|flags| flags & FIRST == SYN)
    });
    let here =
        loss.is_in(space) && (loss.is_at_stage("netfilter.input") || loss.is_at_stage("netfilter.forward"));
    if first && here { Fit::Maybe } else { Fit::No }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::netfilter::{Hook, RuleVerdict};
    use whydrop_model::{DropEvent, Reading};

    /// SYNs to a service die in the input hook of a server that balances so.
    fn balances(mode: &'static str, conntrack: &'static str, flags: u8) -> World {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            for (name, value) in [(super::MODE, mode), (super::CONNTRACK, conntrack)] {
                s.sysctls.insert(name.to_owned(), Reading::Present(value.to_owned()));
            }
        });
        world.drops(SERVER, "NETFILTER_DROP", "nf_hook_slow", 4);
        let event = DropEvent {
            reason: "NETFILTER_DROP".into(),
            function: "nf_hook_slow".into(),
            stack: vec!["ip_local_deliver".into(), "ip_rcv".into()],
            netns_inode: Some(world.observation.namespaces[SERVER].target.netns_inode),
            link: Some(2),
            protocol: Some(6),
            tcp_flags: Some(flags),
            source: "10.0.0.1:40000".parse().ok(),
            destination: "10.0.0.2:80".parse().ok(),
            ..DropEvent::default()
        };
        let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
        log.sampled.extend(std::iter::repeat_n(event, 4));
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.established, talk.syn_repeats) = (8, 8, 4);
        world
    }

    #[test]
    fn first_packets_that_no_rule_drops_are_those_of_a_reused_port() {
        assert_eq!(
            balances("1", "1", super::SYN).found(),
            ["ipvs.port_reuse @ netns:server: net.ipv4.vs.conn_reuse_mode"]
        );
        for (mode, conntrack, flags) in [("0", "1", super::SYN), ("1", "0", super::SYN), ("1", "1", 0x10)] {
            assert!(!balances(mode, conntrack, flags).found().iter().any(|found| found.contains("ipvs")));
        }
        // A rule that drops them does.
        let mut world = balances("1", "1", super::SYN);
        let drop = rule("-p tcp -j DROP", RuleVerdict::Drop, Some(0), vec![]);
        world.chain(SERVER, chain("INPUT", Hook::Input, RuleVerdict::Accept, vec![drop]), &[4]);
        assert_eq!(world.found(), ["netfilter.drop_rule @ netns:server: filter INPUT, rule 1"]);
    }
}
