//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01): when each packet arrived.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut};

use super::{JUMP_MAX, Malformed};
use crate::{limits::RTCP_TWCC_PACKETS_MAX, media::time::Unwrap};

/// What one feedback packet tells (§3.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Feedback {
    /// The sequence number of the first packet.
    pub base_sequence: u16,
    /// What the first delta is relative to: the receiver's clock in units of 64 ms, 24 bits, wrapping.
    pub reference_64ms: u32,
    /// Counts feedback packets, wrapping, so that their loss is seen.
    pub count: u8,
    /// The packets from `base_sequence` on: time since the arrival before, or `None` if it did not arrive.
    pub deltas_250us: Vec<Option<i16>>,
}

impl Feedback {
    /// Each packet's sequence number and, if it arrived, when by the receiver's clock in microseconds.
    pub fn arrivals(&self) -> impl Iterator<Item = (u16, Option<i64>)> {
        let mut ticks = i64::from(self.reference_64ms) * TICKS_PER_REFERENCE;
        let mut sequence = self.base_sequence;
        self.deltas_250us.iter().map(move |delta| {
            let this = sequence;
            sequence = sequence.wrapping_add(1);
            ticks += i64::from(delta.unwrap_or(0));
            (this, delta.map(|_| ticks * TICK_US))
        })
    }

    /// Reads what follows the SSRCs. More than [`RTCP_TWCC_PACKETS_MAX`] packets are an error.
    pub(super) fn parse(mut body: &[u8]) -> Result<Self, Malformed> {
        let base_sequence = body.try_get_u16()?;
        let packets = usize::from(body.try_get_u16()?);
        if packets > RTCP_TWCC_PACKETS_MAX {
            return Err(Malformed("number of packets in feedback"));
        }
        let reference_64ms = u32::try_from(body.try_get_uint(3)?).unwrap_or(0);
        let count = body.try_get_u8()?;
        let mut symbols = Vec::new();
        while symbols.len() < packets {
            let chunk = body.try_get_u16()?;
            match chunk >> 14 {
                0b10 => symbols.extend((0..14).rev().map(|bit| chunk >> bit & 1)),
                0b11 => symbols.extend((0..7).rev().map(|pair| chunk >> (2 * pair) & 0b11)),
                _ => {
                    let run = usize::from(chunk & RUN_MAX).min(packets - symbols.len());
                    symbols.extend(std::iter::repeat_n(chunk >> 13, run));
                }
            }
        }
        symbols.truncate(packets);
        let delta = |symbol| match symbol {
            SMALL => Ok(Some(i16::from(body.try_get_u8()?))),
            LARGE => Ok(Some(body.try_get_i16()?)),
            _ => Ok(None),
        };
        let deltas_250us = symbols.into_iter().map(delta).collect::<Result<_, Malformed>>()?;
        Ok(Self { base_sequence, reference_64ms, count, deltas_250us })
    }

    /// Appends what follows the SSRCs.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let symbols: Vec<u16> = self.deltas_250us.iter().map(|delta| symbol(*delta)).collect();
        out.put_u16(self.base_sequence);
        out.put_u16(u16::try_from(symbols.len()).unwrap_or(u16::MAX));
        out.put_uint((self.reference_64ms & REFERENCE_MASK).into(), 3);
        out.put_u8(self.count);
        let mut rest = symbols.as_slice();
        while !rest.is_empty() {
            let (chunk, packets) = first_chunk(rest);
            out.put_u16(chunk);
            rest = rest.get(packets..).unwrap_or_default();
        }
        for delta in self.deltas_250us.iter().flatten() {
            match u8::try_from(*delta) {
                Ok(small) => out.put_u8(small),
                Err(_) => out.put_i16(*delta),
            }
        }
    }
}

/// The chunk that says most of what `symbols` begins with, and of how many packets it says it (§3.1.2 to §3.1.4).
fn first_chunk(symbols: &[u16]) -> (u16, usize) {
    let head = symbols.first().copied().unwrap_or(NOT_RECEIVED);
    let run = symbols.iter().take(RUN_MAX.into()).take_while(|symbol| **symbol == head).count();
    let bits = symbols.iter().take(14).take_while(|symbol| **symbol != LARGE).count();
    let pairs = symbols.len().min(7);
    let vector = |size, bits_each: u16| {
        let slots = symbols.iter().copied().chain(std::iter::repeat(NOT_RECEIVED)).take(size);
        slots.fold(0, |chunk, symbol| chunk << bits_each | symbol)
    };
    // A vector has no length: only the last chunk's may be longer than what is left to say.
    let bits = if bits == symbols.len().min(14) { bits } else { 0 };
    if run >= bits.max(pairs) {
        (head << 13 | u16::try_from(run).unwrap_or(RUN_MAX), run)
    } else if bits > 0 {
        (0b10 << 14 | vector(14, 1), bits)
    } else {
        (0b11 << 14 | vector(7, 2), pairs)
    }
}

