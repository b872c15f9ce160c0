//! Access units into single NAL units, aggregates and fragments.

use super::{FRAGMENT_FIRST, FRAGMENT_LAST, Nal, Role};
use crate::{
    media::{
        VideoConfig,
        codec::{parameter_sets::parameter_sets, sei::NalFormat},
    },
    proto::rtp::payload::packetise::{PacketWriter, spread},
};

/// The packets of a frame; before a keyframe the parameter sets of the configuration.
pub(in crate::proto::rtp::payload) fn packetise(
    config: &VideoConfig,
    keyframe: bool,
    data: &[u8],
    room: usize,
    out: &mut PacketWriter,
) {
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
