//! Video configuration records: avcC, hvcC (ISO/IEC 14496-15), av1C and vpcC.

use bytes::Buf;

use super::bits::{BitReader, without_emulation};
use crate::media::Codec;

type Size = (u32, u32);

pub(super) fn dimensions(codec: Codec, description: &[u8]) -> Option<Size> {
    match codec {
        Codec::Avc => avc_size(&without_emulation(avc_sps(description)?)),
        Codec::Hevc => hevc_size(&without_emulation(hevc_sps(description)?)),
        Codec::Av1 => av1_size(av1_sequence_header(description)?),
        // VP8 has no record and a vpcC no size; it is in every keyframe instead.
        Codec::Vp8 | Codec::Vp9 | Codec::Aac | Codec::Opus => None,
    }
}

pub(super) fn sample_entry(codec: Codec) -> &'static str {
    match codec {
        Codec::Avc => "avc1",
        Codec::Hevc => "hev1",
        Codec::Av1 => "av01",
        Codec::Vp8 => "vp08",
        Codec::Vp9 => "vp09",
        Codec::Aac => "mp4a",
        Codec::Opus => "opus",
    }
}

pub(super) fn codec_string(codec: Codec, description: &[u8]) -> Option<String> {
    let entry = sample_entry(codec);
    match (codec, description) {
        (Codec::Avc, [_version, profile, compatibility, level, ..]) => {
            Some(format!("{entry}.{profile:02x}{compatibility:02x}{level:02x}"))
        }
        (Codec::Hevc, _) => hevc_string(description),
        (Codec::Av1, [_version, profile_level, flags, ..]) => {
            let (profile, level) = (profile_level >> 5, profile_level & 0x1f);
            let tier = if flags & 0x80 == 0 { 'M' } else { 'H' };
            let depth = match (flags & 0x40 != 0, flags & 0x20 != 0) {
                (true, true) => 12,
                (true, false) => 10,
                (false, _) => 8,
            };
            Some(format!("{entry}.{profile}.{level:02}{tier}.{depth:02}"))
        }
        // WebCodecs registers no parameters for it.
        (Codec::Vp8, _) => Some("vp8".to_owned()),
        (Codec::Vp9, _) => match vpcc_fields(description) {
            [profile, level, depth, ..] => Some(format!("{entry}.{profile:02}.{level:02}.{:02}", depth >> 4)),
            _ => None,
        },
        _ => None,
    }
}

/// The vpcC fields after the full-box header, which some encoders leave out.
fn vpcc_fields(description: &[u8]) -> &[u8] {
    description.strip_prefix(&[1, 0, 0, 0]).unwrap_or(description)
}

/// ISO/IEC 14496-15 Annex E.3.
fn hevc_string(mut record: &[u8]) -> Option<String> {
    let _version = record.try_get_u8().ok()?;
    let profile = record.try_get_u8().ok()?;
    let compatibility = record.try_get_u32().ok()?.reverse_bits();
    let constraints = record.try_get_uint(6).ok()?;
    let level = record.try_get_u8().ok()?;
    let space = ["", "A", "B", "C"].get(usize::from(profile >> 6)).copied().unwrap_or_default();
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let mut text = format!("hev1.{space}{}.{compatibility:X}.{tier}{level}", profile & 0x1f);
    // Six constraint bytes; trailing zero bytes are left out.
    let mut rest = constraints << 16;
    while rest != 0 {
        text.push_str(&format!(".{:X}", rest >> 56));
        rest <<= 8;
    }
    Some(text)
}

fn avc_sps(mut record: &[u8]) -> Option<&[u8]> {
    record.try_get_uint(5).ok()?;
    let count = record.try_get_u8().ok()? & 0x1f;
    let length = usize::from(record.try_get_u16().ok()?);
    (count > 0).then(|| record.get(..length))?
}

fn hevc_sps(record: &[u8]) -> Option<&[u8]> {
    const SPS: u8 = 33;
    let mut rest = record.get(22..)?;
    for _ in 0..rest.try_get_u8().ok()? {
        let kind = rest.try_get_u8().ok()? & 0x3f;
        for _ in 0..rest.try_get_u16().ok()? {
            let length = usize::from(rest.try_get_u16().ok()?);
            let (unit, after) = rest.split_at_checked(length)?;
            if kind == SPS {
                return Some(unit);
            }
            rest = after;
        }
    }
    None
}

