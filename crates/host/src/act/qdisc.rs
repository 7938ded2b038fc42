//! Queueing disciplines.

use super::qdisc_options::encode;
use super::{Announce, Undo, changed, find_link, from_hex, no_way_back, to_hex};
use crate::error::{Error, Result};
use crate::source::qdisc::TcHeader;
use crate::source::{class, filter};
use crate::sys::attributes::Attributes;
use crate::sys::netlink::Netlink;
use crate::sys::netns::Netns;
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
/// Where the kernel begins, too, when it chooses a handle (net/sched/sch_api.c:qdisc_alloc_handle).
const FIRST_HANDLE: u32 = 0x8001_0000;

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
    let handle = match (spec.parent, spec.handle) {
        (TC_INGRESS, _) => INGRESS_HANDLE,
        // Chosen here, so that the way back names this very qdisc before it is made.
        (_, 0) => free_handle(&all(&mut netlink, &link)?),
        (_, handle) => handle,
    };
    let undo = vec![Undo::plain(Action::QdiscDelete(QdiscSpec { handle, ..spec.clone() }))];
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
    Ok(undo)
}

/// A handle of which no qdisc of the link is.
fn free_handle(all: &[Standing]) -> u32 {
    let taken = |handle: u32| all.iter().any(|found| found.header.handle == handle);
    (FIRST_HANDLE..).step_by(1 << 16).find(|handle| !taken(*handle)).unwrap_or(FIRST_HANDLE)
}

/// True if such a qdisc stands at its place.
pub(super) fn stands(spec: &QdiscSpec) -> Result<bool> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, &spec.dev)?;
    let found = standing(&mut netlink, &link, spec.parent)?;
    let same =
        |found: Standing| found.kind == spec.kind && (spec.handle == 0 || found.header.handle == spec.handle);
    Ok(found.is_some_and(same))
}

/// Makes a qdisc like this one in a namespace of its own: some show options that they do not take (htb, red), some exist
/// only on devices with several queues (mq). What cannot come back there is not deleted here.
fn rehearse_return(spec: &QdiscSpec, handle: u32, options: &[u8], object: &Phrase) -> Result<()> {
    let scratch = Netns::unshare()?;
    let copy =
        QdiscSpec { dev: "lo".to_owned(), handle, parent: scratch_parent(spec.parent), ..spec.clone() };
    let made = scratch.run(|| add(&copy, Some(&to_hex(options)), &mut |_| Ok(())))?;
    made.map(drop).map_err(|e| {
        no_way_back(
            object.clone(),
            &text!("the kernel would refuse it: {why}", "内核会拒绝它：{why}").fill(&[("why", &e)]),
        )
    })
}

/// The place of the copy: the scratch device has no classes.
const fn scratch_parent(parent: u32) -> u32 {
    if parent == TC_INGRESS { TC_INGRESS } else { TC_ROOT }
}

/// `tc qdisc del`; as a step of the way `back` of one that was added. Refused if the qdisc holds classes, qdiscs or filters, which would be lost with it.
pub(super) fn delete(
    spec: &QdiscSpec,
    back: Option<&Undo>,
    announce: &mut Announce<'_>,
) -> Result<Vec<Undo>> {
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
    if back.is_none() {
        rehearse_return(spec, handle, &found.options, &object)?;
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
