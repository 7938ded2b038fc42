//! tc filters with their actions: RTM_GETTFILTER, once for each place where filters can hang.

use super::class::is_classful;
use super::qdisc::{HEADER, TcHeader};
use super::tc_action;
use crate::error::Result;
use crate::sys::attributes::Attributes;
use crate::sys::netlink::Netlink;
use netlink_bindings::tc;
use whydrop_model::snapshot::{Class, Qdisc, TcAction, TcFilter};
use whydrop_model::text;

/// Parent of the filters of the ingress hook (of `ingress` and `clsact`).
const TC_H_CLSACT_INGRESS: u32 = 0xffff_fff2;
/// Parent of the filters of the egress hook (of `clsact`).
const TC_H_CLSACT_EGRESS: u32 = 0xffff_fff3;

const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const TCA_U32_DIVISOR: u16 = 4;

/// Filters of every classful qdisc and its classes, and of the ingress and egress hooks. Needs no privilege.
pub fn read(route: &mut Netlink, qdiscs: &[Qdisc], classes: &[Class]) -> Result<Vec<TcFilter>> {
    let mut filters = Vec::new();
    for (link, parent) in places(qdiscs, classes) {
        let header = tc::Tcmsg { ifindex: link.cast_signed(), parent, ..Default::default() };
        let request = tc::Request::new().op_gettfilter_dump(&header);
        filters.extend(route.dump(text!("the tc filters", "tc 过滤器"), &request, parse)?);
    }
    Ok(filters)
}

fn places(qdiscs: &[Qdisc], classes: &[Class]) -> Vec<(u32, u32)> {
    let mut places = Vec::new();
    for qdisc in qdiscs {
        match qdisc.kind.as_str() {
            "ingress" => places.push((qdisc.link, TC_H_CLSACT_INGRESS)),
            "clsact" => {
                places.push((qdisc.link, TC_H_CLSACT_INGRESS));
                places.push((qdisc.link, TC_H_CLSACT_EGRESS));
            }
            // No filters can hang on mq.
            "mq" => (),
            kind if is_classful(kind) => places.push((qdisc.link, qdisc.handle)),
            _ => (),
        }
    }
    // Only these have filters inside their classes.
    let inner = classes.iter().filter(|c| matches!(c.kind.as_str(), "htb" | "hfsc" | "cbq"));
    places.extend(inner.map(|class| (class.link, class.handle)));
    places
}

/// The attributes of a kind of filter that hold its actions and its policer of the old form.
fn action_attributes(kind: &str) -> Option<(u16, Option<u16>)> {
    Some(match kind {
        "bpf" => (1, Some(2)),
        "matchall" => (2, None),
        "flower" => (3, None),
        "u32" => (7, Some(6)),
        "basic" => (3, Some(4)),
        "fw" => (4, Some(2)),
        "flow" => (9, Some(10)),
        "cgroup" => (1, Some(2)),
        "route" => (6, Some(5)),
        _ => return None,
    })
}

/// None for the head of a list of filters (no options) and a hash table of u32, which match nothing by themselves.
fn parse(message: &[u8]) -> Option<TcFilter> {
    let TcHeader { link, handle, parent, info } = TcHeader::parse(message)?;
    let attributes = Attributes::after(message, HEADER)?;
    let kind = attributes.text(libc::TCA_KIND)?;
    let options = attributes.nested(libc::TCA_OPTIONS)?;
    if kind == "u32" && options.bytes(TCA_U32_DIVISOR).is_some() {
        return None;
    }
    let bpf = Some(options).filter(|_| kind == "bpf");
    Some(TcFilter {
        link,
        parent,
        handle,
        // TC_H_MAJ(info) is the preference, TC_H_MIN the protocol.
        preference: info >> 16,
        protocol: u16::try_from(info & 0xffff).ok().map(u16::from_be),
        program: bpf.and_then(|o| o.text(TCA_BPF_NAME)),
        actions: actions(&kind, options, attributes),
        kind,
    })
}

fn actions(kind: &str, options: Attributes<'_>, filter: Attributes<'_>) -> Vec<TcAction> {
    let mut actions = Vec::new();
    if kind == "bpf" && options.u32(TCA_BPF_FLAGS).is_some_and(|f| f & TCA_BPF_FLAG_ACT_DIRECT != 0) {
        actions.push(TcAction { kind: "direct-action".to_owned(), verdict: None, stats: None, target: None });
    }
    if let Some((list, policer)) = action_attributes(kind) {
        actions.extend(options.nested(list).into_iter().flat_map(tc_action::parse_list));
        actions.extend(
            policer.and_then(|p| options.nested(p)).map(|policer| tc_action::old_policer(policer, filter)),
        );
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn message(kind: &[u8], options: Option<&[u8]>) -> Vec<u8> {
        let mut out = vec![0; 4];
        for word in [2u32, 1, TC_H_CLSACT_INGRESS, 49152 << 16 | 0x300] {
            out.extend(word.to_ne_bytes());
        }
        out.extend(attribute(libc::TCA_KIND, kind));
        out.extend(options.map(|o| attribute(libc::TCA_OPTIONS, o)).unwrap_or_default());
        out
    }

    #[test]
    fn a_program_that_judges_by_itself() {
        let mut options = attribute(TCA_BPF_NAME, b"drop.o:[tc]\0");
        options.extend(attribute(TCA_BPF_FLAGS, &1u32.to_ne_bytes()));
        let bytes = message(b"bpf\0", Some(&options));
        let filter = parse(&bytes).unwrap();
        assert_eq!((filter.link, filter.preference, filter.handle), (2, 49152, 1));
        // 0x300 in the order of the wire, as the kernel keeps it on a little-endian machine.
        assert_eq!(filter.protocol, Some(u16::from_be(0x300)));
        assert_eq!(filter.program.as_deref(), Some("drop.o:[tc]"));
        assert_eq!(filter.actions.first().unwrap().kind, "direct-action");
        torture(&bytes, parse);
    }

    #[test]
    fn a_policer_in_the_old_form_counts_beside_the_options() {
        let options = attribute(6, &attribute(1, &[[0; 4], 2i32.to_ne_bytes()].concat()));
        let words = [7u32, 3, 5, 0, 0, 0, 0, 0];
        let stats =
            [900u64.to_ne_bytes().to_vec(), words.into_iter().flat_map(u32::to_ne_bytes).collect()].concat();
        let mut bytes = message(b"u32\0", Some(&options));
        bytes.extend(attribute(libc::TCA_STATS, &stats));
        let filter = parse(&bytes).unwrap();
        let policer = filter.actions.first().unwrap();
        assert_eq!((policer.kind.as_str(), policer.verdict.as_deref()), ("police", Some("drop")));
        assert_eq!(policer.stats.as_ref().map(|stats| stats.drops), Some(3));
        torture(&bytes, parse);
    }

    #[test]
    fn heads_of_lists_are_no_filters() {
        let table = attribute(TCA_U32_DIVISOR, &1u32.to_ne_bytes());
        assert_eq!(parse(&message(b"u32\0", Some(&table))), None);
        assert_eq!(parse(&message(b"matchall\0", None)), None);
        assert!(parse(&message(b"matchall\0", Some(&[]))).is_some_and(|f| f.actions.is_empty()));
    }
}
