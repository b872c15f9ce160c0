//! What is so in a room: keyed state, announced events and running one-shots, as a fold over its events.
//!
//! The fold gives the same whatever the order, number or loss of what comes in, once a snapshot is among it: the
//! last write of a key wins by `seq`, and what is gone leaves a mark, so that a late copy can't bring it back.
//! Nothing is guessed from clocks of other machines: an event's own fields, and the word of its origin on whether
//! what it drops had fired, decide.

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
    /// Ids that were cancelled or superseded; true for those that had fired before that.
    dropped: BTreeMap<String, bool>,
    /// The highest seq seen.
    seq: u64,
}

impl Room {
    /// Takes an event, whether its time has come or not.
    pub fn apply(&mut self, event: &Arc<Event>) {
        let head = &event.head;
        self.seq = self.seq.max(head.seq);
        for id in &head.supersedes {
            self.drop_event(id, false);
        }
        if let Some(id) = event.cancels().filter(|id| !head.supersedes.contains(id)) {
            self.drop_event(&id, true);
        }
        if head.kind == "cancel" || event.expires_before_it_fires() {
            return;
        }
        match self.dropped.get(&head.id) {
            Some(fired) => self.drop_key(event, *fired),
            None => {
                self.events.insert(head.seq, event.clone());
            }
        }
    }

    /// Forgets what is over at `now`.
    pub fn advance(&mut self, now: Moment) {
        let over = |event: &Event| event.head.op == Op::Delete || event.has_expired(now);
        let newest = self.newest(now);
        let gone: Vec<_> = newest.iter().filter(|(_, (_, event))| over(event)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(key, (seq, _))| ((*key).to_owned(), *seq)).collect();
        let standing: BTreeSet<_> = self.standing(now).map(|(seq, _)| seq).collect();
        for (key, seq) in gone {
            self.mark_deleted(key, seq);
        }
        self.events.retain(|seq, _| standing.contains(seq));
        while self.events.len() > ROOM_EVENTS_MAX {
            self.events.pop_first();
        }
    }

    /// The newest write of each key whose time has come.
    fn newest(&self, now: Moment) -> BTreeMap<&str, (u64, &Arc<Event>)> {
        let keyed = self.events.iter().filter_map(|(seq, event)| Some((state_key(event)?, (*seq, event))));
        keyed.filter(|(_, (_, event))| has_begun(event, now)).collect()
    }

    /// What still matters: of each key the newest write and those that will overwrite it, and one-shots that are to
    /// come or going on.
    fn standing(&self, now: Moment) -> impl Iterator<Item = (u64, &Arc<Event>)> {
        let newest = self.newest(now);
        let stands = move |seq: u64, event: &Event| match state_key(event) {
            None => !event.has_expired(now) && (!event.has_fired(now) || event.is_running(now)),
            Some(key) => {
                let overtaken = newest.get(key).is_some_and(|(newest, _)| *newest > seq);
                let over = has_begun(event, now) && (event.head.op == Op::Delete || event.has_expired(now));
                !overtaken && !over && !is_deleted(&self.deleted, key, seq)
            }
        };
        self.events.iter().filter(move |(seq, event)| stands(**seq, event)).map(|(seq, event)| (*seq, event))
    }

    /// The keyed state at `now`.
    pub fn active(&self, now: Moment) -> BTreeMap<&str, &Arc<Event>> {
        let set = self.standing(now).filter(|(_, event)| has_begun(event, now));
        let mut active: BTreeMap<_, _> = set.filter_map(|(_, event)| Some((state_key(event)?, event))).collect();
        // A tally counts for the poll that was open when it was made.
        let polls: BTreeMap<_, _> = active.iter().map(|(key, event)| (*key, event.head.seq)).collect();
        active.retain(|key, event| {
            let poll = key.strip_suffix(":tally");
            poll.is_none_or(|poll| polls.get(poll).is_some_and(|opened| *opened < event.head.seq))
        });
        active
    }

