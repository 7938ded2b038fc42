//! Queueing disciplines: RTM_GETQDISC.

use super::{qdisc_options, tc_stats};
use crate::error::Result;
use crate::sys::attributes::Attributes;
use crate::sys::netlink::Netlink;
use netlink_bindings::tc;
use netlink_bindings::utils::parse_u32;
use whydrop_model::snapshot::{Link, Qdisc};
use whydrop_model::text;

/// Length of struct tcmsg.
pub const HEADER: usize = 20;

/// The fixed part of every tc message: struct tcmsg.
#[derive(Clone, Copy, Debug)]
pub struct TcHeader {
    /// Interface index.
    pub link: u32,
    /// Handle.
    pub handle: u32,
    /// Parent.
    pub parent: u32,
    /// Depends on the message: of a filter preference and protocol.
    pub info: u32,
}

impl TcHeader {
    /// Reads it off the start of a message.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let word = |offset: usize| parse_u32(message.get(offset..)?);
        Some(Self { link: word(4)?, handle: word(8)?, parent: word(12)?, info: word(16)? })
    }
}

/// All qdiscs as `tc qdisc show` lists them: also `noqueue`, but not the default queues inside classes (their drops
/// count in their parents). Needs no privilege.
pub fn read(route: &mut Netlink, links: &[Link]) -> Result<Vec<Qdisc>> {
    let request = tc::Request::new().op_getqdisc_dump(&tc::Tcmsg::default());
    route.dump(text!("the qdiscs", "队列规则"), &request, |message| {
        let link = TcHeader::parse(message)?.link;
        parse(message, links.iter().find(|l| l.index == link).and_then(|l| l.txqlen))
    })
}

/// `txqlen`: transmit queue length of the interface, which is the limit of a pfifo_fast.
pub(crate) fn parse(message: &[u8], txqlen: Option<u32>) -> Option<Qdisc> {
    let TcHeader { link, handle, parent, .. } = TcHeader::parse(message)?;
    let attributes = Attributes::after(message, HEADER)?;
    let kind = attributes.text(libc::TCA_KIND)?;
    let stats = attributes.nested(libc::TCA_STATS2)?;
    let app = stats.bytes(tc_stats::TCA_STATS_APP);
    Some(Qdisc {
        link,
        handle,
        parent,
        stats: tc_stats::parse(stats)?,
        options: qdisc_options::parse(&kind, attributes.bytes(libc::TCA_OPTIONS), app, txqlen),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};
    use whydrop_model::snapshot::QdiscOptions;

    #[test]
    fn a_pfifo_at_the_root() {
        let mut message = vec![0; 4];
        for word in [2u32, 0x8001_0000, 0xffff_ffff, 2] {
            message.extend(word.to_ne_bytes());
        }
        message.extend(attribute(libc::TCA_KIND, b"pfifo\0"));
        message.extend(attribute(libc::TCA_OPTIONS, &10u32.to_ne_bytes()));
        message.extend(attribute(libc::TCA_STATS2, &tc_stats::tests::sample()));
        let qdisc = parse(&message, Some(1000)).unwrap();
        assert_eq!((qdisc.link, qdisc.handle, qdisc.parent), (2, 0x8001_0000, 0xffff_ffff));
        assert_eq!((qdisc.kind.as_str(), qdisc.stats.drops), ("pfifo", 3));
        assert_eq!(qdisc.options, QdiscOptions::Fifo { limit: 10 });
        torture(&message, |b| parse(b, None));
    }
}
