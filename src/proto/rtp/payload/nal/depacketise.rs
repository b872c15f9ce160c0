//! Access units out of single NAL units, aggregates and fragments.

use super::{FRAGMENT_FIRST, FRAGMENT_LAST, Nal, Role};
use crate::{
    limits,
    media::{Codec, codec::parameter_sets::ParameterSets},
    proto::rtp::{
        Malformed,
        payload::depacketise::{Assembler, FrameBytes, Picture},
    },
};

/// Puts access units together.
pub(in crate::proto::rtp::payload) struct NalAssembler {
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
    pub(in crate::proto::rtp::payload) fn new(codec: Codec) -> Self {
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

/// Before each unit in the hub's frames.
const LENGTH_BYTES: usize = 4;
