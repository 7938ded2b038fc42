//! Random rule sets, written in the language of each tool.

use super::packets::PORTS;
use super::random::Random;

/// What keeps the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Nft,
    IptablesNft,
    IptablesLegacy,
}

impl Backend {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::IptablesNft => "xnft",
            Self::IptablesLegacy => "leg",
        }
    }

    /// The command that takes a script.
    pub const fn restore(self) -> &'static str {
        match self {
            Self::Nft => "nft -f",
            Self::IptablesNft => "iptables-nft-restore",
            Self::IptablesLegacy => "iptables-legacy-restore",
        }
    }
}

/// Chains that are only jumped to; each calls later ones only.
const USERS: [&str; 4] = ["u0", "u1", "u2", "u3"];

/// A rule set.
pub fn script(backend: Backend, random: &mut Random) -> String {
    if backend == Backend::Nft { nft(random) } else { iptables(random) }
}

fn iptables(random: &mut Random) -> String {
    let mut out = String::new();
    out.push_str("*raw\n:PREROUTING ACCEPT\n");
    for _ in 0..random.below(3) {
        let target = *random.pick(&["-j CT --notrack", "-j ACCEPT", "-j DROP"]);
        out.push_str(&format!("-A PREROUTING {} {target}\n", conditions(random, "PREROUTING", 2)));
    }
    out.push_str("COMMIT\n*mangle\n:PREROUTING ACCEPT\n:FORWARD ACCEPT\n:POSTROUTING ACCEPT\n");
    for chain in ["PREROUTING", "FORWARD", "POSTROUTING"] {
        for _ in 0..random.below(4) {
            let marks = ["-j MARK --set-xmark 0x1/0xffffffff", "-j MARK --set-xmark 0x10/0x10", "-j RETURN"];
            let target = if random.chance(8) { "-j DROP" } else { random.pick(&marks) };
            out.push_str(&format!("-A {chain} {} {target}\n", conditions(random, chain, 1)));
        }
    }
    if random.chance(40) {
        out.push_str("COMMIT\n*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n");
        for _ in 0..2 {
            let to = *random.pick(&[
                "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.9.3.2:8080",
                "-p udp -m udp --dport 53 -j DNAT --to-destination 10.9.3.3",
                "-p tcp -m tcp --dport 443 -j REDIRECT --to-ports 9000",
            ]);
            out.push_str(&format!("-A PREROUTING {to}\n"));
        }
        let source = *random.pick(&["-j MASQUERADE", "-j SNAT --to-source 10.9.2.254"]);
        out.push_str(&format!("-A POSTROUTING -o right {source}\n"));
    }
    out.push_str("COMMIT\n*filter\n");
    let policy = *random.pick(&["ACCEPT", "DROP"]);
    out.push_str(&format!(":INPUT {policy}\n:FORWARD {policy}\n"));
    for user in USERS {
        out.push_str(&format!(":{user} -\n"));
    }
    for (chain, rules) in [("INPUT", 7), ("FORWARD", 10)] {
        for _ in 0..rules {
            let target = target(random, 0);
            out.push_str(&format!("-A {chain} {} {target}\n", conditions(random, chain, 2)));
        }
    }
    for (at, user) in USERS.iter().enumerate() {
        for _ in 0..4 {
            let target = target(random, at + 1);
            out.push_str(&format!("-A {user} {} {target}\n", conditions(random, user, 1)));
        }
    }
    out.push_str("COMMIT\n");
    out
}

fn target(random: &mut Random, first_user: usize) -> String {
    let users = USERS.get(first_user..).unwrap_or(&[]);
    match random.below(20) {
        0..9 if !users.is_empty() => format!("-j {}", random.pick(users)),
        9 if !users.is_empty() => format!("-g {}", random.pick(users)),
        10..12 => "-j RETURN".to_owned(),
        12 => "-j REJECT --reject-with icmp-port-unreachable".to_owned(),
        13 => "-j LOG".to_owned(),
        14..17 => "-j DROP".to_owned(),
        _ => "-j ACCEPT".to_owned(),
    }
}

