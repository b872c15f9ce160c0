//! H.264 (RFC 6184, packetization modes 0 and 1) and H.265 (RFC 7798, without DONL).
//!
//! The two differ in the NAL unit's header, one byte or two, and in numbers; the ways of packing are the same.

mod depacketise;
mod packetise;

pub(super) use depacketise::NalAssembler;
pub(super) use packetise::packetise;

use crate::media::{Codec, VideoConfig, codec::sei::NalFormat};

/// May later pictures refer to this one? A guess to the safe side: true wherever it can't be told.
pub fn is_reference(config: &VideoConfig, data: &[u8]) -> bool {
    let Some(format) = NalFormat::of(config) else { return true };
    let nal = Nal::of(config.codec);
    let mut pictures = format.nal_units(data).filter(|unit| matches!(nal.role(unit), Role::Picture { .. }));
    !pictures.next().is_some_and(|unit| nal.is_disposable(unit))
}

/// The numbers of a codec.
#[derive(Clone, Copy)]
struct Nal {
    is_hevc: bool,
}

/// What a NAL unit is for.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Picture {
        key: bool,
    },
    /// Extra data that stays in the frame.
    Sei,
    ParameterSet,
    /// Access unit delimiters, filler, and what we don't know.
    Other,
}

impl Nal {
    fn of(codec: Codec) -> Self {
        Self { is_hevc: codec == Codec::Hevc }
    }

    fn header_bytes(self) -> usize {
        if self.is_hevc { 2 } else { 1 }
    }

    /// The type in a unit's, or a payload's, header.
    fn kind(self, unit: &[u8]) -> Option<u8> {
        let kind = *unit.first()?;
        Some(if self.is_hevc { kind >> 1 & 0x3f } else { kind & 0x1f })
    }

    /// The header's first byte with another type.
    fn with_kind(self, header: u8, kind: u8) -> u8 {
        if self.is_hevc { header & 0x81 | kind << 1 } else { header & 0xe0 | kind }
    }

    /// STAP-A (RFC 6184 §5.7.1), AP (RFC 7798 §4.4.2).
    fn aggregation(self) -> u8 {
        if self.is_hevc { 48 } else { 24 }
    }

    /// FU-A (RFC 6184 §5.8), FU (RFC 7798 §4.4.3).
    fn fragment(self) -> u8 {
        if self.is_hevc { 49 } else { 28 }
    }

    fn role(self, unit: &[u8]) -> Role {
        let Some(kind) = self.kind(unit) else { return Role::Other };
        if self.is_hevc {
            match kind {
                // IRAP pictures (23008-2 §7.4.2.2): BLA, IDR and CRA.
                16..=21 => Role::Picture { key: true },
                0..=9 => Role::Picture { key: false },
                32..=34 => Role::ParameterSet,
                39 | 40 => Role::Sei,
                _ => Role::Other,
            }
        } else {
            match kind {
                5 => Role::Picture { key: true },
                1..=4 => Role::Picture { key: false },
                7 | 8 => Role::ParameterSet,
                6 => Role::Sei,
                _ => Role::Other,
            }
        }
    }

    /// Is this slice of a picture that others don't refer to? By `nal_ref_idc`, or the sub-layer non-reference types.
    fn is_disposable(self, unit: &[u8]) -> bool {
        let header = unit.first().copied().unwrap_or_default();
        if self.is_hevc { self.kind(unit).is_some_and(|kind| kind < 16 && kind % 2 == 0) } else { header & 0x60 == 0 }
    }

    /// Can an access unit with a keyframe begin with this unit?
    fn begins_keyframe(self, kind: u8, body: &[u8]) -> bool {
        // A first slice says so in its first bit: `first_slice_segment_in_pic_flag`, and `first_mb_in_slice` = 0.
        let is_first_slice = body.first().is_some_and(|byte| byte & 0x80 != 0);
        match (self.is_hevc, kind) {
            (true, 16..=21) | (false, 5) => is_first_slice,
            (true, 32..=35 | 39) | (false, 6..=9) => true,
            _ => false,
        }
    }
}

/// In the byte before a fragment (RFC 6184 §5.8, RFC 7798 §4.4.3): the unit begins with it …
const FRAGMENT_FIRST: u8 = 0x80;
/// … or ends.
const FRAGMENT_LAST: u8 = 0x40;