/// ISO/IEC 14496-10 §7.3.2.1.1.
fn avc_size(sps: &[u8]) -> Option<Size> {
    let mut bits = BitReader::new(sps);
    bits.skip(8)?;
    let profile = bits.read(8)?;
    bits.skip(16)?;
    bits.ue()?;
    let chroma = if AVC_HIGH_PROFILES.contains(&profile) { read_avc_high_profile(&mut bits)?.array_type } else { 1 };
    bits.ue()?;
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    bits.ue()?;
    bits.skip(1)?;
    let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let map_units = bits.ue()?.checked_add(1)?;
    let field_factor = if bits.flag()? { 1 } else { 2 };
    let height = map_units.checked_mul(16 * field_factor)?;
    if field_factor == 2 {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let (unit_x, unit_y) = match chroma {
        1 => (2, 2 * field_factor),
        2 => (2, field_factor),
        _ => (1, field_factor),
    };
    crop(&mut bits, (width, height), (unit_x, unit_y))
}

/// Chroma format and the bits beyond eight of luma and chroma samples, of an SPS of a high profile.
pub(super) fn avc_format(sps: &[u8]) -> Option<(u8, u8, u8)> {
    let mut bits = BitReader::new(sps);
    bits.skip(32)?;
    bits.ue()?;
    let high = read_avc_high_profile(&mut bits)?;
    Some((at_most(high.chroma, 3)?, at_most(high.luma_depth, 7)?, at_most(high.chroma_depth, 7)?))
}

/// The fields that only the high profiles have.
struct AvcHigh {
    chroma: u32,
    array_type: u32,
    luma_depth: u32,
    chroma_depth: u32,
}

fn read_avc_high_profile(bits: &mut BitReader<'_>) -> Option<AvcHigh> {
    let chroma = bits.ue()?;
    let separate_planes = chroma == 3 && bits.flag()?;
    let (luma_depth, chroma_depth) = (bits.ue()?, bits.ue()?);
    bits.skip(1)?;
    if bits.flag()? {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.flag()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(AvcHigh { chroma, array_type: if separate_planes { 0 } else { chroma }, luma_depth, chroma_depth })
}

fn skip_scaling_list(bits: &mut BitReader<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.se()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// The four cropping offsets, left right top bottom, in units of chroma samples.
fn crop(bits: &mut BitReader<'_>, (width, height): Size, (unit_x, unit_y): Size) -> Option<Size> {
    if !bits.flag()? {
        return Some((width, height));
    }
    let horizontal = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_x)?;
    let vertical = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_y)?;
    Some((width.checked_sub(horizontal)?, height.checked_sub(vertical)?))
}

fn hevc_size(sps: &[u8]) -> Option<Size> {
    Some(hevc_format(sps)?.size)
}

/// What an H.265 SPS says of its pictures.
pub(super) struct HevcFormat {
    size: Size,
    /// Beyond the first.
    pub(super) sub_layers: u8,
    /// Going up a sub-layer is possible everywhere.
    pub(super) nests: bool,
    pub(super) chroma: u8,
    /// Bits of a sample beyond eight.
    pub(super) luma_depth: u8,
    pub(super) chroma_depth: u8,
}

/// ISO/IEC 23008-2 §7.3.2.2.1.
pub(super) fn hevc_format(sps: &[u8]) -> Option<HevcFormat> {
    let mut bits = BitReader::new(sps);
    bits.skip(16 + 4)?;
    let sub_layers = bits.read(3)?;
    let nests = bits.flag()?;
    skip_profile_tier_level(&mut bits, sub_layers)?;
    bits.ue()?;
    let chroma = bits.ue()?;
    if chroma == 3 {
        bits.skip(1)?;
    }
    let size = (bits.ue()?, bits.ue()?);
    let units = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let size = crop(&mut bits, size, units)?;
    Some(HevcFormat {
        size,
        sub_layers: u8::try_from(sub_layers).ok()?,
        nests,
        chroma: at_most(chroma, 3)?,
        luma_depth: at_most(bits.ue()?, 7)?,
        chroma_depth: at_most(bits.ue()?, 7)?,
    })
}

fn at_most(value: u32, max: u8) -> Option<u8> {
    u8::try_from(value).ok().filter(|value| *value <= max)
}

pub(super) fn skip_profile_tier_level(bits: &mut BitReader<'_>, sub_layers: u32) -> Option<()> {
    const PROFILE: u32 = 88;
    const LEVEL: u32 = 8;
    bits.skip(PROFILE + LEVEL)?;
    let mut sub_layer_bits = 0;
    for _ in 0..sub_layers {
        sub_layer_bits += if bits.flag()? { PROFILE } else { 0 };
        sub_layer_bits += if bits.flag()? { LEVEL } else { 0 };
    }
    if sub_layers > 0 {
        bits.skip(2 * 8u32.checked_sub(sub_layers)?)?;
    }
    bits.skip(sub_layer_bits)
}

/// The payload of the first sequence header among the record's OBUs (AV1 §5.3).
fn av1_sequence_header(record: &[u8]) -> Option<&[u8]> {
    const SEQUENCE_HEADER: u8 = 1;
    let mut rest = record.get(4..)?;
    loop {
        let header = rest.try_get_u8().ok()?;
        if header & 0x04 != 0 {
            rest.try_get_u8().ok()?;
        }
        let length = if header & 0x02 != 0 { leb128(&mut rest)? } else { rest.len() };
        let (payload, after) = rest.split_at_checked(length)?;
        if header >> 3 & 0x0f == SEQUENCE_HEADER {
            return Some(payload);
        }
        rest = after;
    }
}

pub(super) fn leb128(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for shift in (0..56).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// AV1 §5.5.1.
fn av1_size(sequence_header: &[u8]) -> Option<Size> {
    let mut bits = BitReader::new(sequence_header);
    bits.skip(3 + 1)?;
    if bits.flag()? {
        bits.skip(5)?;
    } else {
        av1_operating_points(&mut bits)?;
    }
    let width_bits = bits.read(4)? + 1;
    let height_bits = bits.read(4)? + 1;
    Some((bits.read(width_bits)? + 1, bits.read(height_bits)? + 1))
}

/// Level and high tier of the first operating point; all of them are read.
pub(super) fn av1_operating_points(bits: &mut BitReader<'_>) -> Option<(u32, bool)> {
    let mut first = None;
    let mut delay_bits = None;
    if bits.flag()? {
        bits.skip(64)?;
        if bits.flag()? {
            bits.ue()?;
        }
        if bits.flag()? {
            delay_bits = Some(bits.read(5)? + 1);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let display_delay = bits.flag()?;
    for _ in 0..=bits.read(5)? {
        bits.skip(12)?;
        let level = bits.read(5)?;
        let high_tier = level > 7 && bits.flag()?;
        first.get_or_insert((level, high_tier));
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if display_delay && bits.flag()? {
            bits.skip(4)?;
        }
    }
    first
}

const AVC_HIGH_PROFILES: [u32; 13] = [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244];