    /// What a joiner gets at `now`: the clock first, then the active state, announced events and running
    /// one-shots in the order of their seqs.
    pub fn replay(&self, now: Moment) -> Vec<Arc<Event>> {
        let active = self.active(now);
        let rest = self.standing(now).filter(|(_, event)| state_key(event).is_none() || !has_begun(event, now));
        let mut replay: Vec<_> = active.into_values().chain(rest.map(|(_, event)| event)).cloned().collect();
        replay.sort_by_key(|event| (event.head.kind != "clock", event.head.seq));
        replay
    }

    /// True if the event has been kept from firing, or will be by a cancel that all have before `then`.
    pub fn is_stopped_before(&self, id: &str, then: Moment) -> bool {
        let coming = |event: &Arc<Event>| event.head.id == id && !has_begun(event, then);
        self.dropped.get(id) == Some(&false) || self.events.values().any(coming)
    }

    /// The highest seq seen.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// True if the same events matter in both. Equal seqs of one source are equal events.
    pub fn is_same(&self, other: &Self) -> bool {
        self.events.keys().eq(other.events.keys()) && self.deleted == other.deleted && self.dropped == other.dropped
    }

    /// True if it changes with time alone: something is announced, running or running out.
    pub fn is_moving(&self, now: Moment) -> bool {
        let moves = |event: &Event| state_key(event).is_none() || event.head.time.expires_ms.is_some();
        self.events.values().any(|event| moves(event) || !event.has_fired(now))
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
        for (id, fired) in dropped {
            self.mark_dropped(id, fired);
        }
    }

    fn drop_event(&mut self, id: &str, fired: bool) {
        let found = self.events.iter().find(|(_, event)| event.head.id == id).map(|(seq, _)| *seq);
        if let Some(event) = found.and_then(|seq| self.events.remove(&seq)) {
            self.drop_key(&event, fired);
        }
        self.mark_dropped(id.to_owned(), fired);
    }

    /// An event that had fired when it was dropped takes its key with it; one that had not leaves the key as it is.
    fn drop_key(&mut self, event: &Event, fired: bool) {
        if let (Some(key), true) = (state_key(event), fired) {
            self.mark_deleted(key.to_owned(), event.head.seq);
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

    fn mark_dropped(&mut self, id: String, fired: bool) {
        *self.dropped.entry(id).or_insert(fired) &= fired;
        if self.dropped.len() > ROOM_MARKS_MAX {
            // ULIDs sort by time.
            self.dropped.pop_first();
        }
    }
}

/// The key that the event writes.
fn state_key(event: &Event) -> Option<&str> {
    event.head.key.as_deref().filter(|_| event.head.op != Op::Fire)
}

/// True if its time has come. One that has run out had its time, whatever the stream's clock says.
fn has_begun(event: &Event, now: Moment) -> bool {
    event.has_fired(now) || event.has_expired(now)
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
///  "deleted":{key: seq}, "dropped":{id: had it fired}}
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
    dropped: BTreeMap<String, bool>,
}

impl Room {
    /// The snapshot at `now`. `more` are the events of another source that are told along.
    pub fn to_json(&self, source: &StreamName, now: Moment, more: &[Arc<Event>]) -> String {
        self.parts(source, now, more, usize::MAX).pop().unwrap_or_default()
    }

    /// The same in parts that are each a snapshot of some of the events and at most about `bytes_max` long.
    pub fn parts(&self, source: &StreamName, now: Moment, more: &[Arc<Event>], bytes_max: usize) -> Vec<String> {
        let mut room = self.clone();
        room.advance(now);
        let (mut parts, mut events, mut bytes) = (Vec::new(), Vec::new(), 0);
        for event in room.replay(now).into_iter().chain(more.iter().cloned()) {
            if bytes + event.json.len() > bytes_max && !events.is_empty() {
                parts.push(room.write(source, now, &std::mem::take(&mut events)));
                bytes = 0;
            }
            bytes += event.json.len() + 1;
            events.push(event);
        }
        parts.push(room.write(source, now, &events));
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

    /// Reads a snapshot. Its events are checked like any other, and left out if they are none, as those of another
    /// version are; those of another source go to `more`.
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
            let Ok(event) = Event::from_json(raw.get().as_bytes()).map(Arc::new) else { continue };
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
