//! One viewer's account of what came: did it come whole, in order, and when.
//!
//! Readers of all protocols tell it what they see; it costs a few additions a frame.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{events::EventLog, media::Mark, tally::Tally};
use crate::{
    clock::{self, Instant},
    media::TrackKind,
};

/// What the viewers of a thread write to, an address watched each.
#[derive(Debug)]
pub(super) struct Board {
    tallies: Vec<Mutex<Tally>>,
    /// How far this machine's clock is ahead of the publisher's.
    clock_ahead_us: i64,
    /// How late it hears of events, if they are sent elsewhere.
    hears_late: Option<Duration>,
    /// CPU time of the machine that writes it, if that is another one.
    cpu_us: AtomicU64,
}

impl Board {
    /// For so many addresses.
    pub(super) fn new(addresses: usize) -> Self {
        let tallies = (0..addresses).map(|_| Mutex::default()).collect();
        Self { tallies, clock_ahead_us: 0, hears_late: None, cpu_us: AtomicU64::new(0) }
    }

    /// The publisher is elsewhere, and has another clock.
    pub(super) fn far(addresses: usize, clock_ahead_us: i64) -> Self {
        Self { clock_ahead_us, hears_late: Some(HEARS_LATE), ..Self::new(addresses) }
    }

    /// What another machine has seen in all takes the place of what it had seen before.
    pub(super) fn replace(&self, seen: Vec<Tally>, cpu_us: u64) {
        for (tally, mut seen) in self.tallies.iter().zip(seen) {
            let mut tally = tally.lock();
            seen.recent_us += &tally.recent_us;
            *tally = seen;
        }
        self.cpu_us.store(cpu_us, Ordering::Relaxed);
    }

    /// CPU time of the machine that writes it, if that is another one.
    pub(super) fn cpu_us(&self) -> u64 {
        self.cpu_us.load(Ordering::Relaxed)
    }

    /// The tallies, an address each.
    pub(super) fn tallies(&self) -> &[Mutex<Tally>] {
        &self.tallies
    }
}

/// Who a viewer is.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// The address watched.
    pub(super) address: usize,
    /// Reads promptly, and measures latency.
    pub(super) is_sampled: bool,
    /// Reads too little on purpose, so that what he misses is no fault.
    pub(super) is_slow: bool,
    /// The events sent into his stream.
    pub(super) events: Arc<EventLog>,
}

/// One viewer's account; it is closed when it is dropped.
#[derive(Debug)]
pub(super) struct Observer {
    board: Arc<Board>,
    identity: Identity,
    began: Instant,
    /// When bytes last came, and by the publisher's clock.
    arrived: Instant,
    arrived_unix_us: i64,
    /// When a frame last came; from the connection on.
    fed: Option<Instant>,
    is_joined: bool,
    is_starved: bool,
    is_over: bool,
    /// The numbers that should come next.
    next_picture: Option<u64>,
    next_sound: Option<u64>,
    next_event: Option<u64>,
    /// An event acknowledged by then may have been on its way when he joined.
    excused_until: Option<Instant>,
}

impl Observer {
    /// A viewer who is about to connect.
    pub(super) fn new(board: Arc<Board>, identity: Identity) -> Self {
        let now = clock::now();
        let observer = Self {
            board,
            identity,
            began: now,
            arrived: now,
            arrived_unix_us: 0,
            fed: None,
            is_joined: false,
            is_starved: false,
            is_over: false,
            next_picture: None,
            next_sound: None,
            next_event: None,
            excused_until: None,
        };
        observer.tally(|tally| tally.counts.count += 1);
        observer
    }

    /// He connects only now.
    pub(super) fn begin(&mut self) {
        self.began = clock::now();
    }

    /// The server has accepted him.
    pub(super) fn connected(&mut self) {
        self.fed = Some(clock::now());
    }