fn symbol(delta: Option<i16>) -> u16 {
    match delta {
        None => NOT_RECEIVED,
        Some(0..=255) => SMALL,
        Some(_) => LARGE,
    }
}

/// The receiver's side: notes arrivals and tells of them ten times a second.
#[derive(Debug, Default)]
pub struct Recorder {
    sequences: Unwrap<16>,
    /// When packets arrived, in ticks since `origin`. Those reported stay a while: a feedback that begins at a late
    /// packet tells of the ones behind it again.
    arrivals: BTreeMap<i64, i64>,
    origin: Option<Instant>,
    /// Where the next feedback begins.
    start: Option<i64>,
    due: Option<Instant>,
    count: u8,
}

impl Recorder {
    /// Notes that the packet with this transport-wide sequence number arrived.
    pub fn record(&mut self, now: Instant, sequence: u16) {
        let sequence = self.sequences.unwrap_next(sequence.into());
        let since = now.saturating_duration_since(*self.origin.get_or_insert(now));
        let ticks = i64::try_from(since.as_micros()).unwrap_or(i64::MAX) / TICK_US;
        if self.start.is_some_and(|start| start - sequence > JUMP_MAX.into()) {
            self.arrivals.clear();
            self.start = None;
        }
        let start = *self.start.get_or_insert(sequence);
        let oldest = self.arrivals.first_key_value().map_or(start, |(oldest, _)| *oldest);
        if sequence < start.min(oldest) || self.arrivals.contains_key(&sequence) {
            return;
        }
        self.arrivals.insert(sequence, ticks);
        self.start = Some(start.min(sequence));
        self.due.get_or_insert(now + INTERVAL);
        while self.arrivals.len() > RTCP_TWCC_PACKETS_MAX {
            self.arrivals.pop_first();
        }
    }

    /// The next feedback, if it is due. A long one comes in parts: ask until there is none.
    pub fn poll_feedback(&mut self, now: Instant) -> Option<Feedback> {
        self.due.filter(|due| *due <= now)?;
        let feedback = self.feedback();
        if feedback.is_none() {
            self.due = None;
            let newest = self.arrivals.last_key_value().map_or(0, |(_, ticks)| *ticks);
            self.arrivals.retain(|_, ticks| newest - *ticks < KEPT_TICKS);
        }
        feedback
    }

    /// When [`Self::poll_feedback`] has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    fn feedback(&mut self) -> Option<Feedback> {
        let start = self.start?;
        let (first, first_ticks) = self.arrivals.range(start..).next()?;
        // A hole that no feedback has room for is passed over: what is so far back is no news of congestion.
        let base = start.max(first - HOLE_MAX);
        let reference = first_ticks.div_euclid(TICKS_PER_REFERENCE);
        let mut before = reference * TICKS_PER_REFERENCE;
        let mut deltas_250us = Vec::new();
        let mut next = base;
        for (sequence, ticks) in self.arrivals.range(base..) {
            let packets = usize::try_from(sequence - base).unwrap_or(usize::MAX).saturating_add(1);
            let Ok(delta) = i16::try_from(ticks - before) else { break };
            if packets > FEEDBACK_PACKETS_MAX {
                break;
            }
            deltas_250us.resize(packets - 1, None);
            deltas_250us.push(Some(delta));
            before = *ticks;
            next = sequence + 1;
        }
        self.start = Some(next);
        let count = self.count;
        self.count = count.wrapping_add(1);
        let base_sequence = u16::try_from(base.rem_euclid(1 << 16)).unwrap_or(0);
        let reference_64ms = u32::try_from(reference).unwrap_or(u32::MAX) & REFERENCE_MASK;
        Some(Feedback { base_sequence, reference_64ms, count, deltas_250us })
    }
}

/// Time from an arrival to the feedback that tells of it, at most.
const INTERVAL: Duration = Duration::from_millis(100);
/// Arrivals stay this long, half a second, for feedback that begins at a late packet.
const KEPT_TICKS: i64 = 2000;
/// Packets of one feedback: even if each takes two bytes and its part of a chunk, it fits a datagram of 1200.
const FEEDBACK_PACKETS_MAX: usize = 512;
/// Longest hole before the first arrival that is reported as lost.
const HOLE_MAX: i64 = 256;
const TICK_US: i64 = 250;
const TICKS_PER_REFERENCE: i64 = 256;
const REFERENCE_MASK: u32 = 0x00FF_FFFF;
const RUN_MAX: u16 = 0x1FFF;
const NOT_RECEIVED: u16 = 0;
const SMALL: u16 = 1;
const LARGE: u16 = 2;

#[cfg(test)]
mod tests;
