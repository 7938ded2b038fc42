//! Queueing disciplines.

use super::qdisc_options::encode;
use super::{Announce, Undo, changed, find_link, from_hex, no_way_back};
use crate::error::{Error, Result};
use crate::source::qdisc::TcHeader;
use crate::source::{class, filter};
use crate::sys::attributes::Attributes;
use crate::sys::netlink::Netlink;
use netlink_bindings::tc;
use netlink_bindings::utils::{nla_align_up, push_header};
use whydrop_model::action::{QdiscSpec, TC_INGRESS, TC_ROOT, tc_handle};
use whydrop_model::snapshot::Link;
use whydrop_model::text;
use whydrop_model::{Action, Phrase};

/// Length of `struct tcmsg`.
const HEADER: usize = 20;
/// `TC_H_MAJ(TC_H_INGRESS)`, the handle of ingress and clsact.
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// `IFNAMSIZ`, the bound of a kind.
const KIND_MAX: usize = 16;

/// A qdisc as it stands.
struct Standing {
    header: TcHeader,
    kind: String,
    options: Vec<u8>,
}

/// `tc qdisc add`; with `raw` with the options of the qdisc that was deleted.
pub(super) fn add(spec: &QdiscSpec, raw: Option<&str>, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, &spec.dev)?;
    let options = match raw {
        Some(raw) => Some(from_hex(raw)?),
        None => encode(&spec.kind, &spec.options).ok_or_else(|| {
            Error::new(
                text!("add the qdisc {object}", "添加队列规则 {object}"),
                &spec.kind,
                text!("its options cannot be written", "whydrop 写不出它的选项").phrase(),
            )
        })?,
    };
    let handle = if spec.parent == TC_INGRESS { INGRESS_HANDLE } else { spec.handle };
    let mut undo = vec![Undo::plain(Action::QdiscDelete(QdiscSpec { handle, ..spec.clone() }))];
    announce(&undo)?;
    let mut payload = header(link.index, handle, spec.parent);
    push(&mut payload, libc::TCA_KIND, &kind_bytes(&spec.kind)?);
    if let Some(options) = options.filter(|options| !options.is_empty()) {
        push(&mut payload, libc::TCA_OPTIONS, &options);
    }
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let fail = |e| {
        Error::io(
            text!("add the qdisc {object}", "添加队列规则 {object}"),
            text!("{kind} to {dev}", "{kind} 到 {dev}").fill(&[("kind", &spec.kind), ("dev", &spec.dev)]),
            &e,
        )
    };
    netlink.execute_raw(libc::RTM_NEWQDISC, flags, &payload).map_err(fail)?;
    // The kernel may have chosen the handle.
    let found = standing(&mut netlink, &link, spec.parent)?.filter(|found| found.kind == spec.kind);
    let found = found.ok_or_else(|| {
        changed(
            text!("the qdisc of {dev}", "{dev} 的队列规则").fill(&[("dev", &spec.dev)]),
            &text!("it is gone again", "它又消失了").phrase(),
        )
    })?;
    let new = QdiscSpec { handle: found.header.handle, ..spec.clone() };
    undo.splice(.., [Undo::plain(Action::QdiscDelete(new))]);
    Ok(undo)
}

