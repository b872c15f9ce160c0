//! What is so in a room: keyed state, announced events and running one-shots, as a fold over its events.
//!
//! The fold gives the same whatever the order, number or loss of what comes in, once a snapshot is among it: the
//! last write of a key wins by `seq`, and what is gone leaves a mark, so that a late copy can't bring it back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Event, StreamName,
    event::{BadEvent, Moment, Op},
};
use crate::limits::{ROOM_EVENTS_MAX, ROOM_MARKS_MAX};

/// The events of one source that still matter. Cheap to clone: the events are shared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Room {
    /// By seq: set, announced or running.
    events: BTreeMap<u64, Arc<Event>>,
    /// Keys that were deleted or ran out, with the seq up to which nothing of them matters any more.
    deleted: BTreeMap<String, u64>,
    /// Ids that were cancelled or superseded, with the UTC millisecond of that.
    dropped: BTreeMap<String, i64>,
    /// The highest seq seen.
    seq: u64,
}

impl Room {
    /// Takes an event, whether its time has come or not.
    pub fn apply(&mut self, event: &Arc<Event>) {
        let head = &event.head;
        self.seq = self.seq.max(head.seq);
        let at_ms = head.time.wall_ms.unwrap_or(i64::MAX);
        for id in head.supersedes.iter().cloned().chain(event.cancels()) {
            self.drop_event(id, at_ms);
        }
        if head.kind == "cancel" {
            return;
        }
        match self.dropped.get(&head.id) {
            Some(dropped_ms) => self.drop_key(event, *dropped_ms),
            None => {
                self.events.insert(head.seq, event.clone());
            }
        }
    }

    /// Forgets what is over at `now`.
    pub fn advance(&mut self, now: Moment) {
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        let mut gone: Vec<(String, u64)> = Vec::new();
        for (seq, event) in self.events.iter().rev() {
            let Some(key) = event.head.key.as_deref().filter(|_| event.head.op != Op::Fire) else { continue };
            if !event.has_fired(now) {
                continue;
            }
            // From the newest to the oldest: the first that has fired is the one that counts.
            if newest.insert(key, *seq).is_none() && (event.head.op == Op::Delete || event.has_expired(now)) {
                gone.push((key.to_owned(), *seq));
            }
        }
        for (key, seq) in gone {
            self.mark_deleted(key, seq);
        }
        let deleted = &self.deleted;
        let mut kept = BTreeSet::new();
        self.events = std::mem::take(&mut self.events)
            .into_iter()
            .rev()
            .filter(|(seq, event)| match (&event.head.key, event.head.op) {
                (_, Op::Fire) => !event.has_fired(now) || event.is_running(now),
                (Some(key), _) if is_deleted(deleted, key, *seq) => false,
                (Some(key), _) if kept.contains(key) => false,
                (Some(key), _) => {
                    if event.has_fired(now) {
                        kept.insert(key.clone());
                    }
                    true
                }
                (None, _) => false,
            })
            .collect();
        while self.events.len() > ROOM_EVENTS_MAX {
            self.events.pop_first();
        }
    }

    /// The keyed state at `now`.
    pub fn active(&self, now: Moment) -> BTreeMap<&str, &Arc<Event>> {
        let mut active = BTreeMap::new();
        for (seq, event) in &self.events {
            let head = &event.head;
            let Some(key) = head.key.as_deref().filter(|_| head.op != Op::Fire && event.has_fired(now)) else {
                continue;
            };
            let here = head.op == Op::Set && !event.has_expired(now) && !is_deleted(&self.deleted, key, *seq);
            if here {
                active.insert(key, event)
            } else {
                active.remove(key)
            };
        }
        active
    }

    /// What a joiner gets at `now`: the clock first, then the active state, announced events and running
    /// one-shots in the order of their seqs.
    pub fn replay(&self, now: Moment) -> Vec<Arc<Event>> {
        let active = self.active(now);
        let state = active.values().map(|event| (event.head.seq, *event));
        let coming = self.events.iter().filter(|(_, event)| match event.has_fired(now) {
            true => event.head.op == Op::Fire && event.is_running(now),
            false => !event.has_expired(now),
        });
        let mut replay: Vec<_> = state.chain(coming.map(|(seq, event)| (*seq, event))).collect();
        replay.sort_by_key(|(seq, event)| (event.head.kind != "clock", *seq));
        replay.into_iter().map(|(_, event)| event.clone()).collect()
    }

