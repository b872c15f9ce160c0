//! Configuration records of AV1, VP8 and VP9, written from what their streams say, for containers that want them apart.
//!
//! Nothing here can panic, whatever the bytes; what can't be read gives `None`.

use bytes::{Buf, BufMut, Bytes};

use super::{bits::BitReader, video};
use crate::media::{Codec, VideoConfig};

/// The configuration that a sequence header OBU's payload stands for (AV1 §5.5).
pub fn av1(sequence_header: &[u8]) -> Option<VideoConfig> {
    let mut bits = BitReader::new(sequence_header);
    let profile = u8::try_from(bits.read(3)?).ok()?;
    bits.skip(1)?;
    let reduced = bits.flag()?;
    let (level, high_tier) = if reduced { (bits.read(5)?, false) } else { video::av1_operating_points(&mut bits)? };
    let size_bits = (bits.read(4)? + 1, bits.read(4)? + 1);
    bits.skip(size_bits.0 + size_bits.1)?;
    skip_av1_tools(&mut bits, reduced)?;
    let format = av1_format(&mut bits, profile)?;
    // av1C (AV1 in ISOBMFF §2.3.3): marker and version, no initial presentation delay, then the OBU with its size.
    let mut record = vec![0x81, profile << 5 | u8::try_from(level).ok()?, u8::from(high_tier) << 7 | format, 0];
    record.put_u8(AV1_SEQUENCE_HEADER << 3 | 0x02);
    put_leb128(&mut record, sequence_header.len());
    record.put_slice(sequence_header);
    Some(VideoConfig::from_description(Codec::Av1, record.into()))
}

/// The configuration that a VP8 keyframe shows (RFC 6386 §9.1); `None` for other frames.
pub fn vp8(frame: &[u8]) -> Option<VideoConfig> {
    let mut rest = frame;
    let is_inter = rest.try_get_uint_le(3).ok()? & 1 == 1;
    if is_inter || rest.try_get_uint(3).ok()? != 0x9d_01_2a {
        return None;
    }
    // Above the 14 bits of a size is a hint for scaling.
    let width = u32::from(rest.try_get_u16_le().ok()? & 0x3fff);
    let height = u32::from(rest.try_get_u16_le().ok()? & 0x3fff);
    Some(VideoConfig { codec: Codec::Vp8, description: Bytes::new(), width, height })
}

/// The configuration that a VP9 keyframe shows (VP9 bitstream §6.2); `None` for other frames.
pub fn vp9(frame: &[u8]) -> Option<VideoConfig> {
    const RGB: u32 = 7;
    let mut bits = BitReader::new(frame);
    let marker = bits.read(2)?;
    let profile = u8::from(bits.flag()?) | u8::from(bits.flag()?) << 1;
    let reserved = profile == 3 && bits.flag()?;
    let shows_existing = bits.flag()?;
    let is_inter = bits.flag()?;
    bits.skip(2)?;
    if marker != 2 || reserved || shows_existing || is_inter || bits.read(24)? != 0x49_83_42 {
        return None;
    }
    let depth = match profile >= 2 && bits.flag()? {
        true => 12,
        false if profile >= 2 => 10,
        false => 8,
    };
    let is_rgb = bits.read(3)? == RGB;
    let full_range = is_rgb || bits.flag()?;
    let (mut subsampled_x, mut subsampled_y) = (!is_rgb, !is_rgb);
    if profile & 1 == 1 {
        if !is_rgb {
            (subsampled_x, subsampled_y) = (bits.flag()?, bits.flag()?);
        }
        bits.skip(1)?;
    }
    let (width, height) = (bits.read(16)? + 1, bits.read(16)? + 1);
    let chroma: u8 = match (subsampled_x, subsampled_y) {
        (true, true) => 1,
        (true, false) => 2,
        _ => 3,
    };
    const UNSPECIFIED: u8 = 2;
    let format = depth << 4 | chroma << 1 | u8::from(full_range);
    let mut record = vec![1, 0, 0, 0, profile, vp9_level(width.saturating_mul(height)), format];
    record.extend([UNSPECIFIED, UNSPECIFIED, if is_rgb { 0 } else { UNSPECIFIED }, 0, 0]);
    Some(VideoConfig { codec: Codec::Vp9, description: record.into(), width, height })
}

/// A number in AV1's least bytes first form (AV1 §4.10.5).
pub fn put_leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(0x80 | u8::try_from(value & 0x7f).unwrap_or_default());
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

/// Reads a number in that form off the front.
pub fn read_leb128(bytes: &mut &[u8]) -> Option<usize> {
    video::leb128(bytes)
}

/// What is between the size and the colours in a sequence header (AV1 §5.5.1).
fn skip_av1_tools(bits: &mut BitReader<'_>, reduced: bool) -> Option<()> {
    if !reduced && bits.flag()? {
        bits.skip(4 + 3)?;
    }
    bits.skip(3)?;
    if !reduced {
        bits.skip(4)?;
        let has_order_hint = bits.flag()?;
        bits.skip(if has_order_hint { 2 } else { 0 })?;
        let chooses_screen_content = bits.flag()?;
        if chooses_screen_content || bits.flag()? {
            let chooses_integer_mv = bits.flag()?;
            bits.skip(if chooses_integer_mv { 0 } else { 1 })?;
        }
        bits.skip(if has_order_hint { 3 } else { 0 })?;
    }
    bits.skip(3)
}

/// The third byte of an av1C, but for the tier, by `color_config` (AV1 §5.5.2).
fn av1_format(bits: &mut BitReader<'_>, profile: u8) -> Option<u8> {
    const SRGB: u32 = 1 << 16 | 13 << 8;
    let high_depth = bits.flag()?;
    let twelve_bit = profile == 2 && high_depth && bits.flag()?;
    let monochrome = profile != 1 && bits.flag()?;
    let colours = if bits.flag()? { bits.read(24)? } else { 2 << 16 | 2 << 8 | 2 };
    let (mut subsampled_x, mut subsampled_y, mut position) = (true, true, 0);
    if monochrome {
        bits.skip(1)?;
    } else if colours == SRGB {
        (subsampled_x, subsampled_y) = (false, false);
    } else {
        bits.skip(1)?;
        (subsampled_x, subsampled_y) = match profile {
            0 => (true, true),
            1 => (false, false),
            _ if twelve_bit => {
                let x = bits.flag()?;
                (x, x && bits.flag()?)
            }
            _ => (true, false),
        };
        if subsampled_x && subsampled_y {
            position = u8::try_from(bits.read(2)?).ok()?;
        }
    }
    let flags = [high_depth, twelve_bit, monochrome, subsampled_x, subsampled_y];
    Some(flags.iter().fold(0, |byte, flag| byte << 1 | u8::from(*flag)) << 2 | position)
}

/// The least level that has room for a picture of this many samples, by the table of the VP9 levels.
fn vp9_level(samples: u32) -> u8 {
    const LEVELS: [(u32, u8); 8] = [
        (36_864, 10),
        (73_728, 11),
        (122_880, 20),
        (245_760, 21),
        (552_960, 30),
        (983_040, 31),
        (2_228_224, 40),
        (8_912_896, 50),
    ];
    LEVELS.iter().find(|(samples_max, _)| samples <= *samples_max).map_or(60, |(_, level)| *level)
}

const AV1_SEQUENCE_HEADER: u8 = 1;
