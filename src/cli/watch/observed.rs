//! What a viewer sees, whatever the protocol: the common language of the readers and the analysis.

use bytes::Bytes;

use super::Failed;
use crate::{
    cli::mark,
    media::{Event, TrackKind, Tracks, time::Unwrap},
    proto::{
        flv::{MediaTag, TagKind, script, tag},
        rtmp::amf0::{self, Value},
    },
};

/// One thing that came.
#[derive(Debug)]
pub(super) enum Observed {
    /// A coded frame.
    Frame { track: TrackKind, dts_us: i64, pts_us: i64, keyframe: bool, bytes: usize },
    /// An event. `at_us` is its presentation time on the timeline of the frames.
    Event { event: Box<Event>, at_us: Option<i64>, replay: bool },
    /// The state of the room.
    Snapshot,
    /// The publisher's wall clock when it sent what follows.
    Clock { wall_ms: i64 },
}

/// Reads the bodies that FLV tags and RTMP messages share.
#[derive(Debug, Default)]
pub(super) struct TagReader {
    clock: Unwrap<32>,
    /// What is known of the tracks so far.
    pub(super) tracks: Tracks,
}

impl TagReader {
    /// What a body says; `None` for configuration, and for data that nobody reads.
    pub(super) fn read(&mut self, kind: TagKind, timestamp_ms: u32, body: &Bytes) -> Result<Option<Observed>, Failed> {
        let dts_us = self.clock.unwrap_next(timestamp_ms) * 1000;
        if kind == TagKind::Script {
            return Ok(self.script(body));
        }
        match tag::parse(kind, body).map_err(|e| Failed::Broken(e.to_string()))? {
            MediaTag::VideoConfig(config) => self.tracks.video = Some(config),
            MediaTag::AudioConfig(config) => self.tracks.audio = Some(config),
            MediaTag::Frame { codec, keyframe, cts_us, data } => {
                let pts_us = dts_us + cts_us;
                return Ok(Some(Observed::Frame {
                    track: codec.kind(),
                    dts_us,
                    pts_us,
                    keyframe,
                    bytes: data.len(),
                }));
            }
            MediaTag::Ignored => {}
        }
        Ok(None)
    }

    fn script(&mut self, body: &Bytes) -> Option<Observed> {
        let data = match script::parse(body.clone(), &amf0::Limits::AUTHORISED).ok()? {
            script::ScriptData::Metadata(metadata) => {
                self.tracks.metadata = metadata;
                return None;
            }
            script::ScriptData::Data(data) => data,
        };
        let values = amf0::decode_all(&data, &amf0::Limits::AUTHORISED).ok()?;
        let (name, value) = (values.first()?.as_str()?, values.get(1)?);
        if let Some(wall_ms) = mark::decode(name, value) {
            return Some(Observed::Clock { wall_ms });
        }
        if name != script::LiveEvent::NAME {
            return None;
        }
        if value.get_str("kind") == Some("snap") {
            return Some(Observed::Snapshot);
        }
        let event = Event::from_json(value.get_str("json")?.as_bytes()).ok()?;
        let at_us = value.get("ts").and_then(Value::as_number).map(|ms| (ms * 1000.0) as i64);
        let replay = value.get("rp") == Some(&Value::Bool(true));
        Some(Observed::Event { event: Box::new(event), at_us, replay })
    }
}
