//! A stream's events: stamping, and waiting for the frame they belong to.
//!
//! The rule everywhere: an event fires on the first displayed frame with PTS >= its `pts_us`. So it enters the
//! line directly before the first frame, in decode order, whose PTS reaches it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::{
    clock, limits,
    media::{Event, StreamName, event::BadEvent},
};

/// When an event shall fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// With the next video frame to be forwarded.
    Now,
    /// This many milliseconds of room time from now.
    InMs(u32),
    /// With the first frame at or after this PTS.
    PtsUs(i64),
    /// At this UTC millisecond, for everybody; travels with the next frame.
    WallMs(i64),
}

/// Why an event was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The event breaks the contract.
    #[error("{0}")]
    Bad(#[from] BadEvent),
    /// Nobody publishes, or no frame came in time; nothing was accepted.
    #[error("no frame to carry the event: the stream is not live")]
    NotLive,
    /// Too many events of this stream wait for their frame.
    #[error("{} events already wait for their frame", limits::EVENTS_PENDING_MAX)]
    TooMany,
}

/// The receipt of an event given to a timeline.
pub(super) enum Receipt {
    /// Stamped at once.
    Stamped(Arc<Event>),
    /// Will be stamped with the next frame.
    Waiting(oneshot::Receiver<Arc<Event>>),
}

enum Pending {
    /// Waits for a PTS; already stamped.
    Stamped(Arc<Event>),
    /// Takes the PTS of the next frame.
    Next { draft: Map<String, Value>, receipt: oneshot::Sender<Arc<Event>> },
}

pub(super) struct Timeline {
    source: StreamName,
    /// The last seq given.
    seq: u64,
    pub(super) epoch: u64,
    /// Sorted by PTS, those for the next frame first.
    pending: VecDeque<Pending>,
    /// Room clock: PTS of the newest frame and when it came.
    newest: Option<(i64, clock::Instant)>,
    accepted: HashMap<String, Arc<Event>>,
    accepted_order: VecDeque<String>,
}

impl Timeline {
    pub(super) fn new(source: StreamName, seq: u64) -> Self {
        Self {
            source,
            seq,
            epoch: 0,
            pending: VecDeque::new(),
            newest: None,
            accepted: HashMap::new(),
            accepted_order: VecDeque::new(),
        }
    }

    /// Takes an unstamped event. A known `id` gives the event that was stamped for it before.
    pub(super) fn accept(&mut self, mut draft: Map<String, Value>, at: At) -> Result<Receipt, Refused> {
        if let Some(event) = self.known(&draft) {
            return Ok(Receipt::Stamped(event));
        }
        draft.entry("id").or_insert_with(|| ulid::Ulid::new().to_string().into());
        let (newest_us, arrived) = self.newest.ok_or(Refused::NotLive)?;
        if self.pending.len() >= limits::EVENTS_PENDING_MAX {
            return Err(Refused::TooMany);
        }
        let room_us = newest_us.saturating_add(micros(arrived.elapsed()));
        match at {
            At::Now => {
                // Refuse what is wrong before waiting; the stamp of the dry run is thrown away.
                self.dry_run(&draft, newest_us)?;
                let (receipt, waiting) = oneshot::channel();
                self.queue(Pending::Next { draft, receipt });
                Ok(Receipt::Waiting(waiting))
            }
            At::WallMs(wall_ms) => {
                let event = self.stamp(draft, json!({"mode": "wall", "wall_ms": wall_ms}))?;
                self.queue(Pending::Stamped(event.clone()));
                Ok(Receipt::Stamped(event))
            }
            At::InMs(ms) => {
                // A whole millisecond: FLV and RTMP round down, and must not round onto the frame before.
                let room_ms = room_us.saturating_add(999).div_euclid(1000);
                self.accept_at(draft, room_ms.saturating_add(ms.into()).saturating_mul(1000), room_us)
            }
            At::PtsUs(pts_us) => self.accept_at(draft, pts_us, room_us),
        }
    }

    fn accept_at(&mut self, draft: Map<String, Value>, pts_us: i64, room_us: i64) -> Result<Receipt, Refused> {
        let wall_ms = clock::unix_ms().saturating_add((pts_us.saturating_sub(room_us)) / 1000);
        let event = self.stamp(draft, pts_time(self.epoch, pts_us, wall_ms))?;
        self.queue(Pending::Stamped(event.clone()));
        Ok(Receipt::Stamped(event))
    }