    /// Bytes have come; what is in them is told next.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.arrived = clock::now();
        if self.identity.is_sampled {
            self.arrived_unix_us = clock::unix_us() - self.board.clock_ahead_us;
        }
        self.tally(|tally| tally.counts.bytes += bytes as u64);
    }

    /// A frame, and its mark if it has one.
    pub(super) fn frame(&mut self, track: TrackKind, keyframe: bool, mark: Option<Mark>) {
        self.feed();
        if !self.is_joined && keyframe && track == TrackKind::Video {
            self.join();
        }
        let expected = match track {
            TrackKind::Video => &mut self.next_picture,
            TrackKind::Audio => &mut self.next_sound,
        };
        let lost = mark.map_or(0, |mark| {
            let lost = expected.map_or(0, |expected| mark.number.saturating_sub(expected));
            *expected = (*expected).max(Some(mark.number + 1));
            lost
        });
        // A joiner gets frames that were sent before he came.
        let is_live = self.is_joined && track == TrackKind::Video;
        let latency_us = mark.filter(|_| self.identity.is_sampled && is_live).and_then(|mark| {
            let fresh = mark.clock_us >= self.arrived_unix_us - self.age_us();
            fresh.then(|| u64::try_from(self.arrived_unix_us - mark.clock_us).unwrap_or(0))
        });
        let is_slow = self.identity.is_slow;
        self.tally(|tally| {
            tally.counts.frames += 1;
            tally.counts.frames_lost += if is_slow { 0 } else { lost };
            if let Some(us) = latency_us {
                tally.latency_us.saturating_record(us);
                tally.recent_us.saturating_record(us);
            }
        });
    }

    /// One of our events.
    pub(super) fn event(&mut self, number: u64) {
        let expected = self.expected_event().unwrap_or(number);
        let lost = number.saturating_sub(expected);
        self.next_event = Some(expected.max(number + 1));
        self.tally(|tally| {
            tally.counts.events += 1;
            tally.counts.events_lost += lost;
        });
    }

    /// Events come beside the stream, and only from now on.
    pub(super) fn hears_events(&mut self) {
        self.arrived = clock::now();
        self.expect_events();
    }

    /// True from the first keyframe on.
    pub(super) fn is_joined(&self) -> bool {
        self.is_joined
    }

    /// Something ended him before his time.
    pub(super) fn fail(&mut self, reason: &str) {
        let connected = self.fed.is_some();
        let is_new = self.tally(|tally| {
            let counts = &mut tally.counts;
            *(if connected { &mut counts.lost } else { &mut counts.failed }) += 1;
            tally.fail(reason)
        });
        if is_new {
            eprintln!("a viewer {}: {reason}", if connected { "was lost" } else { "failed" });
        }
        self.close(false);
    }

    fn join(&mut self) {
        self.is_joined = true;
        self.expect_events();
        let took = self.arrived.saturating_duration_since(self.began);
        self.tally(|tally| {
            tally.counts.joined += 1;
            tally.playing += 1;
            tally.join_us.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        });
    }

    /// What is sent from now on must come, unless it was on its way already.
    fn expect_events(&mut self) {
        self.next_event = Some(self.identity.events.begun() + 1);
        self.excused_until = self.board.hears_late.map(|late| self.arrived + late);
    }

    fn expected_event(&self) -> Option<u64> {
        let excused = self.excused_until.map_or(0, |until| self.identity.events.acknowledged_before(until));
        self.next_event.map(|next| next.max(excused + 1))
    }

    fn age_us(&self) -> i64 {
        i64::try_from(self.arrived.saturating_duration_since(self.began).as_micros()).unwrap_or(i64::MAX)
    }

    /// Notes how long nothing came.
    fn feed(&mut self) {
        let since = self.fed.replace(self.arrived);
        let hungry = since.is_some_and(|since| self.arrived.saturating_duration_since(since) > STARVED_AFTER);
        if hungry && !self.is_starved && !self.identity.is_slow {
            self.is_starved = true;
            self.tally(|tally| tally.counts.starved += 1);
        }
    }

    /// His time is over. `complete`: what was sent to him by now should have come.
    fn close(&mut self, complete: bool) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.arrived = clock::now();
        if self.fed.is_some() {
            self.feed();
        }
        // A slow viewer's last events may still wait for him to read them.
        let expected = self.expected_event().filter(|_| complete && !self.identity.is_slow);
        let sent = self.identity.events.acknowledged_before(self.arrived - EVENT_GRACE);
        let lost = expected.map_or(0, |expected| (sent + 1).saturating_sub(expected));
        let joined = u64::from(self.is_joined);
        self.tally(|tally| {
            tally.counts.events_lost += lost;
            tally.playing -= joined;
        });
    }

    fn tally<T: Default>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        self.board.tallies.get(self.identity.address).map(|tally| change(&mut tally.lock())).unwrap_or_default()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.close(true);
    }
}

/// What an agent needs to hear of an event, with a machine that is busy at either end.
const HEARS_LATE: Duration = Duration::from_millis(500);
const STARVED_AFTER: Duration = Duration::from_secs(2);
/// An event is on its way to its frame, and to the viewer, for this long at most.
const EVENT_GRACE: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests;
