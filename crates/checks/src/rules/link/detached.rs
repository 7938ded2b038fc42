//! `link.detached`: an interface that the traffic needs is gone from its namespace.

use super::{is_bare, loose_tunnel};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::route::contains;
use crate::evidence::segment;
use crate::evidence::way::End;
use crate::fixes::by_hand;
use crate::loss::{Kind, missing};
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::snapshot::{Link, Protocol};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "link.detached",
    title: text!(
        "An interface that the traffic needs is gone from its namespace",
        "流量所需的接口已从其命名空间中消失"
    ),
    meaning: text!(
        "The interface was moved to another namespace, unplugged or deleted, and its addresses and routes went with it; or it was taken out of its bridge.",
        "接口被移到其他命名空间、拔出或删除，它的地址和路由也随之消失；或被移出网桥。"
    ),
    seen_by: text!(
        "The interface was there at the start of the window and not at its end; or a namespace whose programs send, or listen for those who ask in vain, has no interface beside lo; or who is asked for in vain on a bridge is behind a device that no bridge has.",
        "窗口开始时该接口存在而结束时已消失；或者某命名空间除 lo 外没有任何接口，而其中的程序在发送，或在监听而访问者得不到应答；或者在网桥上被徒劳查询的地址位于一个不属于任何网桥的设备之后。"
    ),
    why_lost: text!(
        "Without the interface there is no way out and no way in: programs get ENETUNREACH, and who asks from outside gets no answer.",
        "没有接口就既出不去也进不来：程序得到 ENETUNREACH，外部的访问者得不到应答。"
    ),
    what_to_do: text!(
        "Bring the interface back (ip link set DEV netns TARGET from where it is now, or let the container's network be made anew), with its addresses and routes; find out who took it away.",
        "恢复该接口（在其当前位置执行 ip link set DEV netns 目标，或重新创建容器网络），并恢复其地址和路由；查明是谁移走了它。"
    ),
    when_wrong: text!(
        "A sandbox without network has only lo on purpose; nobody expects it to be reached.",
        "有意不联网的沙箱只有 lo，本来就不应被访问。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Links, Source::Addresses, Source::Sockets], judge };

/// That nobody else was meant is only likely.
const BY_EXCLUSION: f64 = 0.85;
const SUMMARY_GONE: Text =
    text!("The interface {dev} is gone since the window began.", "接口 {dev} 在观察窗口开始后消失。");
const SUMMARY_BARE: Text = text!(
    "There is no interface beside lo: what joined this namespace with others is gone.",
    "除 lo 外没有任何接口：连接该命名空间与外界的接口已消失。"
);
const SUMMARY_LOOSE: Text = text!(
    "{port} is a port of no bridge: {ip}, which is behind it, is asked for on {bridge} in vain.",
    "{port} 不属于任何网桥：其后的 {ip} 在 {bridge} 上被查询而无人应答。"
);
const BEHIND: Text = text!(
    "{port} has neither address nor bridge, and {dev} of {target} at its other end has {ip}",
    "{port} 既没有地址也不属于网桥，而其另一端 {target} 的 {dev} 拥有 {ip}"
);
const JOIN: Text = text!(
    "make it a port of the bridge again: ip link set dev {port} master {bridge}",
    "把它重新加入网桥：ip link set dev {port} master {bridge}"
);
const WAS: Text = text!("{dev} was there at the start of the window", "窗口开始时 {dev} 存在");
const BARE: Text = text!("the only interface is lo", "唯一的接口是 lo");
const LISTENS: Text =
    text!("port {port}, which is asked for, is listened on here", "被访问的端口 {port} 正在此监听");
const IS_IN: Text =
    text!("a device {dev} without addresses is now in {target}", "{target} 中现有一个没有地址的设备 {dev}");
const BACK: Text = text!(
    "bring the interface back with its addresses and routes: ip link set dev DEV netns NAME from where it is now, or make it anew",
    "恢复该接口及其地址和路由：在其当前位置执行 ip link set dev 接口 netns 名称，或重新创建"
);

/// What is gone.
#[derive(Clone, Copy)]
enum Gone<'a> {
    /// Seen at the start of the window.
    Link(&'a Link),
    /// All but lo.
    All,
}

fn judge(space: Space<'_>) -> Judgement<'_> {
    if !space.after.links.is_present() || !space.after.addresses.is_present() {
        return Judgement::default();
    }
    let mut gone: Vec<Gone<'_>> = lost(space).map(Gone::Link).collect();
    if gone.is_empty() && is_bare(space) {
        gone.push(Gone::All);
    }
    let gone = gone.into_iter().map(|gone| culprit(space, gone));
    let loose = loose_ports(space).into_iter().map(|loose| unplugged(space, loose));
    let tunnels = loose_tunnel::judge(space, &CAUSE, |link| is_used(space, link));
    gone.chain(loose).chain(tunnels).collect::<Vec<_>>().into()
}

/// True if a device has an address, or carries others here.
fn is_used(space: Space<'_>, link: &Link) -> bool {
    space.after.addresses.iter().any(|a| a.link == link.index && a.ip.is_ipv4())
        || space.links().any(|upper| upper.link == Some(link.index) && upper.link_netnsid.is_none())
}

/// A device without address and bridge behind which is who is asked for in vain on a bridge beside it.
#[derive(Clone, Copy)]
struct Loose<'a> {
    port: &'a Link,
    bridge: &'a Link,
    /// Who is behind it, by which device.
    station: (Space<'a>, &'a Link),
    ip: IpAddr,
}

fn loose_ports(space: Space<'_>) -> Vec<Loose<'_>> {
    let free = |port: &&Link| {
        port.up && port.lower_up && port.master.is_none() && !port.loopback && !is_used(space, port)
    };
    let ports = space.links().filter(free).filter_map(|port| Some((port, space.peer(port)?)));
    let mut out = vec![];
    for (port, station) in ports.filter(|(_, (there, _))| !there.same(space)) {
        let (there, device) = station;
        let owned = there.after.addresses.iter().filter(|a| a.link == device.index).map(|a| a.ip);
        for ip in owned {
            let flows = space.case.flows.iter().filter(|flow| flow.suffers());
            let bridge = flows.into_iter().find_map(|flow| asked_on(space, flow, ip));
            out.extend(bridge.map(|bridge| Loose { port, bridge, station, ip }));
        }
    }
    out
}

/// The bridge of this namespace on which a flow in trouble looks for its next hop.
fn asked_on<'a>(space: Space<'a>, flow: &Flow<'a>, ip: IpAddr) -> Option<&'a Link> {
    let mut askers = space.case.spaces().filter(|asker| flow.visits(*asker));
    askers.find_map(|asker| {
        let mut hops = flow.next_hops(asker).into_iter().filter(|(_, hop)| *hop == ip);
        let met = hops.find_map(|(link, _)| Some(segment::reachable(asker, asker.link(link)?)))?;
        let bridge = |(there, link): &&(Space<'a>, &'a Link)| {
            there.same(space) && link.kind.as_deref() == Some("bridge")
        };
        let holds = met
            .iter()
            .any(|(there, link)| there.after.addresses.iter().any(|a| a.link == link.index && a.ip == ip));
        met.iter().find(bridge).filter(|_| !holds).map(|(_, link)| *link)
    })
}

fn unplugged<'a>(space: Space<'a>, loose: Loose<'a>) -> Culprit<'a> {
    let Loose { port, bridge, station: (there, device), ip } = loose;
    Culprit::new(space, &CAUSE, "link", Scope::Link, port.name.clone())
        .on(port.index)
        .concerns(there.is_target())
        .reaches()
        .takes(move |loss| sure(loss.kind == Kind::Imagined && loss.asks_for() == Some(ip)))
        .harms(move |flow| sure(flow.suffers() && asked_on(space, flow, ip).is_some()))
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 5] = [
                ("port", &port.name),
                ("bridge", &bridge.name),
                ("ip", &ip),
                ("dev", &device.name),
                ("target", &there.target().id),
            ];
            Story::new(SUMMARY_LOOSE.fill(&words))
                .evidence(BEHIND.fill(&words), "links", &["ip", "-d", "link", "show", "dev", &port.name])
                .fix(by_hand(JOIN.fill(&words)))
        })
}

