//! Frames out of packets: what all codecs have in common.
//!
//! A frame is given whole or not at all; of video, nothing is given between a loss and the next keyframe.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{av1, nal, vp8, vp9};
use crate::{
    limits,
    media::{Codec, TrackKind, VideoConfig},
    proto::rtp::Malformed,
};

/// Frames out of the packets of one track.
pub struct Depacketiser {
    codec: Codec,
    /// None for sound, where each packet is a frame.
    assembler: Option<Box<dyn Assembler + Send>>,
    /// Of the frame that has begun.
    timestamp: Option<u32>,
    /// Of a frame whose remaining packets are useless.
    skipped: Option<u32>,
    /// Packets before the next one are missing: it may be in the middle of a frame.
    gap: bool,
    wants_keyframe: bool,
    config: Option<VideoConfig>,
    config_is_new: bool,
    ready: VecDeque<Unit>,
}

/// A whole frame, in the hub's form ([`Codec`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Of its packets.
    pub timestamp: u32,
    /// Decoding may start here.
    pub keyframe: bool,
    /// The configuration from here on, if it is new or another one.
    pub config: Option<VideoConfig>,
    /// The frame.
    pub data: Bytes,
}

impl Depacketiser {
    /// For a track of this codec. Packets of sound, AAC's too, are frames as they are.
    pub fn new(codec: Codec) -> Self {
        let assembler: Option<Box<dyn Assembler + Send>> = match codec {
            Codec::Avc | Codec::Hevc => Some(Box::new(nal::NalAssembler::new(codec))),
            Codec::Av1 => Some(Box::<av1::ObuAssembler>::default()),
            Codec::Vp8 => Some(Box::<vp8::Vp8Assembler>::default()),
            Codec::Vp9 => Some(Box::<vp9::Vp9Assembler>::default()),
            Codec::Aac | Codec::Opus => None,
        };
        Self {
            codec,
            assembler,
            timestamp: None,
            skipped: None,
            gap: true,
            wants_keyframe: codec.kind() == TrackKind::Video,
            config: None,
            config_is_new: false,
            ready: VecDeque::new(),
        }
    }

    /// With H.264 or H.265 parameter sets that SDP brought (`sprop-parameter-sets` and the like), as NAL units.
    pub fn with_parameter_sets<'a>(mut self, units: impl IntoIterator<Item = &'a [u8]>) -> Self {
        for unit in units {
            if let Some(assembler) = &mut self.assembler {
                assembler.add_parameter_set(unit);
            }
        }
        self
    }

    /// Takes the payload of the next packet; frames that it completed are then given by [`Self::poll_unit`].
    ///
    /// # Errors
    ///
    /// The frame was malformed, and is dropped like after a loss.
    pub fn handle_packet(&mut self, timestamp: u32, marker: bool, payload: &[u8]) -> Result<(), Malformed> {
        // Padding, sent to probe the path.
        if payload.is_empty() {
            return Ok(());
        }
        if self.assembler.is_none() {
            let data = Bytes::copy_from_slice(payload);
            self.ready.push_back(Unit { timestamp, keyframe: true, config: None, data });
            return Ok(());
        }
        let before = match self.timestamp {
            Some(begun) if begun != timestamp => self.finish(begun),
            _ => Ok(()),
        };
        before.and(self.take(timestamp, marker, payload))
    }

    /// The next whole frame; at most two wait after a packet.
    pub fn poll_unit(&mut self) -> Option<Unit> {
        self.ready.pop_front()
    }

    /// Packets are missing before the next one.
    pub fn handle_loss(&mut self) {
        if self.assembler.is_some() {
            self.drop_frame(self.timestamp);
            self.gap = true;
        }
    }

    /// Nothing is given until a keyframe comes. Always false for sound.
    pub fn wants_keyframe(&self) -> bool {
        self.wants_keyframe
    }

    /// The codec of the track.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    fn take(&mut self, timestamp: u32, marker: bool, payload: &[u8]) -> Result<(), Malformed> {
        let Some(assembler) = &mut self.assembler else { return Ok(()) };
        if self.skipped == Some(timestamp) {
            return Ok(());
        }
        if self.gap && !assembler.begins_keyframe(payload) {
            self.skipped = Some(timestamp);
            return Ok(());
        }
        self.gap = false;
        self.skipped = None;
        self.timestamp = Some(timestamp);
        if let Err(malformed) = assembler.push(payload) {
            self.drop_frame(Some(timestamp));
            return Err(malformed);
        }
        if marker { self.finish(timestamp) } else { Ok(()) }
    }

    fn finish(&mut self, timestamp: u32) -> Result<(), Malformed> {
        let Some(assembler) = &mut self.assembler else { return Ok(()) };
        let picture = match assembler.finish() {
            Ok(picture) => picture,
            Err(malformed) => {
                self.drop_frame(None);
                return Err(malformed);
            }
        };
        self.timestamp = None;
        let Some(Picture { keyframe, config, data }) = picture else { return Ok(()) };
        if config.is_some() && config != self.config {
            self.config = config;
            self.config_is_new = true;
        }
        let decodable = self.config.is_some() && (keyframe || !self.wants_keyframe);
        if !decodable {
            self.wants_keyframe = true;
            return Ok(());
        }
        self.wants_keyframe = false;
        let config = if std::mem::take(&mut self.config_is_new) { self.config.clone() } else { None };
        self.ready.push_back(Unit { timestamp, keyframe, config, data });
        Ok(())
    }

    /// Forgets the frame that has begun, and what still comes of it.
    fn drop_frame(&mut self, timestamp: Option<u32>) {
        if let Some(assembler) = &mut self.assembler {
            assembler.reset();
        }
        self.timestamp = None;
        self.skipped = timestamp.or(self.skipped);
        self.wants_keyframe = true;
    }
}

/// Puts one frame after another together from payloads.
pub(super) trait Assembler {
    /// Can this payload be the first of a keyframe? After a gap nothing else is of use.
    fn begins_keyframe(&self, payload: &[u8]) -> bool;

    /// Takes the next payload of the frame.
    fn push(&mut self, payload: &[u8]) -> Result<(), Malformed>;

    /// That was all of the frame. `None` if there is no picture in it.
    fn finish(&mut self) -> Result<Option<Picture>, Malformed>;

    /// Forgets what came of the frame.
    fn reset(&mut self);

    /// Takes a parameter set from elsewhere.
    fn add_parameter_set(&mut self, _unit: &[u8]) {}
}

/// A frame, before it is known whether it is of use.
pub(super) struct Picture {
    pub(super) keyframe: bool,
    /// The configuration, if the frame may have changed it.
    pub(super) config: Option<VideoConfig>,
    pub(super) data: Bytes,
}

/// A frame's bytes while it grows. The memory is used for the next frame again.
#[derive(Default)]
pub(super) struct FrameBytes(Vec<u8>);

impl FrameBytes {
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.0.len().saturating_add(bytes.len()) > limits::RTMP_MESSAGE_BYTES_MAX {
            return Err(Malformed("frame: too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn as_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The frame in memory of its own; then it is empty.
    pub(super) fn take(&mut self) -> Bytes {
        let data = Bytes::copy_from_slice(&self.0);
        self.0.clear();
        data
    }
}

impl std::ops::Deref for FrameBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
