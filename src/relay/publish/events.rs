//! The tracks that tell the room: `events`, record by record, and `state`, as one JSON value.

use std::{collections::VecDeque, sync::Arc};

use bytes::{BufMut, Bytes};
use serde_json::{Map, Value};

use super::{Chunk, whole_frame};
use crate::{
    clock,
    hub::{EntryKind, Mux, Out},
    limits::{MOQ_EVENTS_GROUP_MAX, MOQ_EVENTS_OBJECT_BYTES_MAX},
    media::{
        Event, Frame, Head, Item, Room, TrackKind,
        event::{Mode, Moment},
    },
    proto::moq::lite05::frame_header,
};

/// The room at the end of the line, as both tracks follow it.
#[derive(Default)]
struct Follower {
    room: Room,
    global: Room,
    resync: Option<u64>,
    has_video: bool,
    /// Time of the newest picture; none before the first.
    pts_us: Option<i64>,
}

impl Follower {
    /// Takes a head over. True if readers must forget what they were told.
    fn follow(&mut self, head: &Head) -> bool {
        self.room.clone_from(&head.room);
        self.global.clone_from(&head.global);
        self.has_video = head.tracks.video.is_some();
        self.resync.replace(head.resync).is_some_and(|before| before != head.resync)
    }

    fn apply(&mut self, event: &Arc<Event>) {
        if event.is_global() { self.global.apply(event) } else { self.room.apply(event) }
    }

    /// Events stand before pictures, or before sound where there is no picture.
    fn advance(&mut self, frame: &Frame) -> bool {
        let counts = frame.track == TrackKind::Video || !self.has_video;
        if counts {
            self.pts_us = self.pts_us.max(Some(frame.pts_us));
        }
        counts
    }

    fn now(&self) -> Moment {
        Moment { pts_us: self.pts_us.unwrap_or_default(), wall_ms: clock::unix_ms() }
    }
}

/// The group that is being filled.
#[derive(Default)]
struct Group {
    number: u64,
    /// Frames behind the first.
    frames: usize,
    /// When it began; none before the first.
    began_us: Option<i64>,
}

impl Group {
    /// Begins the next one, whose number is the line's, if that is free.
    fn begin(&mut self, line: u64, now: Moment) -> u64 {
        *self = Self { number: line.max(self.number + 1), frames: 0, began_us: Some(now.pts_us) };
        self.number
    }

    fn is_full(&self, now: Moment) -> bool {
        let old = self.began_us.is_none_or(|began_us| now.pts_us.saturating_sub(began_us) >= GROUP_US);
        self.frames >= MOQ_EVENTS_GROUP_MAX || old
    }
}

/// Events as MSF event timeline records: each frame is a JSON array. A group begins with those that still matter,
/// so that a joiner has them; readers know an event by its id.
#[derive(Default)]
pub(super) struct EventsMux {
    line: Follower,
    group: Group,
    /// What came before the first picture, whose time the first group needs. It has room for all of it: who waits
    /// reads no other.
    early: VecDeque<Item>,
}

impl EventsMux {
    fn begin_group(&mut self, group: u64, out: &Out<'_, Chunk>) {
        let now = self.line.now();
        let events = self.line.room.replay(now).into_iter().chain(self.line.global.replay(now));
        let records: Vec<_> = events.map(|event| record(&event, now.pts_us)).collect();
        let mut objects = arrays(&records);
        // All frames of a group carry its time: a reader that joins within the group's events would else
        // add up the wrong distances. The record's own time is in its JSON.
        let mut delta_us = now.pts_us.max(0);
        let (mut head, last) = (Vec::new(), objects.pop().unwrap_or_default());
        for object in objects {
            frame_header(&mut head, delta_us, object.len());
            head.extend_from_slice(&object);
            delta_us = 0;
        }
        frame_header(&mut head, delta_us, last.len());
        let chunk = Chunk { kind: EntryKind::Start, dts_us: None, head: head.into(), payload: last };
        out.push(chunk, self.group.begin(group, now));
    }

    /// Keeps what comes before the first picture.
    fn hold(&mut self, item: Item) {
        let has_video = match &item {
            Item::Head(head) => head.tracks.video.is_some(),
            _ => self.line.has_video,
        };
        self.early.push_back(item);
        if self.early.len() > MOQ_EVENTS_GROUP_MAX {
            match self.early.pop_front() {
                Some(Item::Head(head)) => _ = self.line.follow(&head),
                Some(Item::Event(event)) => self.line.apply(&event),
                _ => {}
            }
        }
        // Of the newest head: it says which frame counts as the first.
        self.line.has_video = has_video;
    }

    fn item(&mut self, item: Item, group: u64, out: &Out<'_, Chunk>) {
        match item {
            Item::Head(head) => {
                if self.line.follow(&head) {
                    self.begin_group(group, out);
                }
            }
            Item::Event(event) => {
                if self.group.is_full(self.line.now()) {
                    self.begin_group(group, out);
                }
                let record = record(&event, self.line.now().pts_us);
                self.group.frames += 1;
                out.push(whole_frame(EntryKind::Event, 0, array([&record])), self.group.number);
                self.line.apply(&event);
            }
            Item::Frame(_) | Item::Data(_) => {}
        }
    }
}