/// Interfaces with an address that went in the window.
fn lost<'a>(space: Space<'a>) -> impl Iterator<Item = &'a Link> {
    let left = move |link: &&Link| space.links().all(|l| l.index != link.index && l.name != link.name);
    let addressed = move |link: &&Link| space.before.addresses.iter().any(|a| a.link == link.index);
    space.before.links.iter().filter(left).filter(addressed)
}

fn culprit<'a>(space: Space<'a>, gone: Gone<'a>) -> Culprit<'a> {
    let subject = match gone {
        Gone::Link(link) => link.name.clone(),
        Gone::All => "interfaces".to_owned(),
    };
    let sure_of_it = matches!(gone, Gone::Link(_));
    Culprit::new(space, &CAUSE, "link", Scope::Link, subject)
        .at_most(if sure_of_it { 1.0 } else { BY_EXCLUSION })
        .reaches()
        .takes(move |loss| sure(missing::is_at_no_interface(loss, space)))
        .harms(move |flow| sure(flow.suffers() && harms(space, gone, flow)))
        .tell(move |share| story(space, gone, share.flows.as_slice()))
}

fn harms(space: Space<'_>, gone: Gone<'_>, flow: &Flow<'_>) -> bool {
    let stranded = flow.ends_here(space, End::NoRoute).filter(|ip| !ip.is_loopback());
    match gone {
        Gone::Link(link) => {
            let mut own = space.before.addresses.iter().filter(|a| a.link == link.index);
            let mut own_too = own.clone();
            stranded.is_some_and(|to| is_bare(space) || own.any(|a| contains(a.ip, a.prefix, to)))
                || flow.address.is_some_and(|to| own_too.any(|a| a.ip == to))
        }
        Gone::All => stranded.is_some() || is_served(space, flow).is_some(),
    }
}

