//! AV1 (RTP Payload Format For AV1, version 1.0): OBUs without sizes, in packets that begin with an aggregation header.

use super::{
    depacketise::{Assembler, FrameBytes, Picture},
    packetise::{PacketWriter, spread},
};
use crate::{
    limits,
    media::{
        VideoConfig,
        codec::record::{self, put_leb128, read_leb128},
    },
    proto::rtp::Malformed,
};

/// Puts temporal units together.
#[derive(Default)]
pub(super) struct ObuAssembler {
    frame: FrameBytes,
    /// The OBU that is coming, as it came.
    obu: FrameBytes,
    /// It goes on in the next packet.
    continues: bool,
    obus: usize,
    config: Option<VideoConfig>,
    /// Of the first frame header: is it one of a keyframe that is shown?
    keyframe: Option<bool>,
}

impl Assembler for ObuAssembler {
    fn begins_keyframe(&self, payload: &[u8]) -> bool {
        let mut elements = Elements::of(payload);
        let Some(Some(first)) = elements.next() else { return false };
        // N promises it (§4.4); some senders forget to.
        let is_new_sequence = elements.header & NEW_SEQUENCE != 0;
        let kind = Obu::parse(first).map(|obu| obu.kind());
        elements.header & CONTINUED == 0
            && (is_new_sequence || matches!(kind, Some(OBU_SEQUENCE_HEADER | OBU_TEMPORAL_DELIMITER)))
    }

    fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let mut elements = Elements::of(payload);
        if (elements.header & CONTINUED != 0) != self.continues {
            return Err(Malformed("AV1 packet: a part of an OBU is out of place"));
        }
        let mut pending = elements.next();
        while let Some(element) = pending {
            self.obu.extend(element.ok_or(Malformed("AV1 aggregation"))?)?;
            pending = elements.next();
            self.continues = pending.is_none() && elements.header & CONTINUES != 0;
            if !self.continues {
                self.end_obu()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<Picture>, Malformed> {
        if self.continues {
            return Err(Malformed("AV1 frame: an OBU never ended"));
        }
        let Some(is_key) = self.keyframe.take() else {
            self.reset();
            return Ok(None);
        };
        let config = self.config.take();
        let keyframe = is_key && config.is_some();
        self.obus = 0;
        Ok(Some(Picture { keyframe, config, data: self.frame.take() }))
    }

    fn reset(&mut self) {
        self.frame.as_mut().clear();
        self.obu.as_mut().clear();
        *self = Self { frame: std::mem::take(&mut self.frame), obu: std::mem::take(&mut self.obu), ..Self::default() };
    }
}

impl ObuAssembler {
    /// Moves the OBU to the frame, with a size.
    fn end_obu(&mut self) -> Result<(), Malformed> {
        self.obus += 1;
        if self.obus > limits::RTP_FRAME_UNITS_MAX {
            return Err(Malformed("frame: too many OBUs"));
        }
        let obu = Obu::parse(&self.obu).ok_or(Malformed("OBU"))?;
        match obu.kind() {
            OBU_SEQUENCE_HEADER => self.config = record::av1(obu.payload),
            OBU_FRAME_HEADER | OBU_FRAME => {
                // show_existing_frame 0, frame_type KEY_FRAME, show_frame 1 (AV1 §5.9.2).
                let is_key = obu.payload.first().is_some_and(|byte| byte & 0xf0 == 0x10);
                self.keyframe.get_or_insert(is_key);
            }
            _ => {}
        }
        if obu.is_carried() {
            let mut head = obu.head.to_vec();
            head.iter_mut().take(1).for_each(|flags| *flags |= OBU_HAS_SIZE);
            put_leb128(&mut head, obu.payload.len());
            self.frame.extend(&head)?;
            self.frame.extend(obu.payload)?;
        }
        self.obu.as_mut().clear();
        Ok(())
    }
}

/// The OBU elements of a payload (§4.3); the last is `None` if it's cut short.
struct Elements<'a> {
    header: u8,
    rest: &'a [u8],
    count: u8,
}

impl<'a> Elements<'a> {
    fn of(payload: &'a [u8]) -> Self {
        let (header, rest) = payload.split_first().unwrap_or((&0, &[]));
        Self { header: *header, rest, count: 0 }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        // W says how many there are, and that the last has no length; 0 says nothing.
        self.count = self.count.saturating_add(1);
        if self.count == self.header >> 4 & 3 {
            return Some(Some(std::mem::take(&mut self.rest)));
        }
        let mut rest = std::mem::take(&mut self.rest);
        let split = read_leb128(&mut rest).and_then(|length| rest.split_at_checked(length));
        let Some((element, after)) = split else { return Some(None) };
        self.rest = after;
        Some(Some(element))
    }
}

/// An OBU (AV1 §5.3).
struct Obu<'a> {
    /// The header and its extension.
    head: &'a [u8],
    flags: u8,
    payload: &'a [u8],
}

