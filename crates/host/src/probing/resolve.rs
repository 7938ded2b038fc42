//! From the host of a probe URL to an address.

use crate::error::{Error, Result};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use whydrop_model::text;
use whydrop_probe::{Family, ProbeSpec};

/// The address to probe: the first of the wanted family in the resolver's order.
pub fn address(spec: &ProbeSpec) -> Result<IpAddr> {
    let wanted = |address: &IpAddr| match spec.family {
        None => true,
        Some(Family::V4) => address.is_ipv4(),
        Some(Family::V6) => address.is_ipv6(),
    };
    let found: Vec<IpAddr> = match spec.host.parse() {
        Ok(address) => vec![address],
        Err(_) => (spec.host.as_str(), 0)
            .to_socket_addrs()
            .map_err(|e| {
                let hint = text!(
                    "a name that the resolver of this machine knows (/etc/hosts, /etc/resolv.conf), or an address",
                    "本机解析器（/etc/hosts、/etc/resolv.conf）认识的名称，或直接给出地址"
                );
                Error::io(text!("find the address of {object}", "解析 {object} 的地址"), &spec.host, &e)
                    .with_hint(hint.phrase())
            })?
            .map(|a| a.ip())
            .collect(),
    };
    let address = found.into_iter().find(wanted).ok_or_else(|| {
        let family = if spec.family == Some(Family::V6) { "IPv6" } else { "IPv4" };
        Error::new(
            text!("probe {object}", "探测 {object}"),
            &spec.host,
            text!("it has no {family} address", "它没有 {family} 地址").fill(&[("family", &family)]),
        )
    })?;
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_multicast() || address.is_unspecified() || broadcast {
        let hint = text!("name the address of one host", "请给出单个主机的地址").phrase();
        return Err(Error::new(
            text!("probe {object}", "探测 {object}"),
            address.to_string(),
            text!("it is not the address of one host", "它不是单个主机的地址").phrase(),
        )
        .with_hint(hint));
    }
    Ok(address)
}

/// The address with port, and with the index that its zone has in the namespace of the calling thread.
pub fn scoped(spec: &ProbeSpec, address: IpAddr) -> Result<SocketAddr> {
    let port = spec.port.unwrap_or(0);
    match (address, &spec.zone) {
        (IpAddr::V6(v6), Some(zone)) => {
            let index = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
                .and_then(|any| netdevice::name_to_index(any, zone))
                .map_err(|e| {
                    Error::io(text!("find the interface {object}", "找到接口 {object}"), zone, &e.into())
                })?;
            Ok(SocketAddr::V6(SocketAddrV6::new(v6, port, 0, index)))
        }
        _ => Ok(SocketAddr::new(address, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_hosts_is_refused() {
        for host in ["255.255.255.255", "224.0.0.1", "0.0.0.0", "[ff02::1]", "[::]"] {
            let spec = ProbeSpec::parse(&format!("tcp://{host}:80")).expect("url");
            assert!(address(&spec).expect_err(host).to_string().contains("one host"));
        }
    }

    #[test]
    fn a_literal_of_the_wrong_family_is_named() {
        let spec =
            ProbeSpec { family: Some(Family::V6), ..ProbeSpec::parse("tcp://10.0.0.1:80").expect("url") };
        assert!(address(&spec).expect_err("v4").to_string().contains("no IPv6 address"));
    }
}