/// Up to so many conditions of iptables that can stand together.
fn conditions(random: &mut Random, chain: &str, most: usize) -> String {
    let mut out = vec![];
    let not = |random: &mut Random| if random.chance(15) { "! " } else { "" };
    let (mut addressed, mut typed) = (false, false);
    for _ in 0..=random.below(most) {
        let bang = not(random);
        let port = *random.pick(&PORTS);
        let net = format!("10.9.{}.{}", if random.chance(50) { 3 } else { 4 }, random.below(9));
        match random.below(14) {
            0 | 1 if !addressed => {
                addressed = true;
                let prefix = *random.pick(&[32, 30, 29, 24]);
                let side = *random.pick(&["-s", "-d"]);
                out.push(format!("{bang}{side} {net}/{prefix}"));
            }
            2 if chain == "FORWARD" || chain == "POSTROUTING" => out.push(format!("{bang}-o right")),
            3 if chain != "POSTROUTING" => out.push(format!("{bang}-i le+")),
            4 | 5 if !typed => {
                typed = true;
                out.push(format!("-p tcp -m tcp {bang}--dport {port}"));
            }
            6 if !typed => {
                typed = true;
                out.push(format!("-p udp -m udp --dport {}:{}", port - 10, port));
            }
            7 if !typed => {
                typed = true;
                out.push(format!("-p tcp -m tcp {bang}--tcp-flags FIN,SYN,RST,ACK SYN"));
            }
            8 if !typed => {
                typed = true;
                out.push(format!("-p tcp -m multiport {bang}--dports {port},1000:2000,8080"));
            }
            9 if !typed => {
                typed = true;
                out.push("-p icmp -m icmp --icmp-type 8".to_owned());
            }
            10 => out.push(
                (*random.pick(&[
                    "-m length --length 0:100",
                    "-m ttl --ttl-gt 40",
                    "-m dscp --dscp 0x2e",
                    "-m addrtype --dst-type LOCAL",
                    "-m iprange --src-range 10.9.4.2-10.9.4.5",
                    "-m tos --tos 0x10/0x3f",
                    "-m pkttype --pkt-type unicast",
                ]))
                .to_owned(),
            ),
            11 => {
                let states = ["NEW", "INVALID", "RELATED,ESTABLISHED", "UNTRACKED", "NEW,INVALID"];
                out.push(format!("-m conntrack {bang}--ctstate {}", random.pick(&states)));
            }
            12 => out.push(format!("-m mark {bang}--mark 0x1/0x1")),
            13 if random.chance(20) => {
                out.push(
                    (*random
                        .pick(&["-m limit --limit 5/sec", "-m statistic --mode random --probability 0.5"]))
                    .to_owned(),
                );
            }
            _ => out.push("-m mark ! --mark 0x99".to_owned()),
        }
    }
    // A module is named once.
    out.sort();
    out.dedup_by(|a, b| module(a).is_some() && module(a) == module(b));
    let mut interfaces = 0;
    out.retain(|text| {
        interfaces += usize::from(text.contains("-i ") || text.contains("-o "));
        interfaces <= 1 || !(text.contains("-i ") || text.contains("-o "))
    });
    // The protocol stands in front of its match.
    out.sort_by_key(|text| !text.starts_with("-p"));
    out.join(" ")
}

fn module(text: &str) -> Option<&str> {
    let words: Vec<&str> = text.split(' ').collect();
    let at = words.iter().position(|word| *word == "-m")?;
    words.get(at + 1).copied().filter(|_| !text.starts_with("-p"))
}

fn nft(random: &mut Random) -> String {
    let mut out = String::from("table inet walk {\n");
    out.push_str(
        "set hosts { type ipv4_addr ; flags interval ; elements = { 10.9.4.2-10.9.4.4, 10.9.3.0/30 } ; }\n",
    );
    out.push_str("set pairs { type ipv4_addr . inet_service ; elements = { 10.9.3.1 . 80, 10.9.3.2 . 443, 10.9.3.5 . 53 } ; }\n");
    out.push_str("set ranges { type inet_proto . inet_service ; flags interval ; elements = { tcp . 20-90, udp . 50-60 } ; }\n");
    out.push_str("map verdicts { type inet_service : verdict ; elements = { 22 : drop, 80 : jump u3, 8080 : accept } ; }\n");
    for (at, user) in USERS.iter().enumerate().rev() {
        out.push_str(&format!("chain {user} {{\n"));
        for _ in 0..4 {
            out.push_str(&nft_rule(random, at + 1, 1, ""));
        }
        out.push_str("}\n");
    }
    let hooks = [
        ("pre", "prerouting", -150, 3),
        ("in", "input", 0, 7),
        ("thru", "forward", 0, 10),
        ("post", "postrouting", 0, 3),
    ];
    for (name, hook, priority, rules) in hooks {
        let policy = if rules > 3 { *random.pick(&["accept", "drop"]) } else { "accept" };
        out.push_str(&format!(
            "chain {name} {{\ntype filter hook {hook} priority {priority} ; policy {policy} ;\n"
        ));
        for _ in 0..rules {
            out.push_str(&nft_rule(random, 0, 2, hook));
        }
        out.push_str("}\n");
    }
    out.push_str("chain early {\ntype filter hook prerouting priority -300 ;\n");
    for _ in 0..random.below(3) {
        let verdict = *random.pick(&["notrack", "accept", "drop"]);
        out.push_str(&format!("{} counter {verdict}\n", nft_conditions(random, 2, "early")));
    }
    out.push_str("}\n}\n");
    if random.chance(40) {
        out.push_str("table ip nat {\nchain pre { type nat hook prerouting priority -100 ;\n");
        for _ in 0..2 {
            let rules: [&str; 3] = [
                "tcp dport 80 counter dnat to 10.9.3.2:8080\n",
                "udp dport 53 counter dnat to 10.9.3.3\n",
                "tcp dport 443 counter redirect to :9000\n",
            ];
            let rule: &str = random.pick::<&str>(&rules);
            out.push_str(rule);
        }
        out.push_str("}\nchain post { type nat hook postrouting priority 100 ;\n");
        let source = *random.pick(&["masquerade", "snat to 10.9.2.254"]);
        out.push_str(&format!("oifname \"right\" counter {source}\n}}\n}}\n"));
    }
    out
}