    /// How many keys are set at `now`, and whether `key` is one of them or would be one more.
    pub fn keys(&self, now: Moment, key: &str) -> (usize, bool) {
        let active = self.active(now);
        (active.len(), active.contains_key(key))
    }

    /// The highest seq seen.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// True if the same events matter in both. Equal seqs of one source are equal events.
    pub fn is_same(&self, other: &Self) -> bool {
        self.events.keys().eq(other.events.keys()) && self.deleted == other.deleted && self.dropped == other.dropped
    }

    /// True if it changes with time alone: something is announced or running.
    pub fn is_moving(&self, now: Moment) -> bool {
        self.events.values().any(|event| event.head.op == Op::Fire || !event.has_fired(now))
    }

    /// Keeps what `judge` finds good, without asking it again for what `known` has.
    pub fn retain(&mut self, known: &Self, mut judge: impl FnMut(&Event) -> bool) {
        let is_known = |seq: &u64, event: &Event| known.events.get(seq).is_some_and(|known| known.json == event.json);
        self.events.retain(|seq, event| is_known(seq, event) || judge(event));
    }

    /// Events that this room has and `other` hasn't.
    pub fn beyond(&self, other: &Self) -> Vec<Arc<Event>> {
        let new = self.events.iter().filter(|(seq, _)| !other.events.contains_key(seq));
        new.map(|(_, event)| event.clone()).collect()
    }

    /// True if nothing is to be told to a joiner.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.deleted.is_empty() && self.dropped.is_empty()
    }

    /// Takes another node's snapshot for the truth; what it has no longer is gone. The marks of what was deleted
    /// here before stay.
    pub fn replace(&mut self, snapshot: &Room) {
        let (deleted, dropped) = (std::mem::take(&mut self.deleted), std::mem::take(&mut self.dropped));
        *self = snapshot.clone();
        for (key, seq) in deleted {
            if !self.events.values().any(|event| event.head.key.as_deref() == Some(&key)) {
                self.mark_deleted(key, seq);
            }
        }
        for (id, at_ms) in dropped {
            self.mark_dropped(id, at_ms);
        }
    }

    fn drop_event(&mut self, id: String, at_ms: i64) {
        let found = self.events.iter().find(|(_, event)| event.head.id == id).map(|(seq, _)| *seq);
        if let Some(event) = found.and_then(|seq| self.events.remove(&seq)) {
            self.drop_key(&event, at_ms);
        }
        self.mark_dropped(id, at_ms);
    }

    /// An event that had fired when it was dropped takes its key with it; one that had not leaves the key as it is.
    fn drop_key(&mut self, event: &Event, dropped_ms: i64) {
        let fired = event.head.time.wall_ms.is_some_and(|wall_ms| wall_ms <= dropped_ms);
        if let (Some(key), Op::Set, true) = (&event.head.key, event.head.op, fired) {
            self.mark_deleted(key.clone(), event.head.seq);
        }
    }

    fn mark_deleted(&mut self, key: String, seq: u64) {
        let newest = self.deleted.entry(key).or_default();
        *newest = seq.max(*newest);
        if self.deleted.len() > ROOM_MARKS_MAX
            && let Some(oldest) = self.deleted.iter().min_by_key(|(_, seq)| **seq).map(|(key, _)| key.clone())
        {
            self.deleted.remove(&oldest);
        }
    }

    fn mark_dropped(&mut self, id: String, at_ms: i64) {
        let first = self.dropped.entry(id).or_insert(at_ms);
        *first = at_ms.min(*first);
        if self.dropped.len() > ROOM_MARKS_MAX {
            // ULIDs sort by time.
            self.dropped.pop_first();
        }
    }
}

/// A poll's tally goes with the poll.
fn is_deleted(deleted: &BTreeMap<String, u64>, key: &str, seq: u64) -> bool {
    let covers = |key: &str| deleted.get(key).is_some_and(|newest| *newest >= seq);
    covers(key) || key.strip_suffix(":tally").is_some_and(covers)
}

