//! Classes of classful qdiscs: RTM_GETTCLASS, once for each interface that has such a qdisc.

use super::qdisc::{HEADER, TcHeader};
use super::{qdisc_options, tc_stats};
use crate::error::Result;
use crate::sys::attributes::Attributes;
use crate::sys::netlink::Netlink;
use std::collections::BTreeSet;
use whydrop_model::snapshot::{Class, Qdisc};
use whydrop_model::text;

/// Qdiscs whose classes people configure. Others show classes too (`fq_codel` one for each flow, `tbf` its inner
/// queue), which say nothing that the qdisc does not.
const CLASSFUL: [&str; 10] = ["htb", "hfsc", "cbq", "drr", "qfq", "ets", "prio", "multiq", "mq", "mqprio"];

const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;

/// True if classes of this kind of qdisc are read.
pub fn is_classful(kind: &str) -> bool {
    CLASSFUL.contains(&kind)
}

/// Classes of all classful ones of `qdiscs`. Needs no privilege.
pub fn read(route: &mut Netlink, qdiscs: &[Qdisc]) -> Result<Vec<Class>> {
    let links: BTreeSet<u32> = qdiscs.iter().filter(|q| is_classful(&q.kind)).map(|q| q.link).collect();
    let mut classes = Vec::new();
    for link in links {
        // struct tcmsg with nothing but the interface.
        let mut request = vec![0; HEADER];
        if let Some(index) = request.get_mut(4..8) {
            index.copy_from_slice(&link.to_ne_bytes());
        }
        classes.extend(route.dump_raw(text!("the classes", "分类"), libc::RTM_GETTCLASS, &request, parse)?);
    }
    classes.retain(|class| is_classful(&class.kind));
    Ok(classes)
}

fn parse(message: &[u8]) -> Option<Class> {
    let TcHeader { link, handle, parent, .. } = TcHeader::parse(message)?;
    let attributes = Attributes::after(message, HEADER)?;
    let kind = attributes.text(libc::TCA_KIND)?;
    let options = attributes.nested(libc::TCA_OPTIONS).filter(|_| kind == "htb");
    // struct tc_htb_opt: rate and ceiling, 12 bytes each.
    let speed = |wide: u16, offset: usize| {
        let options = options?;
        options.u64(wide).or_else(|| qdisc_options::rate(options.bytes(TCA_HTB_PARMS)?.get(offset..)?))
    };
    Some(Class {
        link,
        handle,
        parent,
        rate: speed(TCA_HTB_RATE64, 0),
        ceil: speed(TCA_HTB_CEIL64, 12),
        stats: tc_stats::parse(attributes.nested(libc::TCA_STATS2)?)?,
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    #[test]
    fn an_htb_class_with_a_wide_ceiling() {
        let mut message = vec![0; 4];
        for word in [2u32, 0x0001_0010, 0x0001_0000, 0] {
            message.extend(word.to_ne_bytes());
        }
        let mut parms = vec![0; 8];
        parms.extend(125_000u32.to_ne_bytes());
        parms.extend([0; 8]);
        parms.extend(u32::MAX.to_ne_bytes());
        let mut options = attribute(TCA_HTB_PARMS, &parms);
        options.extend(attribute(TCA_HTB_CEIL64, &12_500_000_000u64.to_ne_bytes()));
        message.extend(attribute(libc::TCA_KIND, b"htb\0"));
        message.extend(attribute(libc::TCA_OPTIONS, &options));
        message.extend(attribute(libc::TCA_STATS2, &tc_stats::tests::sample()));
        let class = parse(&message).unwrap();
        assert_eq!((class.handle, class.parent), (0x0001_0010, 0x0001_0000));
        assert_eq!((class.rate, class.ceil), (Some(125_000), Some(12_500_000_000)));
        assert_eq!(class.stats.drops, 3);
        torture(&message, parse);
    }
}
