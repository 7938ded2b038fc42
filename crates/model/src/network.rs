//! Networks of IP addresses.

use ipnet::IpNet;
use std::net::IpAddr;

/// True if `ip` lies in `network/prefix`; never across families, and in none that there cannot be.
pub fn contains(network: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    IpNet::new(network, prefix).is_ok_and(|network| network.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_any_length_and_no_panic_at_the_ends() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        assert!(contains(ip("10.1.0.0"), 16, ip("10.1.2.3")));
        assert!(!contains(ip("10.1.0.0"), 16, ip("10.2.2.3")));
        assert!(contains(ip("0.0.0.0"), 0, ip("10.2.2.3")));
        assert!(contains(ip("::"), 0, ip("fd00::1")));
        assert!(!contains(ip("::"), 0, ip("10.0.0.1")));
        assert!(contains(ip("10.0.0.1"), 32, ip("10.0.0.1")));
        assert!(!contains(ip("10.0.0.1"), 200, ip("10.0.0.1")));
    }
}
