//! Settings below /proc/sys/net.

use super::{Announce, Undo, changed};
use crate::error::{Error, Result};
use crate::sys::file;
use whydrop_model::Action;
use whydrop_model::text;

/// `sysctl -w NAME=VALUE`.
pub(super) fn write(name: &str, value: &str, was: &str, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let path = path(name)?;
    let current = words(&file::read(&path)?);
    let (wanted, was) = (words(value), words(was));
    if current == wanted {
        return Ok(vec![]);
    }
    if current != was {
        return Err(changed(
            name,
            &text!("it is {now}, not {was}", "它是 {now}，不是 {was}")
                .fill(&[("now", &current), ("was", &was)]),
        ));
    }
    let back = Action::Sysctl { name: name.to_owned(), value: was.clone(), was: wanted.clone() };
    let undo = vec![Undo::plain(back)];
    announce(&undo)?;
    put(&path, &wanted)?;
    let now = words(&file::read(&path)?);
    if now != wanted {
        // Some settings clamp what they are given without a word.
        put(&path, &was)?;
        return Err(Error::new(
            text!("set {object}", "设置 {object}"),
            name,
            text!("the kernel made {now} of {wanted}", "内核把 {wanted} 变成了 {now}")
                .fill(&[("now", &now), ("wanted", &wanted)]),
        ));
    }
    Ok(undo)
}

/// True if the setting has this value.
pub(super) fn is(name: &str, value: &str) -> Result<bool> {
    Ok(words(&file::read(&path(name)?)?) == words(value))
}

fn put(path: &str, value: &str) -> Result<()> {
    std::fs::write(path, value).map_err(|e| Error::io(text!("write {object}", "写入 {object}"), path, &e))
}

/// Values of several numbers are separated with tabs when read.
fn words(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The file of a setting. Only names below `net.`; a name of an interface may hold dots, so everything between
/// `net.ipvN.conf.` and the last dot is one.
fn path(name: &str) -> Result<String> {
    let refuse = || {
        Error::new(
            text!("set {object}", "设置 {object}"),
            whydrop_model::shell::sanitize(name, 80),
            text!("not a name of a network setting", "不是网络参数的名称").phrase(),
        )
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | ':');
    if !name.starts_with("net.") || !name.chars().all(plain) {
        return Err(refuse());
    }
    let parts: Vec<&str> = name.split('.').collect();
    let per_interface = matches!(parts.as_slice(), ["net", "ipv4" | "ipv6", "conf" | "neigh", _, _, ..]);
    let parts: Vec<String> = match parts.as_slice() {
        [net, family, table, interface @ .., key] if per_interface => {
            [*net, *family, *table, interface.join(".").as_str(), *key].map(str::to_owned).into()
        }
        parts => parts.iter().map(|part| (*part).to_owned()).collect(),
    };
    // No part is a way up.
    if parts.iter().any(|part| part.chars().all(|c| c == '.')) {
        return Err(refuse());
    }
    Ok(format!("/proc/sys/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_net() {
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        let vlan = path("net.ipv4.conf.eth0.100.rp_filter").unwrap();
        assert_eq!(vlan, "/proc/sys/net/ipv4/conf/eth0.100/rp_filter");
        for bad in [
            "kernel.core_pattern",
            "net",
            "net.",
            "net..ipv4",
            "net/../kernel.core_pattern",
            "net.ipv4.conf...rp_filter",
            "net.ipv4.conf.....rp_filter",
            "net.ipv4.x\0y",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