/// The port that this flow asks for, if it is listened on here and its address is nowhere in view.
fn is_served(space: Space<'_>, flow: &Flow<'_>) -> Option<u16> {
    let (to, port) = (flow.address?, flow.port?);
    let elsewhere = space.case.owners(to).next().is_some();
    let protocol = match flow.protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return None,
    };
    let open = space.listeners(protocol, port).any(|socket| !socket.local.ip().is_loopback());
    let mut others = space.case.spaces().filter(|there| !there.same(space));
    let alone = !others.any(|there| is_bare(there) && there.listeners(protocol, port).next().is_some());
    (!elsewhere && open && alone && !flow.starts_in(space)).then_some(port)
}

fn story(space: Space<'_>, gone: Gone<'_>, flows: &[&Flow<'_>]) -> Story {
    let show = ["ip", "-d", "addr"];
    let story = match gone {
        Gone::Link(link) => {
            let words = [("dev", &link.name as &dyn std::fmt::Display)];
            let story =
                Story::new(SUMMARY_GONE.fill(&words)).evidence(WAS.fill(&words), "two readings", &show);
            match whereabouts(space, link) {
                Some((there, dev)) => story.evidence(
                    IS_IN.fill(&[("dev", &dev), ("target", &there.target().id)]),
                    "other end",
                    &[],
                ),
                None => story,
            }
        }
        Gone::All => Story::new(SUMMARY_BARE.phrase()).evidence(BARE.phrase(), "links", &show),
    };
    let served = flows.iter().find_map(|flow| is_served(space, flow)).filter(|_| matches!(gone, Gone::All));
    let story = match served {
        Some(port) => story.evidence(LISTENS.fill(&[("port", &port)]), "sockets", &["ss", "-lntu"]),
        None => story,
    };
    story.fix(by_hand(BACK.phrase()))
}

/// Where an interface with this link-layer address is now.
fn whereabouts<'a>(space: Space<'a>, link: &Link) -> Option<(Space<'a>, String)> {
    let mac = link.mac.as_ref()?;
    let mut others = space.case.spaces().filter(|there| !there.same(space));
    others.find_map(|there| {
        let found = there.links().find(|l| l.mac.as_ref() == Some(mac) && l.kind == link.kind)?;
        Some((there, found.name.clone()))
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::{Reading, Verdict};

    /// A namespace in which only lo is left.
    fn bare(world: &mut World, index: usize) {
        world.both(index, |s| {
            let Reading::Present(links) = &mut s.links else { panic!("links") };
            links.retain(|link| link.loopback);
            s.addresses = Reading::Present(vec![]);
            s.routes = Reading::Present(vec![]);
        });
    }

    fn asks(world: &mut World) {
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.failed) = (5, 5);
        talk.errors.insert("ENETUNREACH".into(), 5);
    }

    #[test]
    fn who_sends_has_no_interface_left() {
        let mut world = World::pair();
        asks(&mut world);
        bare(&mut world, CLIENT);
        world.observation.namespaces[CLIENT].target.role = whydrop_model::Role::Target;
        assert_eq!(world.found(), ["link.detached @ netns:client: interfaces"]);
    }

    #[test]
    fn who_serves_has_none_left() {
        let mut world = World::pair();
        asks(&mut world);
        world.observation.namespaces[CLIENT].target.role = whydrop_model::Role::Target;
        bare(&mut world, SERVER);
        assert_eq!(world.found(), ["link.detached @ netns:server: interfaces"]);
    }

    #[test]
    fn a_sandbox_without_network_is_in_order() {
        let mut world = World::pair();
        bare(&mut world, SERVER);
        let report = world.report();
        let said: Vec<_> = report.notes.iter().map(|note| note.subject.as_str()).collect();
        assert_eq!((report.verdict, said), (Verdict::Clear, vec!["traffic"]));
    }

    #[test]
    fn an_interface_that_goes_while_one_looks() {
        let mut world = World::pair();
        asks(&mut world);
        world.after(SERVER, |s| {
            let Reading::Present(links) = &mut s.links else { panic!("links") };
            links.retain(|link| link.loopback);
            s.addresses = Reading::Present(vec![]);
            s.routes = Reading::Present(vec![]);
        });
        assert_eq!(world.found(), ["link.detached @ netns:server: eth0"]);
    }
}
