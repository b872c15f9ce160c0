//! Packets out of frames, once for all viewers of a stream.
//!
//! A frame's packets are of equal size, but for the last, so that the kernel can cut them out of one send.

use std::sync::Arc;

use bytes::Bytes;

use super::{av1, nal, vp8, vp9};
use crate::media::{Codec, VideoConfig};

/// The payloads of one frame's packets. The marker (RFC 3550 §5.1) belongs to the last one of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packets {
    bytes: Bytes,
    /// Where each payload ends.
    ends: Arc<[u32]>,
}

impl Packets {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Nothing is to be sent, because the frame could not be read.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The payloads, in the order of sending.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map_while(move |end| {
            let end = usize::try_from(*end).ok()?;
            let payload = self.bytes.get(start..end);
            start = end;
            payload
        })
    }

    /// The payloads one behind the other.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Packets out of the frames of one track.
#[derive(Debug)]
pub struct Packetiser {
    codec: Codec,
    payload_bytes_max: usize,
    /// Of the next picture of VP8 and VP9, 15 bits.
    picture_id: u16,
}

impl Packetiser {
    /// For a video track of this codec, in payloads of at most so many bytes.
    pub fn new(codec: Codec, payload_bytes_max: usize) -> Self {
        Self { codec, payload_bytes_max: payload_bytes_max.max(PAYLOAD_BYTES_MIN), picture_id: 0 }
    }

    /// The packets of a picture. What of the configuration a decoder needs goes before keyframes.
    pub fn packetise(&mut self, config: &VideoConfig, keyframe: bool, data: &[u8]) -> Packets {
        let mut writer = PacketWriter::new(data.len());
        let room = self.payload_bytes_max;
        match self.codec {
            Codec::Avc | Codec::Hevc => nal::packetise(config, keyframe, data, room, &mut writer),
            Codec::Av1 => av1::packetise(config, keyframe, data, room, &mut writer),
            Codec::Vp8 => vp8::packetise(self.picture_id, data, room, &mut writer),
            Codec::Vp9 => vp9::packetise(self.picture_id, data, room, &mut writer),
            Codec::Aac | Codec::Opus => return Self::audio(Bytes::copy_from_slice(data)),
        }
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        writer.finish()
    }

    /// The packet of a frame of sound (RFC 7587 §4.2).
    pub fn audio(data: Bytes) -> Packets {
        let end = u32::try_from(data.len()).unwrap_or(0);
        Packets { bytes: data, ends: [end].into() }
    }
}

/// Room for every format's own head and some payload.
const PAYLOAD_BYTES_MIN: usize = 64;

/// Payloads while they are written.
pub(super) struct PacketWriter {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl PacketWriter {
    fn new(frame_bytes: usize) -> Self {
        // Descriptors and parameter sets come on top.
        Self { bytes: Vec::with_capacity(frame_bytes + frame_bytes / 64 + 256), ends: Vec::new() }
    }

    /// The next payload, of these parts.
    pub(super) fn packet<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>) {
        parts.into_iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    fn finish(self) -> Packets {
        Packets { bytes: self.bytes.into(), ends: self.ends.into() }
    }
}

/// How much goes into each packet so that the fewest are sent, all alike but the last.
pub(super) fn spread(bytes: usize, room: usize) -> usize {
    let packets = bytes.div_ceil(room.max(1)).max(1);
    bytes.div_ceil(packets).max(1)
}