impl Mux for EventsMux {
    type Out = Chunk;

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Chunk>) {
        match item {
            Item::Frame(frame) => {
                if !self.line.advance(&frame) {
                    return;
                }
                for item in std::mem::take(&mut self.early) {
                    self.item(item, group, out);
                }
                // It opens the track, so that readers can join before the first event.
                if self.group.began_us.is_none() {
                    self.begin_group(group, out);
                }
            }
            Item::Data(_) => {}
            item if self.line.pts_us.is_none() => self.hold(item),
            item => self.item(item, group, out),
        }
    }
}

/// The record of one event: `M` where the media clock triggers it, `T` where the wall clock does.
fn record(event: &Event, now_us: i64) -> Bytes {
    let time = &event.head.time;
    let mut json = match (time.mode, time.wall_ms) {
        (Mode::Wall, Some(wall_ms)) => format!("{{\"T\":{wall_ms},\"data\":"),
        _ => format!("{{\"M\":{},\"data\":", time.pts_us.unwrap_or(now_us).div_euclid(1000)),
    }
    .into_bytes();
    json.put_slice(&event.json);
    json.put_u8(b'}');
    json.into()
}

/// The records in arrays that each fit into an object; one empty array if there are none.
fn arrays(records: &[Bytes]) -> Vec<Bytes> {
    let (mut objects, mut bytes) = (vec![Vec::new()], 2);
    for record in records {
        if bytes + record.len() > MOQ_EVENTS_OBJECT_BYTES_MAX {
            objects.push(Vec::new());
            bytes = 2;
        }
        bytes += record.len() + 1;
        if let Some(object) = objects.last_mut() {
            object.push(record);
        }
    }
    objects.into_iter().map(array).collect()
}

fn array<'a>(records: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
    let mut json = vec![b'['];
    for record in records {
        if json.len() > 1 {
            json.put_u8(b',');
        }
        json.put_slice(record);
    }
    json.put_u8(b']');
    json.into()
}

/// The room as one JSON value: a group is the whole value, then merge patches (RFC 7396), which is also how
/// @moq/json reads a snapshot track.
#[derive(Default)]
pub(super) struct StateMux {
    line: Follower,
    group: Group,
    /// What a reader has now; none if he must begin anew.
    told: Option<Value>,
    /// Something came since.
    stale: bool,
}

impl StateMux {
    fn tell(&mut self, group: u64, out: &Out<'_, Chunk>) {
        let now = self.line.now();
        let state = state(&self.line, now);
        self.stale = false;
        match self.told.as_ref().filter(|_| !self.group.is_full(now)) {
            None => {
                let number = self.group.begin(group, now);
                out.push(whole_frame(EntryKind::Start, now.pts_us.max(0), text(&state)), number);
            }
            Some(told) => {
                let Some(patch) = merge_patch(told, &state) else { return };
                self.group.frames += 1;
                out.push(whole_frame(EntryKind::Event, 0, text(&patch)), self.group.number);
            }
        }
        self.told = Some(state);
    }
}

impl Mux for StateMux {
    type Out = Chunk;

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Chunk>) {
        match item {
            Item::Head(head) => {
                if self.line.follow(&head) {
                    self.told = None;
                }
                self.stale = true;
            }
            Item::Event(event) => {
                self.line.apply(&event);
                self.stale = true;
            }
            // As of the picture behind the event: it is the one that fires it.
            Item::Frame(frame) => {
                if self.line.advance(&frame) && (self.stale || self.told.is_none()) {
                    self.tell(group, out);
                }
            }
            Item::Data(_) => {}
        }
    }
}

/// `keys` by key and `events` by id, of the room and of all rooms. Where both have a key the room's is told.
fn state(line: &Follower, now: Moment) -> Value {
    let mut state = line.global.to_state(now);
    for (section, of_room) in line.room.to_state(now) {
        match (state.get_mut(&section), of_room) {
            (Some(Value::Object(merged)), Value::Object(of_room)) => merged.extend(of_room),
            (_, of_room) => {
                state.insert(section, of_room);
            }
        }
    }
    state.into()
}

/// What makes `new` of `old` by RFC 7396; `None` if they are equal. Events hold no null, which would mean removal.
fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        _ if old == new => None,
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let changed = new.iter().filter_map(|(key, new)| {
                let patch = match old.get(key) {
                    Some(old) => merge_patch(old, new)?,
                    None => new.clone(),
                };
                Some((key.clone(), patch))
            });
            Some(gone.chain(changed).collect::<Map<_, _>>().into())
        }
        _ => Some(new.clone()),
    }
}

fn text(value: &Value) -> Bytes {
    value.to_string().into()
}

/// A group is rolled after this long (events.md: 30 s).
const GROUP_US: i64 = 30_000_000;