/// A room at a moment, as joiners and the API get it.
///
/// ```text
/// {"v":1, "source":…, "seq":…, "pts_us":…, "wall_ms":…, "events":[signed event, …],
///  "deleted":{key: seq}, "dropped":{id: wall_ms}}
/// ```
///
/// The events are the bytes that were signed. What stands around them is not: a reader that doesn't trust the
/// node it reads from can only take less from it, never something else.
#[derive(Debug, Deserialize)]
pub struct Snapshot<'a> {
    v: u64,
    source: String,
    seq: u64,
    pts_us: i64,
    wall_ms: i64,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    deleted: BTreeMap<String, u64>,
    dropped: BTreeMap<String, i64>,
}

impl Room {
    /// The snapshot at `now`. `more` are the events of another source that are told along.
    pub fn to_json(&self, source: &StreamName, now: Moment, more: &[Arc<Event>]) -> String {
        self.parts(source, now, more, usize::MAX).pop().unwrap_or_default()
    }

    /// The same in parts that are each a snapshot of some of the events and at most about `bytes_max` long.
    pub fn parts(&self, source: &StreamName, now: Moment, more: &[Arc<Event>], bytes_max: usize) -> Vec<String> {
        let (mut parts, mut events, mut bytes) = (Vec::new(), Vec::new(), 0);
        for event in self.replay(now).into_iter().chain(more.iter().cloned()) {
            if bytes + event.json.len() > bytes_max && !events.is_empty() {
                parts.push(self.write(source, now, &std::mem::take(&mut events)));
                bytes = 0;
            }
            bytes += event.json.len() + 1;
            events.push(event);
        }
        parts.push(self.write(source, now, &events));
        parts
    }

    fn write(&self, source: &StreamName, now: Moment, events: &[Arc<Event>]) -> String {
        let mut head = json!({
            "v": 1, "source": source.as_str(), "seq": self.seq, "pts_us": now.pts_us, "wall_ms": now.wall_ms,
            "deleted": self.deleted, "dropped": self.dropped,
        })
        .to_string();
        head.pop();
        head.push_str(",\"events\":[");
        for (index, event) in events.iter().enumerate() {
            if index > 0 {
                head.push(',');
            }
            head.push_str(&String::from_utf8_lossy(&event.json));
        }
        head.push_str("]}");
        head
    }

    /// Reads a snapshot. Its events are checked like any other; those of another source go to `more`.
    pub fn from_json(json: &[u8], more: &mut Vec<Arc<Event>>) -> Result<(Self, Moment), BadEvent> {
        let snapshot: Snapshot<'_> = serde_json::from_slice(json).map_err(|e| BadEvent::Malformed(e.to_string()))?;
        if snapshot.v != 1 {
            return Err(BadEvent::field("/v", "only version 1 is known"));
        }
        if snapshot.events.len() > 2 * ROOM_EVENTS_MAX
            || snapshot.deleted.len() > ROOM_MARKS_MAX
            || snapshot.dropped.len() > ROOM_MARKS_MAX
        {
            return Err(BadEvent::TooLarge);
        }
        let mut room = Self { deleted: snapshot.deleted, dropped: snapshot.dropped, ..Self::default() };
        for raw in snapshot.events {
            let event = Arc::new(Event::from_json(raw.get().as_bytes())?);
            if event.head.source == snapshot.source { room.apply(&event) } else { more.push(event) }
        }
        room.seq = room.seq.max(snapshot.seq);
        Ok((room, Moment { pts_us: snapshot.pts_us, wall_ms: snapshot.wall_ms }))
    }

    /// The state as one JSON object per key, for readers that merge patches (RFC 7396): `keys` by key, and
    /// announced and running events by id.
    pub fn to_state(&self, now: Moment) -> Map<String, Value> {
        let parse = |event: &Arc<Event>| serde_json::from_slice(&event.json).unwrap_or(Value::Null);
        let active = self.active(now);
        let keys: Map<_, _> = active.iter().map(|(key, event)| ((*key).to_owned(), parse(event))).collect();
        let set: BTreeSet<_> = active.values().map(|event| event.head.seq).collect();
        let rest = self.replay(now).into_iter().filter(|event| !set.contains(&event.head.seq));
        let events: Map<_, _> = rest.map(|event| (event.head.id.clone(), parse(&event))).collect();
        [("keys".to_owned(), keys.into()), ("events".to_owned(), events.into())].into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
