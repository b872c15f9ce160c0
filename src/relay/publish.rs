//! The muxers: a stream's line in, the ready-made frames of one MoQ track out, shared by all its readers.

mod events;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use self::events::{EventsMux, StateMux};
use crate::{
    hub::{Bounds, Entry, EntryKind, Merge, Mux, Muxed, Out, Pool, Ring, Settings, Stream, Terms},
    limits::{MOQ_EVENTS_RECENT_BYTES_MAX, MOQ_EVENTS_RECENT_MAX, SOUND_WAIT_MAX},
    media::{Event, Frame, Head, Item, StreamName, TrackKind},
    proto::moq::{
        catalog::{AUDIO_TRACK, CATALOG_TRACK, Catalog, EVENTS_TRACK, STATE_TRACK, VIDEO_TRACK},
        container::legacy_frame_head,
        line::{self, LINE_TRACK},
        lite05::{TrackInfo, frame_header},
    },
};

/// The tracks of every broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// The hang catalog.
    Catalog,
    /// Commerce events as JSON.
    Events,
    /// What they leave behind.
    State,
    /// The sound.
    Audio,
    /// The picture.
    Video,
    /// The whole line but the sound, for edges.
    Line,
}

impl Track {
    /// The track of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        let all = [Self::Catalog, Self::Events, Self::State, Self::Audio, Self::Video, Self::Line];
        all.into_iter().find(|track| track.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Catalog => CATALOG_TRACK,
            Self::Events => EVENTS_TRACK,
            Self::State => STATE_TRACK,
            Self::Audio => AUDIO_TRACK,
            Self::Video => VIDEO_TRACK,
            Self::Line => LINE_TRACK,
        }
    }

    /// What TRACK_INFO says. Players subscribe with these priorities too; higher goes first.
    pub fn info(self) -> TrackInfo {
        let priority = match self {
            Self::Catalog => 100,
            Self::Events | Self::State => 90,
            Self::Audio => 80,
            Self::Video | Self::Line => 60,
        };
        TrackInfo { priority, ordered: false, max_age_ms: 5000, timescale: 1_000_000 }
    }

    /// The transport's priority for a group: catalog before events before audio before video, and within a
    /// track the newest group first. All below 0, which is where the control streams are.
    pub fn priority(self, group: u64) -> i32 {
        let class = match self {
            Self::Catalog => 3,
            Self::Events | Self::State => 2,
            Self::Audio => 1,
            Self::Video | Self::Line => 0,
        };
        let newness = i32::try_from(group & 0x0fff_ffff).unwrap_or(0);
        i32::MIN + (class << 28) + newness
    }

    /// True if the track's readers may lose frames but not events, so a started group is never cut off.
    pub fn carries_events(self) -> bool {
        matches!(self, Self::Events | Self::Line)
    }
}

/// One entry of a muxed track: one or more moq-lite frames, the last one's payload beside the heads.
#[derive(Debug, Clone)]
pub struct Chunk {
    kind: EntryKind,
    dts_us: Option<i64>,
    /// Frame heads, and whatever small frames stand before the last one.
    pub head: Bytes,
    /// The last frame's payload, shared with the line.
    pub payload: Bytes,
}

impl Chunk {
    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if it holds an event that must not get lost.
    pub fn is_event(&self) -> bool {
        self.kind == EntryKind::Event
    }

    /// True if a group may be read from here on.
    pub fn is_start(&self) -> bool {
        self.kind == EntryKind::Start
    }
}

impl Entry for Chunk {
    fn kind(&self) -> EntryKind {
        self.kind
    }

    fn bytes(&self) -> usize {
        self.len()
    }

    fn dts_us(&self) -> Option<i64> {
        self.dts_us
    }
}

/// The running muxers of all streams, one pool a track.
pub struct Muxers {
    pools: [Pool<StreamName, Chunk>; 6],
}

impl Muxers {
    /// No muxer runs yet.
    pub fn new(settings: &Settings) -> Self {
        let media = Bounds { bytes_max: settings.ring_bytes_max, groups_max: settings.gops_max };
        let small = Bounds { bytes_max: SMALL_RING_BYTES, groups_max: SMALL_RING_GROUPS };
        // Sessions are told to go elsewhere before the server stops; until then their lines go on.
        let stop = CancellationToken::new();
        let (linger, merge) = (settings.linger, MERGE);
        let terms = |bounds| Terms { bounds, linger, merge, stop: stop.clone(), transcode: None, history: false };
        let pool = |bounds| Pool::new(terms(bounds));
        // An edge that comes from another node goes on where it was.
        let whole = |bounds| Pool::new(Terms { history: true, ..terms(bounds) });
        Self { pools: [pool(small), pool(small), pool(small), whole(small), pool(media), whole(media)] }
    }

