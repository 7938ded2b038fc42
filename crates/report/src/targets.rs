//! `whydrop targets`: what there is to diagnose, with its losses at a glance.

use crate::layout::{Ink, Page, name, pad, width};
use crate::number::count;
use crate::stat::{self, Row, Table};
use crate::text::{Options, tenants};
use serde::Serialize;
use std::io::{self, Write};
use whydrop_model::census::{Census, Glance, Resident};
use whydrop_model::{Lang, Reading, Target, text};

/// Counters that are named for one namespace.
const COUNTERS: usize = 3;
/// Programs and addresses that are named.
const NAMED: usize = 3;
/// Columns of the name, if it fits.
const NAME: usize = 24;

/// Writes one block for each namespace, then what could not be seen.
///
/// # Errors
/// Those of `out`.
pub fn write(census: &Census, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let lang = options.lang;
    let mut page = options.page();
    let head = text!(
        "{n} network namespaces. The word on the left is what diagnose, trace and stat take.",
        "{n} 个网络命名空间。左列即 diagnose、trace 与 stat 可用的目标名称。"
    );
    page.paragraph(0, head.fill(&[("n", &census.namespaces.len())]).get(lang));
    for resident in &census.namespaces {
        block(resident, options, &mut page);
    }
    let label = text!("Not seen", "未能查看").get(lang);
    for (index, (source, why)) in census.unseen.iter().enumerate() {
        if index == 0 {
            page.blank();
        }
        let text = format!("{}: {}", name(source), name(reason(why)));
        page.entry(if index == 0 { label } else { "" }, width(label) + 2, &text);
    }
    out.write_all(page.finish().as_bytes())
}

fn block(resident: &Resident, options: &Options, page: &mut Page) {
    let (lang, indent) = (options.lang, if options.plain { 0 } else { NAME + 2 });
    let colon = if lang == Lang::Zh { "：" } else { ": " };
    let comma = if lang == Lang::Zh { "、" } else { ", " };
    let containers = tenants::facts(&resident.target, lang).unwrap_or_default();
    let mut facts = vec![containers, listed(&resident.programs, resident.processes, lang)];
    let mut losses = vec![];
    match &resident.glance {
        Reading::Present(glance) => {
            facts.push(addresses(glance, lang));
            match lost(&resident.target, glance) {
                Some(rows) => losses = rows,
                None => facts.push(text!("counters not read", "未能读取计数器").get(lang).to_owned()),
            }
        }
        unread => {
            let said =
                text!("cannot be entered ({why})", "无法进入（{why}）").fill(&[("why", &reason(unread))]);
            facts.push(said.get(lang).to_owned());
        }
    }
    if !resident.aliases.is_empty() {
        let aliases: Vec<String> = resident.aliases.iter().take(NAMED).map(|alias| name(alias)).collect();
        let also = text!("also {names}", "别名 {names}").fill(&[("names", &aliases.join(comma))]);
        facts.push(also.get(lang).to_owned());
    }
    facts.retain(|fact| !fact.is_empty());
    let id = name(&resident.target.id);
    let text = facts.join("; ");
    if !options.plain && width(&id) > NAME {
        page.marked(Ink::Bold, &id, width(&id), "");
        page.paragraph(indent, &text);
    } else {
        page.marked(Ink::Bold, &pad(&id, NAME), indent, &text);
    }
    if !losses.is_empty() {
        let named: Vec<String> = losses
            .iter()
            .take(COUNTERS)
            .map(|row| {
                let place =
                    if row.place.is_empty() { String::new() } else { format!("{} ", name(&row.place)) };
                format!("{place}{} {}", row.name(), row.value.map_or_else(|| "-".to_owned(), count))
            })
            .collect();
        let label = text!("lost since it exists", "创建以来的丢失");
        page.paragraph(indent, &format!("{}{colon}{}", label.get(lang), named.join(comma)));
    }
}

/// `nginx, sh, 12 processes`.
fn listed(programs: &[String], processes: Option<usize>, lang: Lang) -> String {
    let comma = if lang == Lang::Zh { "、" } else { ", " };
    let named: Vec<String> = programs.iter().take(NAMED).map(|program| name(program)).collect();
    let number = match processes {
        None => return text!("processes not seen", "看不到进程").get(lang).to_owned(),
        Some(0) => return text!("no process", "没有进程").get(lang).to_owned(),
        Some(1) => return named.join(comma),
        Some(n) => text!("{n} processes", "{n} 个进程").fill(&[("n", &n)]),
    };
    format!("{} ({})", number.get(lang), named.join(comma))
}

fn addresses(glance: &Glance, lang: Lang) -> String {
    let (Some(links), Some(all)) = (glance.links.get(), glance.addresses.get()) else {
        return text!("addresses not read", "未能读取地址").get(lang).to_owned();
    };
    let loopback = |index: u32| links.iter().any(|link| link.index == index && link.loopback);
    let shown: Vec<String> = all
        .iter()
        .filter(|address| !loopback(address.link) && !is_link_local(address.ip))
        .map(|address| format!("{}/{}", address.ip, address.prefix))
        .collect();
    let more = match shown.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" +{n}"),
    };
    match shown.is_empty() {
        true => text!("no address", "没有地址").get(lang).to_owned(),
        false => format!("{}{more}", shown.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ")),
    }
}

