//! The room clock: which UTC instant a PTS of one stream was captured at, and back.
//!
//! It follows the best source there is: the encoder's own word (an anchor), else the quickest of the frames that
//! arrived lately. After its first second the mapping never steps: it is a constant offset that moves by at most
//! 5 ms in a second of stream time, so it is monotonic both ways. All arithmetic is in whole microseconds.

/// Where a stream's UTC time comes from, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anchor {
    /// When frames arrive: late by the encoder and the uplink.
    Arrival,
    /// RTCP sender reports: a clock that may say when packets were sent, and not when pictures were taken.
    SenderReport,
    /// The abs-capture-time of an RTP packet: when its picture was taken.
    AbsCaptureTime,
    /// The encoder's `onFI` messages: a date and a time, without their zone.
    OnFi,
    /// OBS' Broadcast Performance Metrics in an SEI: when this picture was composed.
    BpmSei,
}

/// The correlation of one stream's timeline with UTC.
#[derive(Debug, Default)]
pub struct RoomClock {
    running: Option<Running>,
    /// What `poll_changed` has told last.
    told: Option<(Anchor, i64)>,
}

#[derive(Debug)]
struct Running {
    /// The mapping: UTC - PTS.
    offset_us: i64,
    began_us: i64,
    /// Stream time up to which the mapping has had its share of slew.
    slewed_us: i64,
    arrivals: Minimum,
    anchor: Option<Anchored>,
    /// An anchor that contradicts the mapping and has yet to persist.
    doubted: Option<Doubted>,
}

#[derive(Debug, Clone, Copy)]
struct Anchored {
    anchor: Anchor,
    offset_us: i64,
}

#[derive(Debug, Clone, Copy)]
struct Doubted {
    said: Anchored,
    since_us: i64,
}

impl RoomClock {
    /// A frame with this PTS arrived at this UTC instant.
    pub fn handle_arrival(&mut self, pts_us: i64, arrived_us: i64) {
        let late_us = arrived_us.saturating_sub(pts_us);
        if let Some(running) = &mut self.running {
            running.arrivals.add(pts_us, late_us);
            if running.arrivals.get().abs_diff(running.offset_us) <= LEAP_US {
                return running.slew(pts_us);
            }
        }
        // The first frame, or one of the two clocks leapt.
        self.running = Some(Running {
            offset_us: late_us,
            began_us: pts_us,
            slewed_us: pts_us,
            arrivals: Minimum::new(pts_us, late_us),
            anchor: None,
            doubted: None,
        });
    }

    /// The encoder says that the picture with this PTS was taken at this UTC instant. False if that is refused:
    /// it can't be true by the frames' arrival, or it leaps and has not persisted yet.
    pub fn handle_anchor(&mut self, anchor: Anchor, pts_us: i64, wall_us: i64) -> bool {
        if anchor == Anchor::Arrival {
            self.handle_arrival(pts_us, wall_us);
            return true;
        }
        let Some(running) = &mut self.running else { return false };
        let mut offset_us = wall_us.saturating_sub(pts_us);
        if anchor == Anchor::OnFi {
            offset_us = running.in_nearest_zone(offset_us);
        }
        running.accept(Anchored { anchor, offset_us }, pts_us)
    }

    /// The encoder's clock restarted: what was known of the old epoch says nothing of the new one.
    pub fn handle_restart(&mut self) {
        self.running = None;
    }

    /// The UTC instant of a PTS. `None` before the first frame.
    pub fn wall_us(&self, pts_us: i64) -> Option<i64> {
        self.running.as_ref().map(|running| pts_us.saturating_add(running.offset_us))
    }

    /// The PTS of a UTC instant. `None` before the first frame.
    pub fn pts_us(&self, wall_us: i64) -> Option<i64> {
        self.running.as_ref().map(|running| wall_us.saturating_sub(running.offset_us))
    }

    /// By how much the mapping may be off: what its source is good for, and what is still to be slewed.
    pub fn error_ms(&self) -> u32 {
        let Some(running) = &self.running else { return u32::MAX };
        let source_ms = match self.anchor() {
            // The encoder's delay and the uplink's are not seen.
            Anchor::Arrival => 500,
            // The encoder's delay may not be seen.
            Anchor::SenderReport => 150,
            // Said between frames, at any moment of the second.
            Anchor::OnFi => 100,
            // One picture.
            Anchor::AbsCaptureTime | Anchor::BpmSei => 40,
        };
        let slew_ms = running.target_us().abs_diff(running.offset_us) / 1000;
        u32::try_from(slew_ms).unwrap_or(u32::MAX).saturating_add(source_ms)
    }

