//! The events of one room: stamping, waiting for their time, and the state they leave.
//!
//! The rule everywhere: an event fires on the first displayed frame with PTS >= its `pts_us`. So it enters the
//! line directly before the first frame, in decode order, whose PTS reaches that (less `lead_ms`, if it has one).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::{Mutex as Turn, watch};

use super::{
    draft::Draft,
    journal::Record,
    origin::{At, Origin, Refused},
};
use crate::{
    clock, limits,
    media::{
        Event, Room, RoomClock, StreamName,
        event::{BadEvent, Kind, Moment, Op},
    },
};

/// What the next seq and time of an event are, and what it keeps from firing; the origin signs it.
pub(super) struct Stamp {
    pub(super) seq: u64,
    pub(super) time: Value,
    pub(super) supersedes: Vec<String>,
}

pub(super) struct Timeline {
    pub(super) source: StreamName,
    /// The last seq given.
    seq: u64,
    /// No seq up to here is given again after a restart.
    pub(super) reserved: u64,
    /// More are on their way to being reserved.
    pub(super) reserving: bool,
    pub(super) epoch: u64,
    /// A session has had this epoch.
    began: bool,
    /// What is so, up to where the line is.
    pub(super) room: Room,
    /// Accepted, and not yet in the line; by seq.
    schedule: BTreeMap<u64, Arc<Event>>,
    /// The newest frame's PTS and when it came; none while nobody publishes.
    newest: Option<(i64, clock::Instant)>,
    /// Which UTC instant the frames were taken at.
    pub(super) clock: RoomClock,
    /// Takes events; none on an edge.
    pub(super) origin: Option<Arc<Origin>>,
    quota: Quota,
    /// When a coalesced key was last sent.
    sent: HashMap<String, clock::Instant>,
    /// One caller at a time for each id.
    turns: HashMap<String, Weak<Turn<()>>>,
    /// Seqs given to events that are not durable yet.
    in_flight: BTreeSet<u64>,
    /// The newest of those whose commit failed: it may be durable even so.
    failed: BTreeSet<u64>,
    /// The seq up to which the log is complete.
    pub(super) log: watch::Sender<u64>,
    clock_sent: Option<clock::Instant>,
}

impl Timeline {
    /// A room that nothing is known of.
    pub(super) fn new(source: StreamName, seq: u64) -> Self {
        Self {
            source,
            seq,
            reserved: 0,
            reserving: false,
            epoch: 0,
            began: false,
            room: Room::default(),
            schedule: BTreeMap::new(),
            newest: None,
            clock: RoomClock::default(),
            origin: None,
            quota: Quota::default(),
            sent: HashMap::new(),
            turns: HashMap::new(),
            in_flight: BTreeSet::new(),
            failed: BTreeSet::new(),
            log: watch::Sender::new(0),
            clock_sent: None,
        }
    }

    /// A room of an origin, as its journal has it.
    pub(super) fn load(source: StreamName, seq: u64, origin: Arc<Origin>) -> Result<Self, Refused> {
        let loaded = origin.journal.load(&source)?;
        let mut timeline = Self { origin: Some(origin), ..Self::new(source, seq.max(loaded.seq)) };
        // These never entered the line, whatever became of what supersedes them.
        let superseded = loaded.records.iter().flat_map(|record| record.event.head.supersedes.iter().cloned());
        let superseded: HashSet<_> = superseded.collect();
        for Record { event, pending } in loaded.records {
            // The encoder's clock begins anew with this process.
            let epoch = event.head.time.epoch.map_or(0, |epoch| epoch + 1);
            timeline.epoch = timeline.epoch.max(epoch);
            match (superseded.contains(&event.head.id), pending) {
                (false, true) => _ = timeline.schedule.insert(event.head.seq, event),
                (false, false) => timeline.room.apply(&event),
                (true, true) => timeline.settle(event.head.seq),
                (true, false) => {}
            }
        }
        timeline.room.advance(timeline.now());
        Ok(timeline)
    }

    /// Takes what the journal has of the room, and stays where the publisher is.
    pub(super) fn adopt(&mut self, loaded: &mut Self) {
        loaded.newest = self.newest;
        loaded.began = self.began;
        loaded.epoch = loaded.epoch.max(self.epoch);
        std::mem::swap(&mut loaded.clock, &mut self.clock);
        std::mem::swap(loaded, self);
    }

    /// The room clock: where the stream is now. Nobody publishing, it goes on by the wall clock.
    pub(super) fn now(&self) -> Moment {
        let wall_ms = clock::unix_ms();
        let pts_us = match self.newest {
            Some((newest_us, at)) => newest_us.saturating_add(micros(at.elapsed())),
            None => wall_ms.saturating_mul(1000),
        };
        Moment { pts_us, wall_ms }
    }