    /// How many subscriptions read a track of a stream.
    #[cfg(test)]
    pub(crate) fn subscriptions(&self, track: Track, name: &StreamName) -> usize {
        self.pool(track).users(name)
    }

    fn pool(&self, track: Track) -> &Pool<StreamName, Chunk> {
        let [catalog, events, state, audio, video, line] = &self.pools;
        match track {
            Track::Catalog => catalog,
            Track::Events => events,
            Track::State => state,
            Track::Audio => audio,
            Track::Video => video,
            Track::Line => line,
        }
    }

    /// The muxed track of a stream, shared with everybody who reads it.
    pub fn attach(&self, track: Track, stream: &Arc<Stream>) -> Muxed<Chunk> {
        let pool = self.pool(track);
        let key = stream.name().clone();
        match track {
            Track::Catalog => pool.attach(key, stream, CatalogMux::default),
            Track::Events => pool.attach(key, stream, EventsMux::default),
            Track::State => pool.attach(key, stream, StateMux::default),
            Track::Audio => pool.attach(key, stream, || MediaMux::new(TrackKind::Audio)),
            Track::Video => pool.attach(key, stream, || MediaMux::new(TrackKind::Video)),
            Track::Line => pool.attach(key, stream, || LineMux::new(stream.name().clone(), stream.ring().clone())),
        }
    }
}

/// Video or audio in hang's legacy container. A video group is a GOP and has its number on every node; an
/// audio group is a second of the stream's timeline, which is the same everywhere too.
struct MediaMux {
    track: TrackKind,
    /// The group being filled.
    group: Option<u64>,
    last_us: i64,
}

impl MediaMux {
    fn new(track: TrackKind) -> Self {
        Self { track, group: None, last_us: 0 }
    }

    /// The frame's group, and whether it begins it. `None` before the first start point.
    fn place(&self, frame: &Frame, group: u64) -> Option<(u64, bool)> {
        match self.track {
            TrackKind::Video if frame.keyframe => Some((group, true)),
            TrackKind::Video => self.group.map(|group| (group, false)),
            TrackKind::Audio => {
                let second = audio_group(frame.dts_us);
                // Never back: a group that was left is finished.
                let second = self.group.map_or(second, |group| group.max(second));
                Some((second, self.group != Some(second)))
            }
        }
    }
}

impl Mux for MediaMux {
    type Out = Chunk;

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Chunk>) {
        let Item::Frame(frame) = item else { return };
        if frame.track != self.track {
            return;
        }
        let Some((group, start)) = self.place(&frame, group) else { return };
        let pts_us = frame.pts_us.max(0);
        let delta_us = if start { pts_us } else { pts_us - self.last_us };
        (self.group, self.last_us) = (Some(group), pts_us);
        let chunk = Chunk {
            kind: if start { EntryKind::Start } else { EntryKind::Follow },
            dts_us: Some(frame.dts_us),
            head: legacy_frame_head(delta_us, pts_us, frame.data.len()),
            payload: frame.data,
        };
        out.push(chunk, group);
    }
}

/// The audio group that a time on the stream's timeline lies in.
pub(super) fn audio_group(dts_us: i64) -> u64 {
    u64::try_from(dts_us / AUDIO_GROUP_US).unwrap_or(0)
}

/// A group of one frame whenever the tracks change.
#[derive(Default)]
struct CatalogMux {
    last: Option<Bytes>,
    group: u64,
}

impl Mux for CatalogMux {
    type Out = Chunk;

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Chunk>) {
        let Item::Head(head) = item else { return };
        let json = Catalog::of(&head.tracks).to_json();
        if self.last.as_ref() == Some(&json) {
            return;
        }
        self.group = group.max(self.group + 1);
        self.last = Some(json.clone());
        out.push(whole_frame(EntryKind::Start, 0, json), self.group);
    }
}