    /// The source's name in the `clock` event.
    pub fn quality(&self) -> &'static str {
        match self.anchor() {
            Anchor::Arrival => "arrival",
            Anchor::SenderReport => "sender-report",
            Anchor::AbsCaptureTime => "abs-capture-time",
            Anchor::OnFi => "onfi",
            Anchor::BpmSei => "bpm-sei",
        }
    }

    /// True if the correlation is no longer what it was when this last said true.
    pub fn poll_changed(&mut self) -> bool {
        let Some(running) = &self.running else { return false };
        let (anchor, offset_us) = (self.anchor(), running.offset_us);
        let same = |(told, told_us): (Anchor, i64)| told == anchor && told_us.abs_diff(offset_us) < CHANGE_US;
        if self.told.is_some_and(same) {
            return false;
        }
        self.told = Some((anchor, offset_us));
        true
    }

    fn anchor(&self) -> Anchor {
        let anchored = self.running.as_ref().and_then(|running| running.anchor);
        anchored.map_or(Anchor::Arrival, |anchored| anchored.anchor)
    }
}

impl Running {
    /// Where the mapping should be. An anchor holds to the epoch's end, also when the encoder sends no more of
    /// them: clocks drift by less than arrivals vary.
    fn target_us(&self) -> i64 {
        self.anchor.map_or(self.arrivals.get(), |anchored| anchored.offset_us)
    }

    fn slew(&mut self, pts_us: i64) {
        let step_us = self.target_us().saturating_sub(self.offset_us);
        if pts_us.saturating_sub(self.began_us) < SETTLE_US && self.anchor.is_none() {
            // Encoders begin with a burst: its last frame is the first that came without waiting.
            self.offset_us = self.offset_us.saturating_add(step_us.min(0));
            self.slewed_us = self.slewed_us.max(pts_us);
            return;
        }
        let most_us = pts_us.saturating_sub(self.slewed_us) / SLEW_DIVISOR;
        if most_us > 0 {
            self.offset_us = self.offset_us.saturating_add(step_us.clamp(-most_us, most_us));
            self.slewed_us = pts_us;
        }
    }

    fn accept(&mut self, said: Anchored, pts_us: i64) -> bool {
        if self.anchor.is_some_and(|better| better.anchor > said.anchor) {
            return true;
        }
        // A picture is taken before it arrives, and not long before.
        let arrival_us = self.arrivals.get();
        let (earliest_us, latest_us) = (arrival_us.saturating_sub(DELAY_MAX_US), arrival_us.saturating_add(JUMP_US));
        if !(earliest_us..=latest_us).contains(&said.offset_us) {
            return false;
        }
        let agrees = |with_us: i64| said.offset_us.abs_diff(with_us) <= JUMP_US.unsigned_abs();
        if !agrees(self.target_us()) {
            let same = |doubted: &Doubted| doubted.said.anchor == said.anchor && agrees(doubted.said.offset_us);
            let doubted = self.doubted.filter(same).unwrap_or(Doubted { said, since_us: pts_us });
            self.doubted = Some(doubted);
            if pts_us.saturating_sub(doubted.since_us) < PERSIST_US {
                return false;
            }
        }
        self.doubted = None;
        self.anchor = Some(said);
        true
    }

    /// Zones are whole quarters of an hour away from UTC; no frame is that late.
    fn in_nearest_zone(&self, offset_us: i64) -> i64 {
        let off_us = offset_us.saturating_sub(self.arrivals.get());
        offset_us.saturating_sub(off_us.saturating_add(ZONE_US / 2).div_euclid(ZONE_US).saturating_mul(ZONE_US))
    }
}

/// The least value of the last 5 to 10 s of stream time.
#[derive(Debug)]
struct Minimum {
    since_us: i64,
    now: i64,
    before: i64,
}

impl Minimum {
    fn new(at_us: i64, value: i64) -> Self {
        Self { since_us: at_us, now: value, before: value }
    }

    fn add(&mut self, at_us: i64, value: i64) {
        if at_us.saturating_sub(self.since_us) >= HALF_WINDOW_US {
            *self = Self { since_us: at_us, now: value, before: self.now };
        }
        self.now = self.now.min(value);
    }

    fn get(&self) -> i64 {
        self.now.min(self.before)
    }
}

/// The mapping moves by at most a 200th of the stream time that passes: 0.5 %.
const SLEW_DIVISOR: i64 = 200;
/// In this time from the start it may fall at once.
const SETTLE_US: i64 = 1_000_000;
const HALF_WINDOW_US: i64 = 5_000_000;
/// An anchor further than this from what is believed is refused …
const JUMP_US: i64 = 200_000;
/// … until the encoder has said the same for this long. The mapping then slews there.
const PERSIST_US: i64 = 10_000_000;
/// Longest way of a picture from the camera to us.
const DELAY_MAX_US: i64 = 10_000_000;
/// Frames further from the mapping than any delay explains: a clock leapt, and slewing would take an hour.
const LEAP_US: u64 = 15_000_000;
const ZONE_US: i64 = 15 * 60 * 1_000_000;
/// At full slew it is moved by this every 4 s: hardly more often than the `clock` event is sent anyway.
const CHANGE_US: u64 = 20_000;

#[cfg(test)]
mod tests;
