//! H.264 (RFC 6184, packetization modes 0 and 1) and H.265 (RFC 7798, without DONL).
//!
//! The two differ in the NAL unit's header, one byte or two, and in numbers; the ways of packing are the same.

use super::{
    depacketise::{Assembler, FrameBytes, Picture},
    packetise::{PacketWriter, spread},
};
use crate::{
    limits,
    media::{
        Codec, VideoConfig,
        codec::{
            record::{ParameterSets, parameter_sets},
            sei::NalFormat,
        },
    },
    proto::rtp::Malformed,
};

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

/// Puts access units together.
pub(super) struct NalAssembler {
    nal: Nal,
    sets: ParameterSets,
    /// The sets are not what the last picture was told to be decoded by.
    sets_changed: bool,
    frame: FrameBytes,
    /// Where the unit begins that fragments are coming of, with its length.
    fragmented: Option<usize>,
    units: usize,
    has_picture: bool,
    keyframe: bool,
}

impl NalAssembler {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            nal: Nal::of(codec),
            sets: ParameterSets::new(codec),
            sets_changed: false,
            frame: FrameBytes::default(),
            fragmented: None,
            units: 0,
            has_picture: false,
            keyframe: false,
        }
    }

    fn push_unit(&mut self, unit: &[u8]) -> Result<(), Malformed> {
        let start = self.begin_unit()?;
        self.frame.extend(unit)?;
        self.end_unit(start)
    }

    fn push_aggregate(&mut self, mut rest: &[u8]) -> Result<(), Malformed> {
        while !rest.is_empty() {
            let (unit, after) = split_aggregated(rest).ok_or(Malformed("aggregation packet"))?;
            self.push_unit(unit)?;
            rest = after;
        }
        Ok(())
    }

    fn push_fragment(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let fragment = Fragment::parse(self.nal, payload).ok_or(Malformed("fragmentation unit"))?;
        let start = match (self.fragmented.take(), fragment.is_first) {
            (None, true) => {
                let start = self.begin_unit()?;
                let (header, length) = fragment.header;
                self.frame.extend(header.get(..length).unwrap_or_default())?;
                start
            }
            (Some(start), false) => start,
            _ => return Err(Malformed("fragmentation unit: out of place")),
        };
        self.frame.extend(fragment.body)?;
        if fragment.is_last {
            return self.end_unit(start);
        }
        self.fragmented = Some(start);
        Ok(())
    }

    /// Makes room for a unit's length.
    fn begin_unit(&mut self) -> Result<usize, Malformed> {
        self.units += 1;
        if self.units > limits::RTP_FRAME_UNITS_MAX {
            return Err(Malformed("frame: too many NAL units"));
        }
        let start = self.frame.len();
        self.frame.extend(&[0; LENGTH_BYTES])?;
        Ok(start)
    }

    /// Keeps the unit from there, or takes it out of the frame.
    fn end_unit(&mut self, start: usize) -> Result<(), Malformed> {
        let (length, unit) = self.frame.as_mut().split_at_mut(start).1.split_at_mut(LENGTH_BYTES);
        if unit.len() <= self.nal.header_bytes() {
            return Err(Malformed("NAL unit: empty"));
        }
        let role = self.nal.role(unit);
        match role {
            Role::Picture { key } => {
                self.has_picture = true;
                self.keyframe |= key;
            }
            Role::ParameterSet => self.sets_changed |= self.sets.insert(unit).unwrap_or(false),
            Role::Sei | Role::Other => {}
        }
        if matches!(role, Role::Picture { .. } | Role::Sei) {
            length.copy_from_slice(&u32::try_from(unit.len()).unwrap_or(0).to_be_bytes());
        } else {
            self.frame.as_mut().truncate(start);
        }
        Ok(())
    }
}

impl Assembler for NalAssembler {
    fn begins_keyframe(&self, payload: &[u8]) -> bool {
        let nal = self.nal;
        let Some(kind) = nal.kind(payload) else { return false };
        let body = payload.get(nal.header_bytes()..).unwrap_or_default();
        if kind == nal.fragment() {
            return Fragment::parse(nal, payload).is_some_and(|f| f.is_first && nal.begins_keyframe(f.kind, f.body));
        }
        let unit = if kind == nal.aggregation() { split_aggregated(body).map(|(unit, _)| unit) } else { Some(payload) };
        unit.is_some_and(|unit| {
            let body = unit.get(nal.header_bytes()..).unwrap_or_default();
            nal.kind(unit).is_some_and(|kind| nal.begins_keyframe(kind, body))
        })
    }

    fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let kind = self.nal.kind(payload).ok_or(Malformed("packet: it ends too early"))?;
        if kind == self.nal.fragment() {
            return self.push_fragment(payload);
        }
        if self.fragmented.is_some() {
            return Err(Malformed("fragmentation unit: never ended"));
        }
        if kind == self.nal.aggregation() {
            return self.push_aggregate(payload.get(self.nal.header_bytes()..).unwrap_or_default());
        }
        // What is above are formats that nobody negotiates: interleaving, PACI.
        if kind > self.nal.aggregation() {
            return Err(Malformed("packet: unknown payload structure"));
        }
        self.push_unit(payload)
    }

    fn finish(&mut self) -> Result<Option<Picture>, Malformed> {
        if self.fragmented.is_some() {
            return Err(Malformed("fragmentation unit: never ended"));
        }
        if !self.has_picture {
            self.reset();
            return Ok(None);
        }
        let config = if self.sets_changed { self.sets.config() } else { None };
        self.sets_changed &= config.is_none();
        let picture = Picture { keyframe: self.keyframe, config, data: self.frame.take() };
        self.reset();
        Ok(Some(picture))
    }

    fn reset(&mut self) {
        self.frame.as_mut().clear();
        self.fragmented = None;
        self.units = 0;
        self.has_picture = false;
        self.keyframe = false;
    }

    fn add_parameter_set(&mut self, unit: &[u8]) {
        self.sets_changed |= self.sets.insert(unit).unwrap_or(false);
    }
}

