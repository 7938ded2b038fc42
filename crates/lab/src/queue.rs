//! A program behind an NFQUEUE rule that is slower than the packets come.
//!
//! The few messages of nfnetlink_queue (include/uapi/linux/netfilter/nfnetlink_queue.h) that a reader needs: bind, copy
//! mode, length of the queue, and a verdict for each packet.

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read};
use std::time::Duration;

/// AF_NETLINK and NETLINK_NETFILTER (include/uapi/linux/netlink.h).
const AF_NETLINK: i32 = 16;
const NETLINK_NETFILTER: i32 = 12;
/// NFNL_SUBSYS_QUEUE with NFQNL_MSG_PACKET, NFQNL_MSG_VERDICT, NFQNL_MSG_CONFIG.
const PACKET: u16 = 0x300;
const VERDICT: u16 = 0x301;
const CONFIG: u16 = 0x302;
/// NLM_F_REQUEST.
const REQUEST: u16 = 1;
/// Header of netlink and of nfnetlink.
const HEADERS: usize = 20;
/// NFQA_CFG_CMD with NFQNL_CFG_CMD_BIND, NFQA_CFG_PARAMS with NFQNL_COPY_META, NFQA_CFG_QUEUE_MAXLEN.
const COMMAND: u16 = 1;
const BIND: u8 = 1;
const PARAMETERS: u16 = 2;
const COPY_META: u8 = 1;
const MOST_WAITING: u16 = 3;
/// NFQA_PACKET_HDR and NFQA_VERDICT_HDR.
const PACKET_HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
/// NF_ACCEPT.
const ACCEPT: u32 = 1;

/// An open queue.
#[derive(Debug)]
pub struct Queue {
    socket: Socket,
    number: u16,
}

impl Queue {
    /// Opens the queue in the namespace of the calling thread; so many packets may wait in it.
    pub fn open(number: u16, waiting: u32, tick: Duration) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_NETFILTER)))?;
        socket.set_read_timeout(Some(tick))?;
        let queue = Self { socket, number };
        queue.send(CONFIG, COMMAND, &[BIND, 0, 0, 0])?;
        queue.send(CONFIG, PARAMETERS, &[0, 0, 0, 0, COPY_META])?;
        queue.send(CONFIG, MOST_WAITING, &waiting.to_be_bytes())?;
        Ok(queue)
    }

    /// Takes one packet and accepts it after a pause; returns without one after a tick.
    pub fn serve(&mut self, pause: Duration) {
        let mut buffer = [0; 4096];
        // A queue that overflows or nothing for a tick: the next turn reads on.
        let read = self.socket.read(&mut buffer).unwrap_or(0);
        let Some(id) = buffer.get(..read).and_then(packet_id) else { return };
        std::thread::sleep(pause);
        let verdict = [ACCEPT.to_be_bytes(), id].concat();
        self.send(VERDICT, VERDICT_HEADER, &verdict).ok();
    }

    fn send(&self, kind: u16, attribute: u16, value: &[u8]) -> io::Result<()> {
        let length = 4 + value.len();
        let padded = length.next_multiple_of(4);
        let mut message = vec![];
        message.extend(u32::try_from(HEADERS + padded).unwrap_or(u32::MAX).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(REQUEST.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([0, 0]);
        message.extend(self.number.to_be_bytes());
        message.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(value);
        message.resize(HEADERS + padded, 0);
        self.socket.send(&message).map(drop)
    }
}

/// The id by which the kernel knows the packet of a message.
fn packet_id(message: &[u8]) -> Option<[u8; 4]> {
    let kind = message.get(4..6)?;
    if kind != PACKET.to_ne_bytes() {
        return None;
    }
    let mut rest = message.get(HEADERS..)?;
    loop {
        let (length, kind) = (rest.first_chunk::<2>()?, rest.get(2..4)?);
        let length = usize::from(u16::from_ne_bytes(*length));
        if kind == PACKET_HEADER.to_ne_bytes() {
            return rest.get(4..8)?.first_chunk().copied();
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}
