//! Dropped packets as a capture file that Wireshark reads: pcapng (draft-ietf-opsawg-pcapng) with the reason as the
//! comment of each packet. The link type is LINUX_SLL2, which carries packets from their network header on.

use super::Line;
use anyhow::Result;
use std::collections::HashMap;
use std::io::Write;
use whydrop_model::Direction;
use whydrop_model::shell::sanitize;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const LINKTYPE_LINUX_SLL2: u16 = 276;
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_IF_NAME: u16 = 2;
const OPTION_IF_TSRESOL: u16 = 9;
/// Bytes of the LINUX_SLL2 header.
const SLL2: u32 = 20;

/// Writes a capture file.
pub struct Writer<W> {
    out: W,
    /// Interfaces described so far, by `target/interface`.
    interfaces: HashMap<String, u32>,
}

impl<W: Write> Writer<W> {
    /// Begins the file.
    pub fn new(mut out: W) -> Result<Self> {
        let mut body = vec![];
        body.extend(0x1a2b_3c4d_u32.to_ne_bytes());
        body.extend(1u16.to_ne_bytes());
        body.extend(0u16.to_ne_bytes());
        // Length of the section: not known in advance.
        body.extend(u64::MAX.to_ne_bytes());
        block(&mut out, SECTION_HEADER, &body)?;
        Ok(Self { out, interfaces: HashMap::new() })
    }

    /// Adds one packet. One of which no byte was kept is left out.
    pub fn write(&mut self, line: &Line<'_>) -> Result<()> {
        let event = line.event;
        if event.packet.is_empty() {
            return Ok(());
        }
        let target = line.target.map_or("?", |target| target.id.as_str());
        let name = format!("{target}/{}", event.interface.as_deref().unwrap_or("-"));
        let interface = self.interface(name)?;
        let captured = u32::try_from(event.packet.len())?;
        let mut body = vec![];
        body.extend(interface.to_ne_bytes());
        body.extend(((event.realtime_ns >> 32) as u32).to_ne_bytes());
        body.extend((event.realtime_ns as u32).to_ne_bytes());
        body.extend((captured + SLL2).to_ne_bytes());
        body.extend((event.length.max(captured) + SLL2).to_ne_bytes());
        body.extend(event.ethertype.unwrap_or(0).to_be_bytes());
        body.extend([0; 2]);
        body.extend(event.link.unwrap_or(0).to_be_bytes());
        // ARPHRD_ETHER, to us or from us, no address.
        body.extend(1u16.to_be_bytes());
        body.extend([if event.direction == Some(Direction::Transmit) { 4 } else { 0 }, 0]);
        body.extend([0; 8]);
        body.extend(&event.packet);
        pad(&mut body);
        let cause = line.place.cause.map(|cause| format!(", {cause}")).unwrap_or_default();
        let comment = format!("{} at {} ({}{cause})", event.reason, event.function, line.place.stage);
        option(&mut body, OPTION_COMMENT, sanitize(&comment, 200).as_bytes());
        option(&mut body, OPTION_END, &[]);
        block(&mut self.out, ENHANCED_PACKET, &body)
    }

    /// Number of an interface; describes it first if it is new.
    fn interface(&mut self, name: String) -> Result<u32> {
        if let Some(&number) = self.interfaces.get(&name) {
            return Ok(number);
        }
        let mut body = vec![];
        body.extend(LINKTYPE_LINUX_SLL2.to_ne_bytes());
        body.extend([0; 2]);
        // No limit on captured bytes.
        body.extend(0u32.to_ne_bytes());
        option(&mut body, OPTION_IF_NAME, sanitize(&name, 200).as_bytes());
        // Nanoseconds.
        option(&mut body, OPTION_IF_TSRESOL, &[9]);
        option(&mut body, OPTION_END, &[]);
        block(&mut self.out, INTERFACE_DESCRIPTION, &body)?;
        let number = u32::try_from(self.interfaces.len())?;
        self.interfaces.insert(name, number);
        Ok(number)
    }

    /// Gives what is written to the file.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> Result<()> {
    let length = u32::try_from(body.len() + 12)?;
    out.write_all(&kind.to_ne_bytes())?;
    out.write_all(&length.to_ne_bytes())?;
    out.write_all(body)?;
    Ok(out.write_all(&length.to_ne_bytes())?)
}

/// Values are short: names and comments are cut before.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_ne_bytes());
    body.extend((value.len() as u16).to_ne_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use whydrop_facts::place;
    use whydrop_model::DropEvent;

    #[test]
    fn blocks_are_whole_and_an_interface_is_described_once() {
        let event = DropEvent { packet: vec![0x45; 41], ethertype: Some(0x0800), ..DropEvent::default() };
        let line = Line { event: &event, place: place::of_event(&event), target: None };
        let mut writer = Writer::new(vec![]).expect("memory");
        writer.write(&line).expect("memory");
        writer.write(&line).expect("memory");
        let mut bytes = writer.out.as_slice();
        let mut kinds = vec![];
        while let Some((head, _)) = bytes.split_first_chunk::<8>() {
            let kind = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
            let length = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(&bytes[length - 4..length], &head[4..8]);
            kinds.push(kind);
            bytes = &bytes[length..];
        }
        assert_eq!(kinds, [SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET, ENHANCED_PACKET]);
    }
}
