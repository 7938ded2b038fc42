//! The case that whydrop was made for: a web server that answers half of the SYNs, for three reasons at once.

use super::{NETEM_30, nft_chain, nft_rule};
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::site::Place;
use whydrop_model::netfilter::{Hook, Match, RuleVerdict};
use whydrop_model::{Action, text};

const RANDOM_DROP: &str = "numgen random mod 100 < 30 counter drop";

/// Where the kernel lacks netem, a third random rule, last on the way out, loses what netem would have.
const WITHOUT_NETEM: &[&str] =
    &["netfilter.drop_rule", "netfilter.drop_rule", "netfilter.drop_rule", "mtu.too_small"];
const WITH_NETEM: &[&str] =
    &["netfilter.drop_rule", "netfilter.drop_rule", "qdisc.netem_loss", "mtu.too_small"];

/// The source case; `netem` says whether the kernel has that qdisc. Nobody sends but the probes.
pub fn source_case(netem: bool) -> Fault {
    let random = |hook| {
        [
            Change::Act(Place::Server, nft_chain(hook, None)),
            Change::Act(
                Place::Server,
                nft_rule(hook, vec![Match::Random(0.3)], RuleVerdict::Drop, RANDOM_DROP),
            ),
        ]
    };
    let mut changes: Vec<Change> = [Hook::Input, Hook::Output].into_iter().flat_map(random).collect();
    if netem {
        changes.push(Change::Act(Place::Server, Action::QdiscAdd(NETEM_30.on("eth0"))));
    } else {
        changes.extend(random(Hook::Postrouting));
    }
    changes.push(Change::Act(Place::Server, Action::LinkMtu { dev: "eth0".into(), mtu: 100, was: 1500 }));
    let mut fault = Fault::pair(
        "source_case",
        text!(
            "a web server behind random drops, a lossy queue and an MTU of 100",
            "Web 服务器：随机丢包规则、有损队列，MTU 仅 100"
        ),
    )
    .needs(&[Need::Nftables])
    .breaks(changes, if netem { WITH_NETEM } else { WITHOUT_NETEM });
    fault.traffic = vec![];
    fault.probes.push("http://10.77.0.2/");
    fault
}