    /// Notes a frame about to enter the line; gives the events that go before it.
    pub(super) fn before_frame(&mut self, pts_us: i64) -> Vec<Arc<Event>> {
        self.newest = Some((self.newest.map_or(pts_us, |(newest, _)| newest.max(pts_us)), clock::now()));
        let mut due = Vec::new();
        while let Some(pending) = self.pending.pop_front() {
            match pending {
                Pending::Stamped(event) if event.pts_us().is_some_and(|at| at > pts_us) => {
                    self.pending.push_front(Pending::Stamped(event));
                    break;
                }
                Pending::Stamped(event) => due.push(event),
                // The caller gave up waiting: nothing was acknowledged, so nothing is sent.
                Pending::Next { receipt, .. } if receipt.is_closed() => {}
                Pending::Next { draft, receipt } => {
                    // Sent twice at once: one event, and both callers hear of it.
                    let known = self.known(&draft);
                    let time = pts_time(self.epoch, pts_us, clock::unix_ms());
                    let Some(event) = known.clone().or_else(|| self.stamp(draft, time).ok()) else { continue };
                    // If he gave up only now he may send it again: it has its id, and is known by it.
                    let _ = receipt.send(event.clone());
                    if known.is_none() {
                        due.push(event);
                    }
                }
            }
        }
        due.sort_by_key(|event| event.head.seq);
        due
    }

    /// The publisher left: there is no frame to stamp with, and the room clock stands.
    pub(super) fn pause(&mut self) {
        self.newest = None;
        self.pending.retain(|pending| matches!(pending, Pending::Stamped(_)));
    }

    /// Events from another node: already stamped; only the counters follow.
    pub(super) fn observe(&mut self, event: &Event) {
        self.seq = self.seq.max(event.head.seq);
    }

    /// The event that was stamped for the draft's id before.
    fn known(&self, draft: &Map<String, Value>) -> Option<Arc<Event>> {
        self.accepted.get(draft.get("id")?.as_str()?).cloned()
    }

    fn dry_run(&self, draft: &Map<String, Value>, pts_us: i64) -> Result<(), Refused> {
        let time = pts_time(self.epoch, pts_us, clock::unix_ms());
        Event::from_object(envelope(draft.clone(), &self.source, self.seq + 1, time)?)?;
        Ok(())
    }

    fn stamp(&mut self, draft: Map<String, Value>, time: Value) -> Result<Arc<Event>, Refused> {
        let event = Arc::new(Event::from_object(envelope(draft, &self.source, self.seq + 1, time)?)?);
        self.seq += 1;
        let id = event.head.id.clone();
        self.accepted_order.push_back(id.clone());
        self.accepted.insert(id, event.clone());
        if self.accepted_order.len() > limits::EVENT_IDS_MAX
            && let Some(oldest) = self.accepted_order.pop_front()
        {
            self.accepted.remove(&oldest);
        }
        Ok(event)
    }

    /// Behind those that came before it for the same time.
    fn queue(&mut self, pending: Pending) {
        let key = |pending: &Pending| match pending {
            Pending::Stamped(event) => event.pts_us().unwrap_or(i64::MIN),
            Pending::Next { .. } => i64::MIN,
        };
        let at = key(&pending);
        let place = self.pending.partition_point(|earlier| key(earlier) <= at);
        self.pending.insert(place, pending);
    }
}

fn pts_time(epoch: u64, pts_us: i64, wall_ms: i64) -> Value {
    json!({"mode": "pts", "epoch": epoch, "pts_us": pts_us, "wall_ms": wall_ms})
}

/// Puts the origin's stamp on a draft. Fields that only the origin may give are overwritten; the caller's
/// `time.duration_ms`, `lead_ms` and `expires_ms` stay.
fn envelope(
    mut draft: Map<String, Value>,
    source: &StreamName,
    seq: u64,
    time: Value,
) -> Result<Map<String, Value>, BadEvent> {
    if draft.get("v").is_some_and(|v| *v != json!(1)) {
        return Err(BadEvent::field("/v", "only version 1 is known"));
    }
    let mut merged = match draft.remove("time") {
        None => Map::new(),
        Some(Value::Object(time)) => time,
        Some(_) => return Err(BadEvent::field("/time", "must be an object")),
    };
    if let Value::Object(time) = time {
        merged.extend(time);
    }
    draft.insert("v".into(), json!(1));
    draft.insert("source".into(), source.as_str().into());
    draft.insert("seq".into(), seq.into());
    draft.insert("time".into(), merged.into());
    draft.entry("target").or_insert_with(|| json!({"scope": "room"}));
    draft.entry("data").or_insert_with(|| json!({}));
    Ok(draft)
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
