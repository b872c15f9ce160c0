//! VP8 (RFC 7741): a descriptor before each part of a frame.

use bytes::Buf;

use super::{
    depacketise::{Assembler, FrameBytes, Picture},
    packetise::{PacketWriter, spread},
};
use crate::{media::codec::record, proto::rtp::Malformed};

/// Puts frames together.
#[derive(Default)]
pub(super) struct Vp8Assembler {
    frame: FrameBytes,
}

impl Assembler for Vp8Assembler {
    fn begins_keyframe(&self, payload: &[u8]) -> bool {
        read_descriptor(payload).is_some_and(|(begins, body)| begins && is_key(body))
    }

    fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (begins, body) = read_descriptor(payload).ok_or(Malformed("VP8 payload descriptor"))?;
        if begins != self.frame.is_empty() {
            return Err(Malformed("VP8 frame: a part is out of place"));
        }
        self.frame.extend(body)
    }

    fn finish(&mut self) -> Result<Option<Picture>, Malformed> {
        let keyframe = is_key(&self.frame);
        let config = record::vp8(&self.frame);
        if keyframe && config.is_none() {
            return Err(Malformed("VP8 keyframe"));
        }
        Ok(Some(Picture { keyframe, config, data: self.frame.take() }))
    }

    fn reset(&mut self) {
        self.frame.as_mut().clear();
    }
}

/// RFC 6386 §9.1.
fn is_key(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| byte & 1 == 0)
}

/// Does a frame begin with this payload? And what is behind the descriptor (RFC 7741 §4.2).
fn read_descriptor(payload: &[u8]) -> Option<(bool, &[u8])> {
    let mut rest = payload;
    let first = rest.try_get_u8().ok()?;
    if first & EXTENDED != 0 {
        let extensions = rest.try_get_u8().ok()?;
        if extensions & PICTURE_ID != 0 && rest.try_get_u8().ok()? & LONG_PICTURE_ID != 0 {
            rest.try_get_u8().ok()?;
        }
        if extensions & TL0_INDEX != 0 {
            rest.try_get_u8().ok()?;
        }
        if extensions & LAYER_OR_KEY_INDEX != 0 {
            rest.try_get_u8().ok()?;
        }
    }
    let begins = first & PARTITION_START != 0 && first & PARTITION_MASK == 0;
    (!rest.is_empty()).then_some((begins, rest))
}

pub(super) fn packetise(picture_id: u16, data: &[u8], room: usize, out: &mut PacketWriter) {
    let [id_high, id_low] = picture_id.to_be_bytes();
    let mut start = PARTITION_START;
    for part in data.chunks(spread(data.len(), room.saturating_sub(DESCRIPTOR_BYTES))) {
        let descriptor: [u8; DESCRIPTOR_BYTES] = [EXTENDED | start, PICTURE_ID, LONG_PICTURE_ID | id_high, id_low];
        out.packet([&descriptor, part]);
        start = 0;
    }
}

const DESCRIPTOR_BYTES: usize = 4;
const EXTENDED: u8 = 0x80;
const PARTITION_START: u8 = 0x10;

const PARTITION_MASK: u8 = 0x07;
const PICTURE_ID: u8 = 0x80;
const TL0_INDEX: u8 = 0x40;
const LAYER_OR_KEY_INDEX: u8 = 0x30;
const LONG_PICTURE_ID: u8 = 0x80;
