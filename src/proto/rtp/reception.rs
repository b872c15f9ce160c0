//! How one source is received: the numbers of a report block (RFC 3550 §6.4.1, §A.3, §A.8).
//!
//! Retransmissions have a source of their own (RFC 4588) and are no part of it.

use std::time::Instant;

use super::{
    JUMP_MAX, ntp,
    rtcp::{LOST_MAX, Report},
};
use crate::media::time::Unwrap;

/// Counts what arrives of one source.
#[derive(Debug)]
pub struct Reception {
    ssrc: u32,
    clock_rate: u32,
    count: Option<Count>,
    /// The transit time of the last packet in ticks, and what it is relative to.
    transit: Option<i64>,
    origin: Option<Instant>,
    timestamps: Unwrap<32>,
    /// In 1/16 of a tick, which keeps what the filter's division would drop.
    jitter_16th: i64,
    last_sr: Option<(u32, Instant)>,
}

/// Sequence numbers since the source began, or began anew.
#[derive(Debug)]
struct Count {
    sequences: Unwrap<16>,
    first: i64,
    highest: i64,
    received: i64,
    /// Expected and received at the time of the last report.
    reported: (i64, i64),
}

impl Count {
    fn starting_at(sequence: u16) -> Self {
        let mut sequences = Unwrap::default();
        let first = sequences.unwrap_next(sequence.into());
        Self { sequences, first, highest: first, received: 1, reported: (0, 0) }
    }

    fn expected(&self) -> i64 {
        self.highest - self.first + 1
    }
}

impl Reception {
    /// Of the source `ssrc`, whose timestamps count `clock_rate` ticks a second.
    pub fn new(ssrc: u32, clock_rate: u32) -> Self {
        Self {
            ssrc,
            clock_rate,
            count: None,
            transit: None,
            origin: None,
            timestamps: Unwrap::default(),
            jitter_16th: 0,
            last_sr: None,
        }
    }

    /// Counts a packet, duplicates too.
    pub fn record(&mut self, now: Instant, sequence: u16, timestamp: u32) {
        self.record_sequence(sequence);
        let since = now.saturating_duration_since(*self.origin.get_or_insert(now));
        let arrival = i64::try_from(since.as_micros() * u128::from(self.clock_rate) / 1_000_000).unwrap_or(i64::MAX);
        let transit = arrival.saturating_sub(self.timestamps.unwrap_next(timestamp));
        let before = self.transit.replace(transit).unwrap_or(transit);
        // More than a second is a step of the media's clock, and no jitter.
        let difference = transit.abs_diff(before).min(self.clock_rate.into()).cast_signed();
        self.jitter_16th += difference - ((self.jitter_16th + 8) >> 4);
    }

    fn record_sequence(&mut self, sequence: u16) {
        let Some(count) = &mut self.count else {
            self.count = Some(Count::starting_at(sequence));
            return;
        };
        let extended = count.sequences.unwrap_next(sequence.into());
        if (extended - count.highest).abs() > JUMP_MAX.into() {
            self.count = Some(Count::starting_at(sequence));
            return;
        }
        count.received += 1;
        count.highest = count.highest.max(extended);
    }

    /// Notes a sender report of the source, for the time since it in ours.
    pub fn handle_sender_report(&mut self, now: Instant, ntp: u64) {
        self.last_sr = Some((ntp::middle(ntp), now));
    }

    /// The report block that is due, whenever that is; it covers the time since the one before. `None` before the
    /// first packet.
    pub fn report(&mut self, now: Instant) -> Option<Report> {
        let count = self.count.as_mut()?;
        let (expected, received) = (count.expected(), count.received);
        let (expected_before, received_before) = std::mem::replace(&mut count.reported, (expected, received));
        let interval = expected - expected_before;
        let lost = (interval - (received - received_before)).max(0);
        let lost_256th = (lost << 8).checked_div(interval).unwrap_or(0);
        let since_sr = |(_, at)| now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000;
        Some(Report {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(lost_256th).unwrap_or(u8::MAX),
            lost: i32::try_from(expected - received).unwrap_or(LOST_MAX),
            highest_sequence: u32::try_from(count.highest & 0xFFFF_FFFF).unwrap_or(0),
            jitter: u32::try_from(self.jitter_16th >> 4).unwrap_or(u32::MAX),
            last_sr: self.last_sr.map_or(0, |(last_sr, _)| last_sr),
            delay_since_sr: self.last_sr.map_or(0, |sr| u32::try_from(since_sr(sr)).unwrap_or(u32::MAX)),
        })
    }
}

#[cfg(test)]
mod tests;
