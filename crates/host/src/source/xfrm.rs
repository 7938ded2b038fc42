//! IPsec policies and states: NETLINK_XFRM; their counters: /proc/thread-self/net/xfrm_stat.
//!
//! Keys are in the same messages (with CAP_NET_ADMIN) and never leave this file.

use crate::error::{Error, Result};
use crate::sys::attributes::Attributes;
use crate::sys::file;
use crate::sys::netlink::Netlink;
use netlink_bindings::utils::{parse_u16, parse_u32, parse_u64};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use whydrop_model::snapshot::{Counters, Xfrm, XfrmPolicy, XfrmSelector, XfrmState, XfrmTemplate};
use whydrop_model::text;

const NETLINK: &str = "/proc/thread-self/net/netlink";
const STAT: &str = "/proc/thread-self/net/xfrm_stat";

// XFRM_MSG_* (include/uapi/linux/xfrm.h).
const GETSA: u16 = 0x12;
const GETPOLICY: u16 = 0x15;

/// Length of struct xfrm_userpolicy_info and of struct xfrm_usersa_info, with padding.
const POLICY: usize = 168;
const STATE: usize = 224;
/// Length of struct xfrm_user_tmpl.
const TEMPLATE: usize = 64;
/// Length of an algorithm's name.
const NAME: usize = 64;

// XFRMA_*.
const ALG_AUTH: u16 = 1;
const ALG_CRYPT: u16 = 2;
const ENCAP: u16 = 4;
const TMPL: u16 = 5;
const ALG_AEAD: u16 = 18;
const ALG_AUTH_TRUNC: u16 = 20;
const MARK: u16 = 21;
const REPLAY_ESN_VAL: u16 = 23;
const IF_ID: u16 = 31;

/// True unless the kernel certainly does not speak NETLINK_XFRM: it has a socket of its own for each protocol that it
/// speaks, in each namespace (`sk Eth …`).
pub fn is_spoken() -> bool {
    let spoken = |line: &str| {
        let protocol = line.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
        protocol == Some(libc::NETLINK_XFRM)
    };
    file::read(NETLINK).map_or(true, |text| text.lines().any(spoken))
}

/// Policies and states of the calling thread's namespace. `spoken` says whether the kernel speaks NETLINK_XFRM:
/// opening it would load the module. Needs CAP_NET_ADMIN.
pub fn read(spoken: bool) -> Result<Xfrm> {
    if !spoken {
        return Err(absent());
    }
    let mut netlink = Netlink::xfrm()?;
    Ok(Xfrm {
        policies: netlink.dump_raw(
            text!("the IPsec policies", "IPsec 策略"),
            GETPOLICY,
            &[],
            parse_policy,
        )?,
        states: netlink.dump_raw(text!("the IPsec states", "IPsec 安全联盟"), GETSA, &[], parse_state)?,
    })
}

fn absent() -> Error {
    Error::io(
        text!("read {object}", "读取{object}"),
        text!("the IPsec policies", "IPsec 策略"),
        &std::io::Error::from_raw_os_error(libc::EPROTONOSUPPORT),
    )
}

/// Counters such as `XfrmInNoStates`; absent without CONFIG_XFRM_STATISTICS. Needs no privilege.
pub fn statistics() -> Result<Counters> {
    let text = file::read(STAT)?;
    parse_statistics(&text).ok_or_else(|| file::malformed(STAT))
}

fn parse_statistics(text: &str) -> Option<Counters> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    text.lines().map(line).collect()
}

fn parse_policy(message: &[u8]) -> Option<XfrmPolicy> {
    let attributes = Attributes::after(message, POLICY)?;
    let index = parse_u32(message.get(156..)?)?;
    Some(XfrmPolicy {
        // XFRM_POLICY_IN, OUT, FWD; those of sockets have the bit above in their index.
        direction: match (index & 4 != 0 || index & 3 == 3, message.get(160)?) {
            (true, _) => "socket".to_owned(),
            (false, 0) => "in".to_owned(),
            (false, 1) => "out".to_owned(),
            (false, 2) => "fwd".to_owned(),
            (false, other) => format!("direction {other}"),
        },
        selector: selector(message)?,
        block: *message.get(161)? == 1,
        priority: parse_u32(message.get(152..)?)?,
        index,
        mark: mark(attributes),
        if_id: attributes.u32(IF_ID),
        templates: match attributes.bytes(TMPL) {
            Some(all) => all.chunks_exact(TEMPLATE).map(template).collect::<Option<_>>()?,
            None => Vec::new(),
        },
    })
}