    /// True if a frame came a moment ago: events enter the line with the next one.
    pub(super) fn is_live(&self) -> bool {
        self.newest.is_some_and(|(_, at)| at.elapsed() < FRAME_SILENCE_MAX)
    }

    pub(super) fn turn(&mut self, id: &str) -> Arc<Turn<()>> {
        self.turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = self.turns.get(id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        self.turns.insert(id.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// Refuses what the room has no place for.
    pub(super) fn admit(&mut self, draft: &Draft) -> Result<(), Refused> {
        let now = self.now();
        if let (Op::Set, Some(key)) = (draft.op, &draft.key) {
            let active = self.room.active(now);
            let coming = self.schedule.values().filter(|event| event.head.op == Op::Set);
            let mut keys: HashSet<_> = active.keys().copied().collect();
            keys.extend(coming.filter_map(|event| event.head.key.as_deref()));
            // The origin's own.
            keys.remove("clock");
            if keys.len() >= limits::ROOM_KEYS_MAX && !keys.contains(key.as_str()) {
                return Err(BadEvent::field("/key", "the room has 64 active keys already").into());
            }
        }
        let ahead_us = micros(limits::EVENT_AHEAD_MAX);
        if let At::PtsUs(pts_us) = draft.at
            && pts_us > now.pts_us.saturating_add(ahead_us)
        {
            return Err(BadEvent::field("/at/pts_us", "is more than 90 days ahead").into());
        }
        // A cancel makes room.
        let waiting = self.schedule.values().filter(|event| !event.is_announced(now)).count();
        if draft.kind != "cancel" && waiting + self.turns.len() > limits::EVENTS_PENDING_MAX {
            return Err(Refused::TooMany);
        }
        if draft.op == Op::Fire && draft.at == At::Now && draft.kind != "cancel" && !self.is_ready() {
            return Err(Refused::NotLive);
        }
        let (rate_per_s, burst) = self.origin.as_ref().map_or((0, 0), |origin| (origin.rate_per_s, origin.burst));
        self.quota.take(rate_per_s, burst)
    }

    /// One-shots for all rooms need no frame here.
    fn is_ready(&self) -> bool {
        self.newest.is_some() || self.source.is_global()
    }

    /// Gives the next seq, or `again` that of an event that missed its frame, and the time that `at` means now.
    pub(super) fn stamp(&mut self, draft: &Draft, commit: Duration, again: Option<u64>) -> Stamp {
        let seq = again.unwrap_or_else(|| {
            self.seq += 1;
            self.in_flight.insert(self.seq);
            self.seq
        });
        let now = self.now();
        let global = self.source.is_global();
        let time = match draft.at {
            At::Now if self.newest.is_none() => json!({"mode": "asap", "wall_ms": now.wall_ms}),
            // The frame that is next once the event is durable.
            At::Now => self.pts_time(now, now.pts_us.saturating_add(micros(commit))),
            At::InMs(ms) if global => json!({"mode": "wall", "wall_ms": now.wall_ms.saturating_add(ms.into())}),
            At::InMs(ms) => self.pts_time(now, now.pts_us.saturating_add(i64::from(ms).saturating_mul(1000))),
            At::PtsUs(pts_us) => self.exact_pts_time(now, pts_us),
            At::WallMs(wall_ms) => json!({"mode": "wall", "wall_ms": wall_ms}),
            At::Asap => json!({"mode": "asap", "wall_ms": now.wall_ms}),
        };
        Stamp { seq, time, supersedes: self.stopped_by(draft) }
    }

    /// Which of the events that the draft drops have not fired, and will not before it: those that are not in the
    /// line, and if the draft enters it at once, those that have some time left there.
    pub(super) fn stopped_by(&self, draft: &Draft) -> Vec<String> {
        let now = self.now();
        let then = Moment {
            pts_us: now.pts_us.saturating_add(micros(STOP_TIME)),
            wall_ms: now.wall_ms.saturating_add(micros(STOP_TIME) / 1000),
        };
        let at_once = matches!(draft.at, At::Now | At::Asap);
        let stopped = |id: &&String| {
            self.schedule.values().any(|event| event.head.id == **id)
                || at_once && self.room.is_stopped_before(id, then)
        };
        draft.drops.iter().filter(stopped).cloned().collect()
    }

    /// A whole millisecond: FLV and RTMP round down, and must not round onto the frame before.
    fn pts_time(&self, now: Moment, pts_us: i64) -> Value {
        self.exact_pts_time(now, pts_us.saturating_add(999).div_euclid(1000).saturating_mul(1000))
    }

    fn exact_pts_time(&self, now: Moment, pts_us: i64) -> Value {
        let by_arrival = || now.wall_ms.saturating_add(pts_us.saturating_sub(now.pts_us).div_euclid(1000));
        let wall_ms = self.clock.wall_us(pts_us).map_or_else(by_arrival, |wall_us| wall_us.div_euclid(1000));
        json!({"mode": "pts", "epoch": self.epoch, "pts_us": pts_us, "wall_ms": wall_ms})
    }

    /// The events of these seqs are durable, or will never be.
    pub(super) fn land(&mut self, seqs: &[u64]) {
        seqs.iter().for_each(|seq| _ = self.in_flight.remove(seq));
        self.log.send_replace(self.landed());
    }

    pub(super) fn note_failed(&mut self, seqs: &[u64]) {
        self.failed.extend(seqs);
        while self.failed.len() > limits::EVENTS_PENDING_MAX {
            self.failed.pop_first();
        }
    }

    /// Schedules an event that turns out to be durable although its commit failed.
    pub(super) fn take_up(&mut self, record: &Record) {
        if self.failed.remove(&record.event.head.seq) && record.pending {
            self.schedule(record.event.clone());
        }
    }

    /// Up to here the log is complete.
    pub(super) fn landed(&self) -> u64 {
        self.in_flight.first().map_or(self.seq, |first| first - 1)
    }

    /// True if the frame that the event belongs to has gone by.
    pub(super) fn has_missed(&self, event: &Event) -> bool {
        let passed = |(newest_us, _): (i64, _)| event.pts_us().is_some_and(|at| at <= newest_us);
        self.newest.is_some_and(passed)
    }

    /// Takes a durable event.
    pub(super) fn schedule(&mut self, event: Arc<Event>) {
        for id in &event.head.supersedes {
            let found = self.schedule.values().find(|event| event.head.id == *id).map(|event| event.head.seq);
            if let Some(seq) = found {
                self.schedule.remove(&seq);
                self.settle(seq);
            }
        }
        self.schedule.insert(event.head.seq, event);
    }

    /// The accepted events that are not in the line yet.
    pub(super) fn scheduled(&self) -> Vec<Arc<Event>> {
        self.schedule.values().cloned().collect()
    }

    /// True if an event's time has come and no frame will fire it.
    pub(super) fn has_overdue(&self) -> bool {
        if self.schedule.is_empty() || self.is_live() && !self.source.is_global() {
            return false;
        }
        let now = self.now();
        self.schedule.values().any(|event| event.is_announced(now))
    }

    /// True if nothing would be lost by forgetting it: the journal has the rest.
    pub(super) fn is_idle(&self) -> bool {
        self.schedule.is_empty()
            && self.log.receiver_count() == 0
            && self.turns.values().all(|turn| turn.strong_count() == 0)
            && self.newest.is_none()
    }

    /// Notes a frame about to enter the line; gives the events that go before it, and how many of them are late.
    pub(super) fn before_frame(&mut self, pts_us: i64) -> (Vec<Arc<Event>>, u64) {
        let due = match self.schedule.is_empty() {
            // No clock is read for nothing.
            true => Vec::new(),
            false => self.due(Moment { pts_us, ..self.now() }, |_| true),
        };
        // What waited for its turn is not late.
        let late = due.iter().filter(|event| !is_coalesced(event) && self.has_missed(event)).count() as u64;
        self.newest = Some((self.newest.map_or(pts_us, |(newest, _)| newest.max(pts_us)), clock::now()));
        (due, late)
    }

    /// Takes out what players should have by now and `may_go`.
    pub(super) fn due_now(&mut self, may_go: impl Fn(&Event) -> bool) -> Vec<Arc<Event>> {
        let now = self.now();
        self.room.advance(now);
        self.due(now, may_go)
    }

    /// Takes out what players should have at `now` and `may_go`, in the order of seqs.
    pub(super) fn due(&mut self, now: Moment, may_go: impl Fn(&Event) -> bool) -> Vec<Arc<Event>> {
        if self.schedule.is_empty() {
            return Vec::new();
        }
        let announced = self.schedule.values().filter(|event| event.is_announced(now));
        let (over, mut due): (Vec<_>, Vec<_>) = announced.cloned().partition(|event| event.has_expired(now));
        for event in over {
            self.schedule.remove(&event.head.seq);
            self.settle(event.head.seq);
        }
        due.retain(|event| may_go(event));
        self.coalesce(&mut due, now);
        for event in &due {
            self.schedule.remove(&event.head.seq);
        }
        due
    }

    /// Of a coalesced key the newest goes out, and only if the last is long enough ago.
    fn coalesce(&mut self, due: &mut Vec<Arc<Event>>, now: Moment) {
        // Those that are sent ahead of their time overtake nothing yet.
        let key = |event: &Event| event.head.key.clone().filter(|_| is_coalesced(event) && event.has_fired(now));
        if !due.iter().any(|event| key(event).is_some()) {
            return;
        }
        self.sent.retain(|_, at| at.elapsed() < COALESCE_INTERVAL);
        let mut newest = HashMap::new();
        for event in due.iter() {
            if let Some(key) = key(event) {
                newest.insert(key, event.head.seq);
            }
        }
        let mut overtaken = Vec::new();
        due.retain(|event| match key(event) {
            None => true,
            Some(key) if newest.get(&key) != Some(&event.head.seq) => {
                overtaken.push(event.head.seq);
                false
            }
            Some(key) => !self.sent.contains_key(&key) && self.sent.insert(key, clock::now()).is_none(),
        });
        for seq in overtaken {
            self.schedule.remove(&seq);
            self.settle(seq);
        }
    }

    /// The event enters the line here: it is in the state from now on.
    pub(super) fn enter(&mut self, event: &Arc<Event>) {
        self.seq = self.seq.max(event.head.seq);
        self.room.apply(event);
        // The clock is in no journal.
        if event.head.kind != "clock" {
            self.settle(event.head.seq);
        }
        if let Some(origin) = &self.origin {
            origin.metrics.events_fired.inc();
        }
    }

    fn settle(&self, seq: u64) {
        if let Some(origin) = &self.origin {
            origin.journal.settle(&self.source, seq);
        }
    }

    /// A publisher's clock begins, and is no continuation of the one before.
    pub(super) fn begin_session(&mut self) {
        if std::mem::replace(&mut self.began, true) {
            self.epoch += 1;
            self.clock.handle_restart();
        }
    }

    /// The publisher left: there is no frame to stamp with.
    pub(super) fn pause(&mut self) {
        self.newest = None;
    }

    /// The correlation of the two clocks, now and then, if a seq for it is at hand.
    pub(super) fn poll_clock(&mut self, pts_us: i64) -> Option<Arc<Event>> {
        let origin = self.origin.clone()?;
        let age = self.clock_sent.map_or(CLOCK_INTERVAL, |at| at.elapsed());
        let due = age >= CLOCK_INTERVAL || age >= CLOCK_INTERVAL_MIN && self.clock.poll_changed();
        if !due || self.seq >= self.reserved {
            return None;
        }
        self.clock_sent = Some(clock::now());
        let time = self.exact_pts_time(Moment { pts_us, wall_ms: clock::unix_ms() }, pts_us);
        self.seq += 1;
        let event = json!({
            "v": 1, "id": ulid::Ulid::new().to_string(), "source": self.source.as_str(), "seq": self.seq,
            "type": "clock", "op": "set", "key": "clock", "target": {"scope": "room"}, "time": time,
            "data": {"error_ms": self.clock.error_ms(), "quality": self.clock.quality()},
        });
        let Value::Object(event) = event else { return None };
        origin.signer.sign(event).map(Arc::new).ok()
    }

    /// True if the clock will soon need seqs that are not reserved; asked once a frame.
    pub(super) fn wants_reserve(&mut self) -> Option<u64> {
        if self.origin.is_none() || self.reserving || self.seq + SEQS_RESERVED / 2 < self.reserved {
            return None;
        }
        self.reserving = true;
        Some(self.seq + SEQS_RESERVED)
    }
}

fn is_coalesced(event: &Event) -> bool {
    Kind::of(&event.head.kind).is_some_and(|kind| kind.coalesced)
}

/// Tokens for events: `rate_per_s` a second, `burst` at most.
#[derive(Debug, Default)]
struct Quota {
    /// Thousandths of a token that were used up, and when that was so.
    used: Option<(u64, clock::Instant)>,
}

impl Quota {
    fn take(&mut self, rate_per_s: u32, burst: u32) -> Result<(), Refused> {
        let (used, at) = self.used.unwrap_or((0, clock::now()));
        let refilled = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_mul(rate_per_s.into());
        let used = used.saturating_sub(refilled);
        if used + 1000 > u64::from(burst) * 1000 {
            let missing = used + 1000 - u64::from(burst) * 1000;
            let retry_after_secs = missing.div_ceil(1000 * u64::from(rate_per_s.max(1))).max(1);
            return Err(Refused::TooFast { retry_after_secs });
        }
        self.used = Some((used + 1000, clock::now()));
        Ok(())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Coalesced keys are sent this often at most.
const COALESCE_INTERVAL: Duration = Duration::from_millis(500);

/// How often the room's clock is told, and how often at most when it changes.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);
const CLOCK_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// An event in the line that fires within this time can't be stopped any more: its cancel may come too late.
const STOP_TIME: Duration = Duration::from_secs(1);

/// After this long without a frame events no longer wait for one.
const FRAME_SILENCE_MAX: Duration = Duration::from_millis(500);

/// Seqs set aside for events that are not journaled.
const SEQS_RESERVED: u64 = 1000;

#[cfg(test)]
mod tests;