impl<'a> Obu<'a> {
    /// Reads one off the front; without a size it takes all.
    fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        let flags = *bytes.first()?;
        let (head, mut rest) = bytes.split_at_checked(if flags & OBU_HAS_EXTENSION != 0 { 2 } else { 1 })?;
        let length = if flags & OBU_HAS_SIZE != 0 { read_leb128(&mut rest)? } else { rest.len() };
        let (payload, after) = rest.split_at_checked(length)?;
        *bytes = after;
        Some(Self { head, flags, payload })
    }

    fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        Self::read(&mut bytes)
    }

    fn kind(&self) -> u8 {
        self.flags >> 3 & 0x0f
    }

    /// Delimiters and tile lists are not (§5), and padding need not be.
    fn is_carried(&self) -> bool {
        !matches!(self.kind(), OBU_TEMPORAL_DELIMITER | OBU_TILE_LIST | OBU_PADDING)
    }
}

pub(super) fn packetise(config: &VideoConfig, keyframe: bool, data: &[u8], room: usize, out: &mut PacketWriter) {
    let mut elements = ObuElements::default();
    let brings_sequence = read_obus(data).any(|obu| obu.kind() == OBU_SEQUENCE_HEADER);
    if keyframe && !brings_sequence {
        // Behind av1C's own four bytes (AV1 in ISOBMFF §2.3.3).
        let record = config.description.get(4..).unwrap_or_default();
        read_obus(record).filter(|obu| obu.kind() == OBU_SEQUENCE_HEADER).for_each(|obu| elements.add(&obu));
    }
    read_obus(data).filter(Obu::is_carried).for_each(|obu| elements.add(&obu));
    elements.put_packets(keyframe, room, out);
}

fn read_obus(mut data: &[u8]) -> impl Iterator<Item = Obu<'_>> {
    std::iter::from_fn(move || Obu::read(&mut data)).take(limits::RTP_FRAME_UNITS_MAX)
}

/// OBUs without sizes, one behind the other.
#[derive(Default)]
struct ObuElements {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl ObuElements {
    fn add(&mut self, obu: &Obu<'_>) {
        self.bytes.push(obu.flags & !OBU_HAS_SIZE);
        self.bytes.extend(obu.head.iter().skip(1));
        self.bytes.extend_from_slice(obu.payload);
        self.ends.push(self.bytes.len());
    }

    fn put_packets(&self, keyframe: bool, room: usize, out: &mut PacketWriter) {
        let room = spread(self.bytes.len() + 2 * self.ends.len(), room.saturating_sub(1));
        let mut new_sequence = if keyframe { NEW_SEQUENCE } else { 0 };
        let mut ends = self.ends.iter().copied().peekable();
        let (mut start, mut continued) = (0, 0);
        while ends.peek().is_some() {
            let mut packet = vec![0];
            let mut last: &[u8] = &[];
            let (mut count, mut continues) = (0, 0);
            // All but the last have a length before them; with more than three the last must have one too.
            while let Some(&end) = ends.peek()
                && count < ELEMENTS_MAX
                && continues == 0
            {
                let mut sized = Vec::new();
                if count > 0 {
                    put_leb128(&mut sized, last.len());
                }
                let free = (room + 1).saturating_sub(packet.len() + sized.len() + last.len());
                if free == 0 {
                    break;
                }
                packet.append(&mut sized);
                packet.extend_from_slice(last);
                let cut = end.min(start + free);
                last = self.bytes.get(start..cut).unwrap_or_default();
                start = cut;
                count += 1;
                if cut == end {
                    ends.next();
                } else {
                    continues = CONTINUES;
                }
            }
            packet.extend_from_slice(last);
            packet.iter_mut().take(1).for_each(|header| *header = continued | continues | count << 4 | new_sequence);
            out.packet([packet.as_slice()]);
            continued = if continues == 0 { 0 } else { CONTINUED };
            new_sequence = 0;
        }
    }
}

/// W has two bits.
const ELEMENTS_MAX: u8 = 3;
/// Z, Y and N of the aggregation header (§4.4).
const CONTINUED: u8 = 0x80;
const CONTINUES: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;
const OBU_HAS_EXTENSION: u8 = 0x04;
const OBU_HAS_SIZE: u8 = 0x02;
const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_FRAME_HEADER: u8 = 3;
const OBU_FRAME: u8 = 6;
const OBU_TILE_LIST: u8 = 8;
const OBU_PADDING: u8 = 15;