fn template(bytes: &[u8]) -> Option<XfrmTemplate> {
    let family = parse_u16(bytes.get(24..)?)?;
    Some(XfrmTemplate {
        source: address(family, bytes.get(28..)?)?,
        destination: address(family, bytes)?,
        protocol: protocol(*bytes.get(20)?),
        mode: mode(*bytes.get(48)?),
        spi: u32::from_be(parse_u32(bytes.get(16..)?)?),
        reqid: parse_u32(bytes.get(44..)?)?,
        optional: *bytes.get(50)? != 0,
    })
}

fn parse_state(message: &[u8]) -> Option<XfrmState> {
    let attributes = Attributes::after(message, STATE)?;
    let word = |offset: usize| parse_u32(message.get(offset..)?);
    let family = parse_u16(message.get(212..)?)?;
    let encapsulation = |bytes: &[u8]| {
        let port = |offset: usize| parse_u16(bytes.get(offset..)?).map(u16::from_be);
        Some((port(2)?, port(4)?))
    };
    // struct xfrm_replay_state_esn: the window is its sixth word.
    let long_window = attributes.bytes(REPLAY_ESN_VAL).and_then(|esn| parse_u32(esn.get(20..)?));
    Some(XfrmState {
        source: address(family, message.get(80..)?)?,
        destination: address(family, message.get(56..)?)?,
        spi: u32::from_be(word(72)?),
        protocol: protocol(*message.get(76)?),
        mode: mode(*message.get(214)?),
        reqid: word(208)?,
        mark: mark(attributes),
        if_id: attributes.u32(IF_ID),
        encapsulation: attributes.bytes(ENCAP).and_then(encapsulation),
        encryption: algorithm(attributes, [ALG_AEAD, ALG_CRYPT]),
        authentication: algorithm(attributes, [ALG_AUTH_TRUNC, ALG_AUTH]),
        replay_window: match long_window {
            Some(window) => window,
            None => u32::from(*message.get(215)?),
        },
        bytes: parse_u64(message.get(160..)?)?,
        packets: parse_u64(message.get(168..)?)?,
        outside_window: word(192)?,
        replayed: word(196)?,
        integrity_failed: word(200)?,
    })
}

/// struct xfrm_selector, which begins policies and states.
fn selector(bytes: &[u8]) -> Option<XfrmSelector> {
    let half = |offset: usize| parse_u16(bytes.get(offset..)?);
    let port = |offset: usize| half(offset).map(u16::from_be);
    let family = half(40)?;
    Some(XfrmSelector {
        source: (address(family, bytes.get(16..)?)?, *bytes.get(43)?),
        destination: (address(family, bytes)?, *bytes.get(42)?),
        protocol: *bytes.get(44)?,
        source_port: (port(36)?, port(38)?),
        destination_port: (port(32)?, port(34)?),
        link: parse_u32(bytes.get(48..)?)?,
    })
}

/// xfrm_address_t: 16 bytes of which IPv4 uses 4.
fn address(family: u16, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET6 => bytes.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip).into()),
        _ => bytes.first_chunk::<4>().map(|ip| Ipv4Addr::from(*ip).into()),
    }
}

fn mark(attributes: Attributes<'_>) -> Option<(u32, u32)> {
    let bytes = attributes.bytes(MARK)?;
    Some((parse_u32(bytes)?, parse_u32(bytes.get(4..)?)?))
}