struct Fragment<'a> {
    is_first: bool,
    is_last: bool,
    kind: u8,
    /// The unit's header, and how many of its bytes there are.
    header: ([u8; 2], usize),
    body: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn parse(nal: Nal, payload: &'a [u8]) -> Option<Self> {
        let (indicator, rest) = payload.split_at_checked(nal.header_bytes())?;
        let (flags, body) = rest.split_first()?;
        let kind = flags & if nal.is_hevc { 0x3f } else { 0x1f };
        let header = [nal.with_kind(*indicator.first()?, kind), *indicator.last()?];
        Some(Self {
            is_first: flags & FRAGMENT_FIRST != 0,
            is_last: flags & FRAGMENT_LAST != 0,
            kind,
            header: (header, nal.header_bytes()),
            body,
        })
    }
}

/// The first unit of an aggregation packet's body, and the rest.
fn split_aggregated(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

pub(super) fn packetise(config: &VideoConfig, keyframe: bool, data: &[u8], room: usize, out: &mut PacketWriter) {
    let Some(format) = NalFormat::of(config) else { return };
    let nal = Nal::of(config.codec);
    let sets = parameter_sets(config);
    let before: &[&[u8]] = if keyframe { &sets } else { &[] };
    // An encoder may repeat in the frame what it put into its configuration.
    let units = format.nal_units(data).filter(|unit| nal.role(unit) != Role::Other && !sets.contains(unit));
    let mut small = Small { nal, room, units: Vec::new(), bytes: nal.header_bytes() };
    for unit in before.iter().copied().chain(units).filter(|unit| unit.len() > nal.header_bytes()) {
        if unit.len() > room {
            small.flush(out);
            put_fragments(nal, unit, room, out);
        } else {
            small.add(unit, out);
        }
    }
    small.flush(out);
}

/// Units that wait to share a packet.
struct Small<'a> {
    nal: Nal,
    room: usize,
    units: Vec<&'a [u8]>,
    /// Of the aggregation packet they would be.
    bytes: usize,
}

impl<'a> Small<'a> {
    fn add(&mut self, unit: &'a [u8], out: &mut PacketWriter) {
        if self.bytes + 2 + unit.len() > self.room {
            self.flush(out);
        }
        self.bytes += 2 + unit.len();
        self.units.push(unit);
    }

    fn flush(&mut self, out: &mut PacketWriter) {
        let units = std::mem::take(&mut self.units);
        self.bytes = self.nal.header_bytes();
        if units.len() < 2 {
            units.into_iter().for_each(|unit| out.packet([unit]));
            return;
        }
        let (header, header_bytes) = self.header(&units);
        let lengths: Vec<_> = units.iter().map(|unit| u16::try_from(unit.len()).unwrap_or(0).to_be_bytes()).collect();
        let parts = lengths.iter().zip(&units).flat_map(|(length, unit)| [length.as_slice(), unit]);
        out.packet(header.get(..header_bytes).into_iter().chain(parts));
    }

    /// The packet's header says the most important of its units (RFC 6184 §5.3, RFC 7798 §4.4.2).
    fn header(&self, units: &[&[u8]]) -> ([u8; 2], usize) {
        let firsts = units.iter().filter_map(|unit| unit.first().copied());
        let kind = self.nal.aggregation();
        if self.nal.is_hevc {
            // The least layer and temporal id; with one layer, as here, they compare as one number.
            let ids = units.iter().filter_map(|unit| Some(u16::from_be_bytes(*unit.first_chunk()?) & 0x01ff));
            let header = ids.min().unwrap_or(1) | u16::from(kind) << 9;
            (header.to_be_bytes(), 2)
        } else {
            ([firsts.map(|byte| byte & 0x60).max().unwrap_or(0) | kind, 0], 1)
        }
    }
}

/// A unit that is too long for a packet, in equal parts.
fn put_fragments(nal: Nal, unit: &[u8], room: usize, out: &mut PacketWriter) {
    let Some((header, body)) = unit.split_at_checked(nal.header_bytes()) else { return };
    let (Some(first), Some(kind)) = (header.first(), nal.kind(unit)) else { return };
    let mut head = vec![nal.with_kind(*first, nal.fragment())];
    head.extend(header.iter().skip(1));
    let part_bytes = spread(body.len(), room.saturating_sub(head.len() + 1));
    let mut parts = body.chunks(part_bytes).peekable();
    let mut flags = FRAGMENT_FIRST;
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { FRAGMENT_LAST } else { 0 };
        out.packet([&head, &[flags | last | kind][..], part]);
        flags = 0;
    }
}

/// Before each unit in the hub's frames.
const LENGTH_BYTES: usize = 4;
const FRAGMENT_FIRST: u8 = 0x80;
const FRAGMENT_LAST: u8 = 0x40;