fn is_link_local(ip: std::net::IpAddr) -> bool {
    matches!(ip, std::net::IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Counters of certain loss that are not zero, the largest first; none if they could not be read.
fn lost(target: &Target, glance: &Glance) -> Option<Vec<Row>> {
    // A kernel may be without IPv6, and then has nothing to count.
    let ipv6 = matches!(glance.mib6, Reading::Present(_) | Reading::Absent(_));
    if !(glance.mib.is_present() && glance.links.is_present() && ipv6) {
        return None;
    }
    let table = Table::of_glance(glance).counted();
    let mut rows = stat::compare(&target.id, &Table::default(), &table);
    rows.retain(|row| row.is_loss() && row.matters());
    rows.sort_by_key(|row| std::cmp::Reverse(row.value));
    Some(rows)
}

fn reason<T>(reading: &Reading<T>) -> &str {
    match reading {
        Reading::Present(_) => "",
        Reading::Absent(why) | Reading::Denied(why) | Reading::Failed(why) => why,
    }
}

/// The census as JSON, `whydrop.targets.v1`.
#[derive(Clone, Debug, Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    namespaces: Vec<Namespace<'a>>,
    unseen: Vec<Unseen<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct Namespace<'a> {
    #[serde(flatten)]
    target: crate::json::Target,
    aliases: &'a [String],
    /// Null if they are hidden.
    processes: Option<usize>,
    programs: &'a [String],
    /// Null if they could not be read.
    addresses: Option<Vec<String>>,
    /// Counters of certain loss that are not zero, since the namespace exists; null as above.
    lost: Option<Vec<Lost>>,
    /// Why it could not be looked into.
    unread: Option<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
struct Lost {
    counter: String,
    place: Option<String>,
    value: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct Unseen<'a> {
    source: &'a str,
    status: &'static str,
    detail: &'a str,
}

/// The whole census.
pub fn document<'a>(census: &'a Census) -> Document<'a> {
    let namespaces = census.namespaces.iter().map(namespace).collect();
    let unseen = |(source, why): &'a (String, Reading<()>)| Unseen {
        source,
        status: match why {
            Reading::Present(()) => "read",
            Reading::Absent(_) => "absent",
            Reading::Denied(_) => "denied",
            Reading::Failed(_) => "failed",
        },
        detail: reason(why),
    };
    let unseen = census.unseen.iter().map(unseen).collect();
    Document { schema: "whydrop.targets.v1", namespaces, unseen }
}

fn namespace(resident: &Resident) -> Namespace<'_> {
    let glance = resident.glance.get();
    let addresses = glance.and_then(|glance| glance.addresses.get());
    let row = |row: Row| Lost {
        place: Some(row.place).filter(|place| !place.is_empty()),
        counter: row.counter,
        value: row.value,
    };
    Namespace {
        target: crate::json::target(&resident.target),
        aliases: &resident.aliases,
        processes: resident.processes,
        programs: &resident.programs,
        addresses: addresses.map(|all| all.iter().map(|a| format!("{}/{}", a.ip, a.prefix)).collect()),
        lost: glance
            .and_then(|glance| lost(&resident.target, glance))
            .map(|rows| rows.into_iter().map(row).collect()),
        unread: (!resident.glance.is_present()).then(|| reason(&resident.glance)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whydrop_model::{Role, TargetKind, target::Entry};

    /// What `targets` says of a namespace whose counters of one kind read like this.
    fn said(mib: Reading<whydrop_model::snapshot::Counters>) -> (String, serde_json::Value) {
        let target = Target {
            id: "netns:web".into(),
            kind: TargetKind::Netns,
            name: "web".into(),
            netns_inode: 1,
            pid: None,
            container: None,
            role: Role::Target,
            entry: Entry::Here,
            tenants: vec![],
        };
        let none = || Reading::Present(vec![]);
        let mib6 = Reading::Absent("no IPv6".into());
        let glance =
            Reading::Present(Glance { links: none(), addresses: Reading::Present(vec![]), mib, mib6 });
        let resident = Resident { target, aliases: vec![], processes: Some(0), programs: vec![], glance };
        let census = Census { namespaces: vec![resident], unseen: vec![] };
        let mut out = vec![];
        write(&census, &Options::default(), &mut out).unwrap();
        (String::from_utf8(out).unwrap(), serde_json::to_value(document(&census)).unwrap())
    }

    #[test]
    fn counters_that_were_not_read_are_not_without_loss() {
        let (text, json) = said(Reading::Failed("EIO".into()));
        assert!(text.contains("counters not read"), "{text}");
        assert!(json["namespaces"][0]["lost"].is_null(), "{json}");
        let (text, json) = said(Reading::Present(whydrop_model::snapshot::Counters::default()));
        assert!(!text.contains("counters not read"), "{text}");
        assert_eq!(json["namespaces"][0]["lost"], serde_json::json!([]));
    }
}
