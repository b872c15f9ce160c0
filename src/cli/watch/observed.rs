//! What a viewer sees, whatever the protocol: the common language of the readers and the analysis.

use std::sync::Arc;

use crate::{
    cli::mark,
    media::{Event, Room, TrackKind, Tracks, time::Unwrap},
    proto::{
        flv::{MediaTag, script},
        rtmp::amf0::{self, Value},
    },
};

/// One thing that came.
#[derive(Debug)]
pub(super) enum Observed {
    /// A coded frame.
    Frame { track: TrackKind, dts_us: i64, pts_us: i64, keyframe: bool, bytes: usize },
    /// An event. `at_us` is its presentation time on the timeline of the frames; `in_line` tells whether its
    /// place among the frames is its time, or else its reader waits for the frame itself.
    Event { event: Arc<Event>, at_us: Option<i64>, replay: bool, in_line: bool },
    /// The state of the room, or one part of it; `anew` where it replaces what was known.
    Snapshot { events: Vec<Arc<Event>>, at: SnapshotTime, anew: bool },
    /// The publisher's wall clock when it sent what follows.
    Clock { wall_ms: i64 },
}

/// The same moment on the stream's timeline and on that of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SnapshotTime {
    pub(super) pts_us: i64,
    pub(super) at_us: i64,
}

/// Reads what FLV tags and RTMP messages have in common.
#[derive(Debug, Default)]
pub(super) struct TagReader {
    clock: Unwrap<32>,
    /// What is known of the tracks so far.
    pub(super) tracks: Tracks,
}

impl TagReader {
    /// A frame, or `None` for configuration.
    pub(super) fn media(&mut self, timestamp_ms: u32, tag: MediaTag) -> Option<Observed> {
        let dts_us = self.clock.unwrap_next(timestamp_ms) * 1000;
        match tag {
            MediaTag::VideoConfig(config) => self.tracks.video = Some(config),
            MediaTag::AudioConfig(config) => self.tracks.audio = Some(config),
            MediaTag::Frame { codec, keyframe, cts_us, data } => {
                let (track, pts_us) = (codec.kind(), dts_us + cts_us);
                return Some(Observed::Frame { track, dts_us, pts_us, keyframe, bytes: data.len() });
            }
            MediaTag::Ignored => {}
        }
        None
    }
}

/// What a data message says, if it is one of ours.
pub(super) fn data(amf0: &[u8]) -> Option<Observed> {
    let values = amf0::decode_all(amf0, &amf0::Limits::AUTHORISED).ok()?;
    let (name, value) = (values.first()?.as_str()?, values.get(1)?);
    if let Some(wall_ms) = mark::decode(name, value) {
        return Some(Observed::Clock { wall_ms });
    }
    if name != script::LiveEvent::NAME {
        return None;
    }
    let json = value.get_str("json")?.as_bytes();
    let at_us = value.get("ts").and_then(Value::as_number).map(|ms| (ms * 1000.0) as i64);
    if value.get_str("kind") == Some("snap") {
        let mut events = Vec::new();
        let (room, at) = Room::from_json(json, &mut events).ok()?;
        events.extend(room.beyond(&Room::default()));
        let at = SnapshotTime { pts_us: at.pts_us, at_us: at_us? };
        let first =
            |part: &Value| matches!(part, Value::StrictArray(place) if place.first() == Some(&Value::Number(0.0)));
        return Some(Observed::Snapshot { events, at, anew: value.get("part").is_none_or(first) });
    }
    let event = Arc::new(Event::from_json(json).ok()?);
    let replay = value.get("rp") == Some(&Value::Bool(true));
    Some(Observed::Event { event, at_us, replay, in_line: true })
}