/// The name, at the front of struct xfrm_algo and its relatives; the key behind it is left.
fn algorithm(attributes: Attributes<'_>, kinds: [u16; 2]) -> Option<String> {
    let bytes = kinds.into_iter().find_map(|kind| attributes.bytes(kind))?;
    let name = bytes.get(..NAME)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

fn protocol(number: u8) -> String {
    match i32::from(number) {
        libc::IPPROTO_ESP => "esp".to_owned(),
        libc::IPPROTO_AH => "ah".to_owned(),
        libc::IPPROTO_COMP => "comp".to_owned(),
        other => other.to_string(),
    }
}

fn mode(number: u8) -> String {
    let words = ["transport", "tunnel", "ro", "in_trigger", "beet", "iptfs"];
    words.get(usize::from(number)).map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
        bytes[offset..offset + value.len()].copy_from_slice(value);
    }

    #[test]
    fn a_policy_that_wants_a_tunnel() {
        let mut message = vec![0; POLICY];
        put(&mut message, 0, &[10, 2, 0, 0]);
        put(&mut message, 16, &[10, 1, 0, 0]);
        put(&mut message, 32, &[0, 80, 0xff, 0xff]);
        put(&mut message, 40, &2u16.to_ne_bytes());
        put(&mut message, 42, &[24, 16, 6]);
        put(&mut message, 152, &1000u32.to_ne_bytes());
        put(&mut message, 156, &9u32.to_ne_bytes());
        put(&mut message, 160, &[1, 0]);
        let mut template = vec![0; TEMPLATE];
        put(&mut template, 0, &[192, 0, 2, 2]);
        put(&mut template, 16, &0x1234u32.to_be_bytes());
        put(&mut template, 20, &[50]);
        put(&mut template, 24, &2u16.to_ne_bytes());
        put(&mut template, 28, &[192, 0, 2, 1]);
        put(&mut template, 48, &[1]);
        message.extend(attribute(TMPL, &template));
        let policy = parse_policy(&message).unwrap();
        assert_eq!((policy.direction.as_str(), policy.block, policy.priority), ("out", false, 1000));
        assert_eq!(policy.selector.source, ("10.1.0.0".parse().unwrap(), 16));
        assert_eq!(policy.selector.destination, ("10.2.0.0".parse().unwrap(), 24));
        assert_eq!(policy.selector.destination_port, (80, 0xffff));
        let template = policy.templates.first().unwrap();
        assert_eq!((template.protocol.as_str(), template.mode.as_str()), ("esp", "tunnel"));
        assert_eq!((template.spi, template.source.to_string().as_str()), (0x1234, "192.0.2.1"));
        torture(&message, parse_policy);
    }

    #[test]
    fn a_state_keeps_the_name_of_its_algorithm_and_not_its_key() {
        let mut message = vec![0; STATE];
        put(&mut message, 56, &[192, 0, 2, 2]);
        put(&mut message, 72, &7u32.to_be_bytes());
        put(&mut message, 76, &[50]);
        put(&mut message, 80, &[192, 0, 2, 1]);
        put(&mut message, 168, &5u64.to_ne_bytes());
        put(&mut message, 196, &3u32.to_ne_bytes());
        put(&mut message, 212, &2u16.to_ne_bytes());
        put(&mut message, 215, &[32]);
        let mut aead = vec![0; NAME];
        put(&mut aead, 0, b"rfc4106(gcm(aes))");
        aead.extend([0x5e; 28]);
        message.extend(attribute(ALG_AEAD, &aead));
        message.extend(attribute(ENCAP, &[2, 0, 0x11, 0x94, 0x11, 0x95]));
        let state = parse_state(&message).unwrap();
        assert_eq!((state.spi, state.packets, state.replayed, state.replay_window), (7, 5, 3, 32));
        assert_eq!(
            (state.encryption.as_deref(), state.authentication.as_deref()),
            (Some("rfc4106(gcm(aes))"), None)
        );
        assert_eq!(state.encapsulation, Some((4500, 4501)));
        torture(&message, parse_state);
    }

    #[test]
    fn counters() {
        let read = parse_statistics("XfrmInError             \t0\nXfrmInNoStates          \t4\n").unwrap();
        assert_eq!(read.get("XfrmInNoStates"), Some(&4));
        assert_eq!(parse_statistics("XfrmInError\n"), None);
    }
}
