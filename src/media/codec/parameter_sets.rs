//! Configuration records of H.264 and H.265: written from parameter sets that came in band, and taken apart again.
//!
//! Nothing here can panic, whatever the bytes; what can't be read gives `None`.

use bytes::{Buf, BufMut, Bytes};

use super::{
    bits::{BitReader, without_emulation},
    video,
};
use crate::{
    limits,
    media::{Codec, VideoConfig},
};

/// The parameter sets of an H.264 or H.265 track, the newest of each kind and id.
#[derive(Debug)]
pub struct ParameterSets {
    codec: Codec,
    /// The one seen last is at the end.
    sets: Vec<ParameterSet>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ParameterSet {
    kind: u8,
    id: u32,
    unit: Bytes,
}

impl ParameterSets {
    /// None yet, of a track of this codec.
    pub fn new(codec: Codec) -> Self {
        Self { codec, sets: Vec::new() }
    }

    /// Takes a NAL unit, and says whether it changed anything. `None` if it is no parameter set, or is too long.
    pub fn insert(&mut self, unit: &[u8]) -> Option<bool> {
        if unit.len() > limits::PARAMETER_SET_BYTES_MAX {
            return None;
        }
        let (kind, id) = if self.codec == Codec::Hevc { hevc_kind_and_id(unit)? } else { avc_kind_and_id(unit)? };
        let known = self.sets.iter().position(|set| (set.kind, set.id) == (kind, id));
        let known = known.map(|place| self.sets.remove(place));
        let changed = known.as_ref().is_none_or(|set| set.unit != unit);
        if known.is_none() && self.sets.len() >= limits::PARAMETER_SETS_MAX {
            self.sets.remove(0);
        }
        let set = known.filter(|_| !changed);
        self.sets.push(set.unwrap_or_else(|| ParameterSet { kind, id, unit: Bytes::copy_from_slice(unit) }));
        Some(changed)
    }

    /// The track's configuration, once every kind of set is there.
    pub fn config(&self) -> Option<VideoConfig> {
        let mut sets = self.sets.clone();
        sets.sort();
        let description = if self.codec == Codec::Hevc { hvcc(&sets)? } else { avcc(&sets)? };
        Some(VideoConfig::from_description(self.codec, description.into()))
    }
}

/// The NAL units of the parameter sets in an avcC or hvcC, in their order; none of other codecs.
pub fn parameter_sets(config: &VideoConfig) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let record = &config.description;
    let _cut_short = match config.codec {
        Codec::Avc => read_avcc(record, &mut found),
        Codec::Hevc => read_hvcc(record, &mut found),
        _ => None,
    };
    found
}

fn avc_kind_and_id(unit: &[u8]) -> Option<(u8, u32)> {
    // An id ends within this many bytes.
    let head = without_emulation(unit.get(..unit.len().min(16))?);
    let kind = head.first()? & 0x1f;
    let mut bits = BitReader::new(&head);
    bits.skip(match kind {
        AVC_SPS => 32,
        AVC_PPS => 8,
        _ => return None,
    })?;
    Some((kind, bits.ue()?))
}

fn hevc_kind_and_id(unit: &[u8]) -> Option<(u8, u32)> {
    let clean = without_emulation(unit);
    let kind = clean.first()? >> 1 & 0x3f;
    let mut bits = BitReader::new(&clean);
    bits.skip(16)?;
    let id = match kind {
        HEVC_VPS => bits.read(4)?,
        HEVC_SPS => {
            bits.skip(4)?;
            let sub_layers = bits.read(3)?;
            bits.skip(1)?;
            video::skip_profile_tier_level(&mut bits, sub_layers)?;
            bits.ue()?
        }
        HEVC_PPS => bits.ue()?,
        _ => return None,
    };
    Some((kind, id))
}

/// ISO/IEC 14496-15 §5.3.3.1.2, with lengths of four bytes.
fn avcc(sets: &[ParameterSet]) -> Option<Vec<u8>> {
    let (sps, pps): (Vec<_>, Vec<_>) = sets.iter().partition(|set| set.kind == AVC_SPS);
    let &[_, profile, compatibility, level, ..] = &*sps.first()?.unit else { return None };
    pps.first()?;
    let mut record = vec![1, profile, compatibility, level, 0xff];
    record.put_u8(0xe0 | u8::try_from(sps.len()).ok()?);
    sps.iter().try_for_each(|set| put_unit(&mut record, &set.unit))?;
    record.put_u8(u8::try_from(pps.len()).ok()?);
    pps.iter().try_for_each(|set| put_unit(&mut record, &set.unit))?;
    if !matches!(profile, 66 | 77 | 88) {
        let (chroma, luma_depth, chroma_depth) = video::avc_format(&without_emulation(&sps.first()?.unit))?;
        record.extend([0xfc | chroma, 0xf8 | luma_depth, 0xf8 | chroma_depth, 0]);
    }
    Some(record)
}

fn read_avcc<'a>(record: &'a [u8], found: &mut Vec<&'a [u8]>) -> Option<()> {
    let mut rest = record.get(5..)?;
    for mask in [0x1f, 0xff] {
        for _ in 0..rest.try_get_u8().ok()? & mask {
            found.push(read_unit(&mut rest)?);
        }
    }
    Some(())
}

/// ISO/IEC 14496-15 §8.3.3.1.2, with lengths of four bytes.
fn hvcc(sets: &[ParameterSet]) -> Option<Vec<u8>> {
    let sps = without_emulation(&sets.iter().find(|set| set.kind == HEVC_SPS)?.unit);
    let facts = video::hevc_format(&sps)?;
    let mut record = vec![1];
    record.put_slice(sps.get(3..15)?);
    record.extend([0xf0, 0, 0xfc, 0xfc | facts.chroma, 0xf8 | facts.luma_depth, 0xf8 | facts.chroma_depth, 0, 0]);
    record.put_u8((facts.sub_layers + 1) << 3 | u8::from(facts.nests) << 2 | 3);
    record.put_u8(3);
    for kind in [HEVC_VPS, HEVC_SPS, HEVC_PPS] {
        let of_kind: Vec<_> = sets.iter().filter(|set| set.kind == kind).collect();
        of_kind.first()?;
        // Not marked as complete: the stream may bring others.
        record.put_u8(kind);
        record.put_u16(u16::try_from(of_kind.len()).ok()?);
        of_kind.iter().try_for_each(|set| put_unit(&mut record, &set.unit))?;
    }
    Some(record)
}

fn read_hvcc<'a>(record: &'a [u8], found: &mut Vec<&'a [u8]>) -> Option<()> {
    let mut rest = record.get(22..)?;
    for _ in 0..rest.try_get_u8().ok()? {
        let kind = rest.try_get_u8().ok()? & 0x3f;
        for _ in 0..rest.try_get_u16().ok()? {
            let unit = read_unit(&mut rest)?;
            if matches!(kind, HEVC_VPS | HEVC_SPS | HEVC_PPS) {
                found.push(unit);
            }
        }
    }
    Some(())
}

fn put_unit(record: &mut Vec<u8>, unit: &[u8]) -> Option<()> {
    record.put_u16(u16::try_from(unit.len()).ok()?);
    record.put_slice(unit);
    Some(())
}

fn read_unit<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(rest.try_get_u16().ok()?);
    let (unit, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(unit)
}

const AVC_SPS: u8 = 7;
const AVC_PPS: u8 = 8;
const HEVC_VPS: u8 = 32;
const HEVC_SPS: u8 = 33;
const HEVC_PPS: u8 = 34;