fn nft_rule(random: &mut Random, first_user: usize, most: usize, hook: &str) -> String {
    let users = USERS.get(first_user..).unwrap_or(&[]);
    let conditions = nft_conditions(random, most, hook);
    if random.chance(15) && first_user < 3 {
        let maps = [
            "tcp dport vmap @verdicts".to_owned(),
            format!(
                "ip protocol . th dport vmap {{ tcp . 80 : accept, udp . 53 : drop, tcp . 9000 : jump {} }}",
                USERS[3]
            ),
            format!("ip daddr vmap {{ 10.9.3.1-10.9.3.3 : jump {}, 10.9.3.7 : drop }}", USERS[3]),
            "meta l4proto vmap { icmp : accept, udp : continue }".to_owned(),
        ];
        return format!("{}\n", random.pick(&maps));
    }
    let verdict = match random.below(20) {
        0..9 if !users.is_empty() => format!("jump {}", random.pick(users)),
        9 if !users.is_empty() => format!("goto {}", random.pick(users)),
        10..12 => "return".to_owned(),
        12 if matches!(hook, "input" | "forward") => "reject".to_owned(),
        12 | 13 => (*random.pick(&["meta mark set 1", "meta mark set meta mark | 0x10"])).to_owned(),
        14..17 => "drop".to_owned(),
        _ => "accept".to_owned(),
    };
    format!("{conditions} counter {verdict}\n")
}

fn nft_conditions(random: &mut Random, most: usize, hook: &str) -> String {
    let (mut out, mut typed) = (vec![], false);
    for _ in 0..=random.below(most) {
        let port = *random.pick(&PORTS);
        let not = if random.chance(15) { "!= " } else { "" };
        let host = random.below(9);
        let one = match random.below(22) {
            0 => format!("ip saddr {not}10.9.4.{host}"),
            1 => format!("ip daddr {not}10.9.3.{}/30", host / 4 * 4),
            2 => format!("ip daddr {not}@hosts"),
            3 => format!("ip saddr {not}@hosts"),
            4 => "ip daddr . tcp dport @pairs".to_owned(),
            5 => "meta l4proto . th dport @ranges".to_owned(),
            6 => format!("tcp dport {not}{{ {port}, 1000-2000 }}"),
            7 => format!("tcp dport {not}{port}"),
            8 => format!("udp dport {}-{port}", port - 10),
            9 => format!("tcp dport >= {port}"),
            10 => "tcp flags syn / fin,syn,rst,ack".to_owned(),
            11 => "tcp flags & (syn | rst) == syn".to_owned(),
            12 => "icmp type echo-request".to_owned(),
            13 => format!("ct state {not}{}", random.pick(&["new", "invalid", "established", "untracked"])),
            14 => "ct state { new, established }".to_owned(),
            15 => format!("meta mark {not}1"),
            16 => "meta length < 100".to_owned(),
            17 => "ip ttl > 40".to_owned(),
            18 => "ip dscp ef".to_owned(),
            19 => "fib daddr type local".to_owned(),
            20 if random.chance(15) => {
                (*random.pick(&["limit rate 5/second", "numgen random mod 2 == 0"])).to_owned()
            }
            21 if hook == "forward" => format!("oifname {not}\"right\""),
            _ => format!("iifname {not}\"le*\""),
        };
        // One protocol above IP is enough for a rule.
        let types = ["tcp", "udp", "icmp", "meta l4proto"].iter().any(|word| one.contains(word));
        if !(types && typed) {
            typed |= types;
            out.push(one);
        }
    }
    out.join(" ")
}