/// `tc qdisc del`. Refused if the qdisc holds classes, qdiscs or filters, which would be lost with it.
pub(super) fn delete(spec: &QdiscSpec, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, &spec.dev)?;
    let object = text!("the qdisc {kind} of {dev}", "{dev} 的队列规则 {kind}")
        .fill(&[("kind", &spec.kind), ("dev", &spec.dev)]);
    let found = standing(&mut netlink, &link, spec.parent)?
        .ok_or_else(|| changed(object.clone(), &text!("it is gone", "它已不存在").phrase()))?;
    let handle = found.header.handle;
    if found.kind != spec.kind || (spec.handle != 0 && spec.handle != handle) {
        let now = format!("{} {}", found.kind, tc_handle(handle));
        let was = format!("{} {}", spec.kind, tc_handle(spec.handle));
        return Err(changed(
            object,
            &text!("it is {now}, not {was}", "它是 {now}，不是 {was}").fill(&[("now", &now), ("was", &was)]),
        ));
    }
    if let Some(what) = held(&mut netlink, &link, &found)? {
        return Err(no_way_back(object, &text!("it holds {what}", "它含有{what}").with(&[("what", &what)])));
    }
    let back = Action::QdiscAdd(QdiscSpec { handle, ..spec.clone() });
    let undo = vec![Undo::raw(back, &found.options)];
    announce(&undo)?;
    let mut payload = header(link.index, handle, spec.parent);
    push(&mut payload, libc::TCA_KIND, &kind_bytes(&spec.kind)?);
    netlink.execute_raw(libc::RTM_DELQDISC, 0, &payload).map_err(|e| {
        Error::io(
            text!("delete the qdisc {object}", "删除队列规则 {object}"),
            text!("{kind} of {dev}", "{dev} 的 {kind}").fill(&[("kind", &spec.kind), ("dev", &spec.dev)]),
            &e,
        )
    })?;
    Ok(undo)
}

fn header(link: u32, handle: u32, parent: u32) -> Vec<u8> {
    let words = [0, link, handle, parent, 0];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn kind_bytes(kind: &str) -> Result<Vec<u8>> {
    if kind.is_empty() || kind.len() >= KIND_MAX || !kind.is_ascii() || kind.contains('\0') {
        let kind = whydrop_model::shell::sanitize(kind, KIND_MAX);
        return Err(Error::new(
            text!("use the qdisc {object}", "使用队列规则 {object}"),
            kind,
            text!("not a usable kind", "不是可用的类型").phrase(),
        ));
    }
    Ok([kind.as_bytes(), &[0]].concat())
}

fn push(payload: &mut Vec<u8>, number: u16, bytes: &[u8]) {
    push_header(payload, number, u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    payload.extend(bytes);
    payload.resize(nla_align_up(payload.len()), 0);
}

fn all(netlink: &mut Netlink, link: &Link) -> Result<Vec<Standing>> {
    let request = tc::Request::new().op_getqdisc_dump(&tc::Tcmsg::default());
    netlink.dump(text!("the qdiscs", "队列规则"), &request, |message| {
        let header = TcHeader::parse(message).filter(|header| header.link == link.index)?;
        let attributes = Attributes::after(message, HEADER)?;
        let options = attributes.bytes(libc::TCA_OPTIONS).unwrap_or(&[]).to_vec();
        Some(Standing { header, kind: attributes.text(libc::TCA_KIND)?, options })
    })
}

/// The qdisc at this place.
fn standing(netlink: &mut Netlink, link: &Link, parent: u32) -> Result<Option<Standing>> {
    Ok(all(netlink, link)?.into_iter().find(|found| found.header.parent == parent))
}

/// What would be lost with a qdisc.
fn held(netlink: &mut Netlink, link: &Link, qdisc: &Standing) -> Result<Option<Phrase>> {
    let major = qdisc.header.handle >> 16;
    let inside = |parent: u32| parent != TC_ROOT && parent != TC_INGRESS && parent >> 16 == major;
    if all(netlink, link)?.iter().any(|other| inside(other.header.parent)) {
        return Ok(Some(text!("another qdisc", "另一个队列规则").phrase()));
    }
    let links = std::slice::from_ref(link);
    let qdiscs = crate::source::qdisc::read(netlink, links)?;
    let own: Vec<_> = qdiscs.into_iter().filter(|q| q.link == link.index).collect();
    // tbf and netem have one class that they make themselves.
    let classful = !matches!(qdisc.kind.as_str(), "tbf" | "netem");
    let classes = class::read(netlink, &own)?;
    if classful && classes.iter().any(|c| c.link == link.index && c.handle >> 16 == major) {
        return Ok(Some(text!("classes", "分类").phrase()));
    }
    let filters = filter::read(netlink, &own, &classes)?;
    let hooked = qdisc.header.parent == TC_INGRESS;
    let of = |parent: u32| inside(parent) || hooked && parent >> 16 == INGRESS_HANDLE >> 16;
    Ok(filters
        .iter()
        .any(|f| f.link == link.index && of(f.parent))
        .then(|| text!("filters", "过滤器").phrase()))
}