/// hawker's `line`. Each group begins with the configuration, so that it can be read alone, and with the events
/// of the last seconds, for an edge that comes back after its session was lost.
///
/// Audio travels on its own track, which goes first when the link is tight; without a picture it is the line.
struct LineMux {
    name: StreamName,
    source: Arc<Ring<Item>>,
    head: Option<Arc<Head>>,
}

impl LineMux {
    fn new(name: StreamName, source: Arc<Ring<Item>>) -> Self {
        Self { name, source, head: None }
    }

    fn is_audio_only(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.tracks.video.is_none())
    }

    /// Events for all rooms reach each edge by themselves, once.
    fn is_of_here(&self, event: &Event) -> bool {
        event.head.source == self.name.as_str()
    }

    /// What a group says before its first frame.
    fn put_group_head(&self, out: &mut Vec<u8>, frame: &Frame, group: u64) {
        if let Some(head) = &self.head {
            let tail = put_frame(out, |fields| line::encode_item(&Item::Head(head.clone()), &self.name, fields));
            out.extend_from_slice(&tail);
        }
        for event in self.recap(frame, group) {
            let tail = put_frame(out, |fields| line::encode_recap(&event, fields));
            out.extend_from_slice(&tail);
        }
    }

    /// The newest events before a group, oldest first.
    fn recap(&self, frame: &Frame, group: u64) -> Vec<Arc<Event>> {
        let recent = self.source.recent_events(group, frame.dts_us - RECAP_US);
        let of_here = recent.into_iter().filter_map(|item| match item {
            Item::Event(event) if self.is_of_here(&event) => Some(event),
            _ => None,
        });
        let mut bytes = 0;
        let fits = |event: &Arc<Event>| {
            bytes += event.json.len();
            bytes <= MOQ_EVENTS_RECENT_BYTES_MAX
        };
        let mut recap: Vec<_> = of_here.rev().take(MOQ_EVENTS_RECENT_MAX).take_while(fits).collect();
        recap.reverse();
        recap
    }
}

impl Mux for LineMux {
    type Out = Chunk;

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Chunk>) {
        let (mut head, mut kind) = (Vec::new(), EntryKind::Event);
        match &item {
            Item::Frame(frame) if frame.track == TrackKind::Audio && !self.is_audio_only() => return,
            Item::Frame(frame) if frame.keyframe => {
                kind = EntryKind::Start;
                self.put_group_head(&mut head, frame, group);
            }
            Item::Frame(_) => kind = EntryKind::Follow,
            Item::Head(new) => {
                // What only the room's state changed in is told at the next group.
                let same_tracks = self.head.as_ref().is_some_and(|head| head.tracks == new.tracks);
                self.head = Some(new.clone());
                if same_tracks {
                    return;
                }
            }
            Item::Event(event) if !self.is_of_here(event) => return,
            Item::Event(_) | Item::Data(_) => {}
        }
        let payload = put_frame(&mut head, |fields| line::encode_item(&item, &self.name, fields));
        out.push(Chunk { kind, dts_us: item.dts_us(), head: head.into(), payload }, group);
    }
}

/// Appends a frame that carries what `encode` writes, all but its tail. The times are in the item: the frame's
/// is always 0, so that a group can be entered anywhere.
fn put_frame(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>) -> Bytes) -> Bytes {
    let mut fields = Vec::new();
    let tail = encode(&mut fields);
    frame_header(out, 0, fields.len() + tail.len());
    out.extend_from_slice(&fields);
    tail
}

fn whole_frame(kind: EntryKind, delta_us: i64, payload: Bytes) -> Chunk {
    let mut head = Vec::new();
    frame_header(&mut head, delta_us, payload.len());
    Chunk { kind, dts_us: None, head: head.into(), payload }
}

/// Sound leaves in the packet of the next picture if that comes soon.
const MERGE: Merge = Merge { audio: SOUND_WAIT_MAX, all: Duration::ZERO };

/// Audio groups: short enough that a joiner isn't flooded, long enough that streams are not.
const AUDIO_GROUP_US: i64 = 1_000_000;

/// How far back the recap of a line's group reaches: longer than an edge needs to come back.
const RECAP_US: i64 = 15_000_000;

/// Rings of catalogs, events and audio. Larger than the largest room and what is so in all rooms together, with
/// which a group begins.
const SMALL_RING_BYTES: usize = 8 * 1024 * 1024;
const SMALL_RING_GROUPS: usize = 16;

#[cfg(test)]
mod tests;
