//! VP9 (RFC 9628): a descriptor before each part of a frame. Read in both modes, written in the non-flexible one.

use bytes::Buf;

use super::{
    depacketise::{Assembler, FrameBytes, Picture},
    packetise::{PacketWriter, spread},
};
use crate::{media::codec::record, proto::rtp::Malformed};

/// Puts the pictures together, all spatial layers of a time in one.
#[derive(Default)]
pub(super) struct Vp9Assembler {
    frame: FrameBytes,
    /// Where the layers' frames end.
    ends: Vec<usize>,
    /// A layer's frame has begun.
    begun: bool,
}

impl Assembler for Vp9Assembler {
    fn begins_keyframe(&self, payload: &[u8]) -> bool {
        Descriptor::read(payload)
            .is_some_and(|part| part.begins && !part.is_predicted && record::vp9(part.body).is_some())
    }

    fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let part = Descriptor::read(payload).ok_or(Malformed("VP9 payload descriptor"))?;
        if part.begins == self.begun || self.ends.len() >= LAYERS_MAX {
            return Err(Malformed("VP9 frame: a part is out of place"));
        }
        self.frame.extend(part.body)?;
        self.begun = !part.ends;
        if part.ends {
            self.ends.push(self.frame.len());
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<Picture>, Malformed> {
        if self.begun {
            return Err(Malformed("VP9 frame: its end is missing"));
        }
        let config = record::vp9(&self.frame);
        if self.ends.len() > 1 {
            self.add_index()?;
        }
        self.ends.clear();
        Ok(Some(Picture { keyframe: config.is_some(), config, data: self.frame.take() }))
    }

    fn reset(&mut self) {
        self.frame.as_mut().clear();
        self.ends.clear();
        self.begun = false;
    }
}

impl Vp9Assembler {
    /// Makes several frames one superframe (VP9 bitstream Annex B), with sizes of four bytes.
    fn add_index(&mut self) -> Result<(), Malformed> {
        let marker = 0b1101_1000 | u8::try_from(self.ends.len() - 1).unwrap_or(0);
        let mut index = vec![marker];
        let mut start = 0;
        for end in &self.ends {
            index.extend(u32::try_from(end - start).unwrap_or(0).to_le_bytes());
            start = *end;
        }
        index.push(marker);
        self.frame.extend(&index)
    }
}

/// RFC 9628 §4.2.
struct Descriptor<'a> {
    /// A layer's frame begins here …
    begins: bool,
    /// … and ends here.
    ends: bool,
    /// From earlier pictures.
    is_predicted: bool,
    body: &'a [u8],
}

impl<'a> Descriptor<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        let mut rest = payload;
        let first = rest.try_get_u8().ok()?;
        let is_flexible = first & FLEXIBLE != 0;
        if first & PICTURE_ID != 0 && rest.try_get_u8().ok()? & LONG_PICTURE_ID != 0 {
            rest.try_get_u8().ok()?;
        }
        if first & LAYERS != 0 {
            rest.try_get_u8().ok()?;
            if !is_flexible {
                rest.try_get_u8().ok()?;
            }
        }
        if is_flexible && first & PREDICTED != 0 {
            // At most three references; each says whether another one follows.
            for _ in 0..3 {
                if rest.try_get_u8().ok()? & 1 == 0 {
                    break;
                }
            }
        }
        if first & STRUCTURE != 0 {
            skip_structure(&mut rest)?;
        }
        (!rest.is_empty()).then_some(Self {
            begins: first & BEGIN != 0,
            ends: first & END != 0,
            is_predicted: first & PREDICTED != 0,
            body: rest,
        })
    }
}

/// The scalability structure (RFC 9628 §4.2.1).
fn skip_structure(rest: &mut &[u8]) -> Option<()> {
    let flags = rest.try_get_u8().ok()?;
    if flags & STRUCTURE_SIZES != 0 {
        let layers = usize::from(flags >> 5) + 1;
        *rest = rest.get(layers * 4..)?;
    }
    if flags & STRUCTURE_GROUP != 0 {
        for _ in 0..rest.try_get_u8().ok()? {
            let references = usize::from(rest.try_get_u8().ok()? >> 2 & 3);
            *rest = rest.get(references..)?;
        }
    }
    Some(())
}

pub(super) fn packetise(picture_id: u16, data: &[u8], room: usize, out: &mut PacketWriter) {
    let [id_high, id_low] = picture_id.to_be_bytes();
    let structure = record::vp9(data).map(|config| structure(config.width, config.height));
    let structure = structure.as_ref().map_or(&[][..], |structure| structure);
    let (predicted, described) = if structure.is_empty() { (PREDICTED, 0) } else { (0, STRUCTURE) };
    // The first packet has the structure too, so there is less of the frame in it.
    let part_bytes = spread(data.len() + structure.len(), room.saturating_sub(DESCRIPTOR_BYTES));
    let (head, tail) = data.split_at_checked(part_bytes.saturating_sub(structure.len())).unwrap_or((data, &[]));
    let is_whole = if tail.is_empty() { END } else { 0 };
    let first = PICTURE_ID | predicted | BEGIN | described | is_whole;
    out.packet([&[first, LONG_PICTURE_ID | id_high, id_low], structure, head]);
    let mut parts = tail.chunks(part_bytes).peekable();
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() { END } else { 0 };
        out.packet([&[PICTURE_ID | predicted | end, LONG_PICTURE_ID | id_high, id_low], part]);
    }
}

/// The structure of one layer of this size; a group of pictures is not promised.
fn structure(width: u32, height: u32) -> [u8; 5] {
    let [width, height] = [width, height].map(|size| u16::try_from(size).unwrap_or(u16::MAX).to_be_bytes());
    [STRUCTURE_SIZES, width[0], width[1], height[0], height[1]]
}

/// Frames in a superframe (VP9 bitstream Annex B), and spatial layers.
const LAYERS_MAX: usize = 8;
const DESCRIPTOR_BYTES: usize = 3;
const PICTURE_ID: u8 = 0x80;
const PREDICTED: u8 = 0x40;
const LAYERS: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGIN: u8 = 0x08;
const END: u8 = 0x04;
const STRUCTURE: u8 = 0x02;
const LONG_PICTURE_ID: u8 = 0x80;
const STRUCTURE_SIZES: u8 = 0x10;
const STRUCTURE_GROUP: u8 = 0x08;
