//! A namespace for one test, and the system's own tools inside it.

use std::process::{Command, Output};
use whydrop_host::Netns;
use whydrop_host::build::{Named, Wiring};

/// A namespace with `lo` up and a veth pair eth0, eth1, both up.
pub struct Sandbox {
    named: Named,
}

impl Sandbox {
    /// Makes it. Needs root, like everything that these tests are about.
    pub fn new(name: &str) -> Self {
        let named = Named::create(&format!("wd-host-{name}-{}", std::process::id()))
            .expect("live tests need root: they build namespaces");
        let mut wiring = Wiring::of(named.netns()).unwrap();
        wiring.veth("eth0", "eth1", named.netns()).unwrap();
        for dev in ["lo", "eth0", "eth1"] {
            wiring.up(dev).unwrap();
        }
        Self { named }
    }

    pub fn netns(&self) -> &Netns {
        self.named.netns()
    }

    /// Name below /run/netns.
    #[allow(unused)] // not every test file names its namespace
    pub fn name(&self) -> &str {
        self.named.name()
    }

    /// Runs a command line without quotes inside; words are separated with single spaces.
    pub fn try_run(&self, line: &str) -> Output {
        let words: Vec<&str> = line.split(' ').collect();
        self.try_argv(&words)
    }

    pub fn try_argv(&self, words: &[&str]) -> Output {
        self.netns().run(|| Command::new(words[0]).args(&words[1..]).output()).unwrap().unwrap()
    }

    /// Standard output of a command that must succeed.
    pub fn run(&self, line: &str) -> String {
        let output = self.try_run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Rules as people write them, one per line: chain and rest.
pub const RULES: &str = "\
INPUT -p tcp -m statistic --mode random --probability 0.3 -j DROP
INPUT -m statistic --mode nth --every 4 --packet 1 -j DROP
INPUT -s 10.1.0.0/16 -i eth0 -p tcp --dport 80 -j ACCEPT
INPUT ! -s 10.1.0.0/16 -p tcp ! --sport 1000:2000 --dport 80 -j ACCEPT
INPUT -s 10.1.2.3 -d 10.0.0.0/12 -j DROP
INPUT -p tcp --sport :5 --dport 1024: -j DROP
INPUT -p udp ! --dport :1023 -j DROP
INPUT -p udp --dport 5000:6000 -m comment --comment plain -j DROP
INPUT -p tcp --syn -m limit --limit 10/s --limit-burst 20 -j ACCEPT
INPUT -m limit --limit 3/hour -j LOG
INPUT -p tcp --tcp-flags SYN,RST,FIN SYN -m conntrack --ctstate NEW -j DROP
INPUT -m hashlimit --hashlimit-name x --hashlimit-above 50/sec --hashlimit-mode srcip -j DROP
INPUT -m conntrack --ctstate INVALID -j DROP
INPUT -m conntrack ! --ctstate INVALID,NEW -j RETURN
INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
INPUT -p tcp -m multiport --dports 80,443,8000:8010 -j ACCEPT
INPUT -p tcp -m multiport ! --ports 80,443 -j ACCEPT
INPUT -p tcp -m connlimit --connlimit-above 10 --connlimit-mask 24 -j REJECT --reject-with tcp-reset
INPUT -m connlimit --connlimit-upto 3 --connlimit-mask 32 --connlimit-daddr -j DROP
INPUT -m quota --quota 10000 -j ACCEPT
INPUT -m mark --mark 0x1/0xff -j DROP
INPUT -m mark ! --mark 7 -j DROP
INPUT -m addrtype --dst-type LOCAL -j ACCEPT
INPUT -m mac --mac-source 02:00:00:00:00:01 -j DROP
INPUT -m length --length 100:200 -j DROP
INPUT -p icmp -m icmp --icmp-type 8 -j DROP
INPUT -j LOG --log-prefix hello: --log-level 4
INPUT -p udp -j REJECT
INPUT -j NFQUEUE --queue-num 3
INPUT -m recent --name foo --rcheck --seconds 10 --mask 255.255.255.255 -j DROP
INPUT -m pkttype --pkt-type broadcast -j DROP
INPUT -m iprange --src-range 10.0.0.1-10.0.0.9 -j DROP
INPUT -m time --timestart 10:00 --timestop 11:00 -j DROP
INPUT -j SUB
INPUT -g SUB
INPUT
OUTPUT -m owner --uid-owner 0 -o veth+ -j DROP
OUTPUT ! -o lo -p udp -j DROP
OUTPUT ! -p udp -j ACCEPT
SUB -j RETURN
";

/// Puts [`RULES`] into the filter table.
pub fn fill(sandbox: &Sandbox, iptables: &str) {
    sandbox.run(&format!("{iptables} -N SUB"));
    for rule in RULES.lines() {
        sandbox.run(&format!("{iptables} -A {rule}"));
    }
}
