//! The time of one RTP source by the publisher's clock, which all of his sources share.
//!
//! Each source counts from a number of its own (RFC 3550 §5.1). It begins where its first packet arrived; the NTP
//! times that the sender gives beside some of its timestamps then say how two sources lie to each other.

use crate::media::{Anchor, time::Unwrap};

/// The clock of one source. All times are microseconds.
#[derive(Debug)]
pub(super) struct MediaClock {
    rate_hz: i64,
    ticks: Unwrap<32>,
    /// The publisher's time at tick 0; made with the first packet.
    offset_us: Option<i64>,
    /// Media time of the last packet.
    last_us: i64,
    /// NTP time at tick 0, and who said it.
    ntp: Option<(Anchor, i64)>,
    is_aligned: bool,
    is_slewing: bool,
    /// Media time up to which there was slew.
    slewed_us: i64,
}

impl MediaClock {
    pub(super) fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz: i64::from(rate_hz).max(1),
            ticks: Unwrap::default(),
            offset_us: None,
            last_us: 0,
            ntp: None,
            is_aligned: false,
            is_slewing: false,
            slewed_us: 0,
        }
    }

    /// A packet arrived. One far from its time, early or late, begins a new count where it arrived: the sender's clock
    /// leapt, or stood still while he was silent. Jitter adds nothing up, and a burst after a stall is only late.
    pub(super) fn handle_packet(&mut self, arrived_us: i64, timestamp: u32) {
        let media_us = to_us(self.ticks.unwrap_next(timestamp), self.rate_hz);
        self.last_us = media_us;
        let here_us = arrived_us.saturating_sub(media_us);
        if self.offset_us.is_none_or(|offset_us| here_us.abs_diff(offset_us) > LEAP_US) {
            self.offset_us = Some(here_us);
            self.slewed_us = media_us;
            self.ntp = None;
            self.is_aligned = false;
        }
    }

    /// The time of a timestamp near the last packet's. `None` before the first packet.
    pub(super) fn place(&self, timestamp: u32) -> Option<i64> {
        Some(self.media_us(timestamp).saturating_add(self.offset_us?))
    }

    /// The sender says which NTP time, as UTC, a timestamp stands for. What it says of the capture itself is better
    /// than its reports.
    pub(super) fn handle_ntp(&mut self, said_by: Anchor, timestamp: u32, ntp_us: i64) {
        if self.ntp.is_none_or(|(known, _)| known <= said_by) {
            self.ntp = Some((said_by, ntp_us.saturating_sub(self.media_us(timestamp))));
        }
    }

    /// The publisher's clock minus NTP, by this source.
    pub(super) fn behind_ntp_us(&self) -> Option<i64> {
        Some(self.offset_us?.saturating_sub(self.ntp?.1))
    }

    /// Goes to where another source, by that difference, has NTP time: by a step at first and where it is far from it,
    /// else slowly, and not at all where it is near: the steps of sound are whole frames then.
    pub(super) fn follow(&mut self, behind_ntp_us: i64) {
        let (Some(offset_us), Some((_, ntp_us))) = (&mut self.offset_us, self.ntp) else { return };
        let step_us = ntp_us.saturating_add(behind_ntp_us).saturating_sub(*offset_us);
        let most_us = self.last_us.saturating_sub(self.slewed_us).max(0) / SLEW_DIVISOR;
        let apart_us = step_us.unsigned_abs();
        if apart_us > LEAP_US {
            return;
        }
        self.is_slewing = apart_us > if self.is_slewing { NEAR_US_MIN } else { NEAR_US_MAX };
        if !self.is_aligned || apart_us > STEP_US_MIN {
            *offset_us = offset_us.saturating_add(step_us);
            self.is_aligned = true;
        } else if self.is_slewing {
            *offset_us = offset_us.saturating_add(step_us.clamp(-most_us, most_us));
        }
        self.slewed_us = self.last_us;
    }

    fn media_us(&self, timestamp: u32) -> i64 {
        let mut ticks = self.ticks;
        to_us(ticks.unwrap_next(timestamp), self.rate_hz)
    }
}

fn to_us(ticks: i64, rate_hz: i64) -> i64 {
    ticks.saturating_mul(1_000_000).div_euclid(rate_hz)
}

/// A packet this far from its time begins a new count. Sound and picture of one sender don't lie this far from each
/// other either: if the reports say so, they are wrong. Less than what the hub takes for a restart.
const LEAP_US: u64 = 2_500_000;
/// Slewing this far would take longer than anyone listens to sound that isn't with its picture.
const STEP_US_MIN: u64 = 200_000;
/// Nobody notices when sound is this far from its picture, and reports are as inexact; slew goes on until it is nearer.
const NEAR_US_MAX: u64 = 20_000;
const NEAR_US_MIN: u64 = 2_000;
/// Slew is at most a 200th of the time that passes, 0.5 %.
const SLEW_DIVISOR: i64 = 200;
