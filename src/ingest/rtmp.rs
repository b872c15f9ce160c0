//! RTMP (and FLV) tags of one publisher, turned into items of the line.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::inband::{InBand, InBandAt};
use crate::{
    hub::{At, Publisher, Replaced, Stream},
    limits,
    media::{
        Anchor, AudioConfig, Codec, Frame, Metadata, TrackKind, Tracks,
        codec::sei::{NalFormat, UserData},
        time::EncoderClock,
    },
    proto::flv::MediaTag,
};

/// What one publisher sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Video frames.
    pub video_frames: u64,
    /// Audio frames.
    pub audio_frames: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Data messages.
    pub data: u64,
    /// Events, in data messages or SEI; also those refused.
    pub events: u64,
    /// Frames of a track that was not described yet, left out.
    pub undescribed: u64,
}

/// A publisher's session, from its first tag to its last.
pub struct TagIngest {
    publisher: Publisher,
    clock: EncoderClock,
    tracks: Tracks,
    counters: Counters,
    may_send_events: bool,
    nal_format: Option<NalFormat>,
    /// PTS of the newest frame, by the publisher's clock.
    newest_us: i64,
    in_band: VecDeque<Result<Draft, &'static str>>,
    anchor: Option<AnchorAt>,
}

/// An event that the publisher sent inside the stream, and when it shall fire.
pub type Draft = (Map<String, Value>, At);

/// What the encoder said of the time of one of its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorAt {
    /// Who says it.
    pub anchor: Anchor,
    /// The picture's place on the stream's timeline.
    pub pts_us: i64,
    /// UTC microseconds.
    pub wall_us: i64,
}

impl TagIngest {
    /// A session that has a place among the publishers; it may have the right to put events into the stream.
    pub fn new(publisher: Publisher, may_send_events: bool) -> Self {
        Self {
            publisher,
            clock: EncoderClock::default(),
            tracks: Tracks::default(),
            counters: Counters::default(),
            may_send_events,
            nal_format: None,
            newest_us: 0,
            in_band: VecDeque::new(),
            anchor: None,
        }
    }

    /// The stream published to.
    pub fn stream(&self) -> &Arc<Stream> {
        self.publisher.stream()
    }

    /// What came so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The codecs, for the log.
    pub fn codecs(&self) -> String {
        let video = self.tracks.video.as_ref().map(|video| video.codec);
        let audio = self.tracks.audio.as_ref().map(|audio| audio.codec);
        let names: Vec<_> = [video, audio].into_iter().flatten().map(Codec::as_str).collect();
        names.join("+")
    }

    /// Resolves when a newer session has taken the stream over.
    pub fn replaced(&self) -> impl Future<Output = Replaced> + use<> {
        self.publisher.replaced()
    }

    /// The publisher said that he is done: the stream ends, rather than waiting for him to come back.
    pub fn end(self) {
        self.publisher.end();
    }

    /// An audio or video tag.
    pub fn handle_tag(&mut self, timestamp_ms: u32, tag: MediaTag) -> Result<(), Replaced> {
        match tag {
            MediaTag::VideoConfig(video) => {
                self.nal_format = NalFormat::of(&video);
                self.tracks.video = Some(video);
                self.publisher.set_tracks(self.tracks.clone())?;
            }
            MediaTag::AudioConfig(audio) => {
                self.tracks.audio = Some(audio);
                self.publisher.set_tracks(self.tracks.clone())?;
            }
            MediaTag::Frame { codec, keyframe, cts_us, data } => {
                self.describe_opus(codec)?;
                if !self.is_described(codec) {
                    self.counters.undescribed += 1;
                    return Ok(());
                }
                let dts_us = self.clock.micros(timestamp_ms);
                match codec.kind() {
                    TrackKind::Video => self.counters.video_frames += 1,
                    TrackKind::Audio => self.counters.audio_frames += 1,
                }
                self.counters.bytes += data.len() as u64;
                let pts_us = dts_us.saturating_add(cts_us);
                let said = self.read_sei(codec.kind(), keyframe, &data);
                self.publisher.push_frame(Frame { track: codec.kind(), dts_us, pts_us, keyframe, data })?;
                self.newest_us = pts_us;
                for said in said {
                    self.take(InBand::from_sei(&said), Some(pts_us));
                }
            }
            MediaTag::Ignored => {}
        }
        Ok(())
    }

    /// The publisher's `onMetaData`.
    pub fn handle_metadata(&mut self, metadata: Metadata) -> Result<(), Replaced> {
        self.tracks.metadata = metadata;
        if self.tracks.video.is_some() || self.tracks.audio.is_some() {
            self.publisher.set_tracks(self.tracks.clone())?;
        }
        Ok(())
    }

    /// Any other data message. Events don't pass as such: they come out of [`TagIngest::poll_draft`].
    pub fn handle_data(&mut self, amf0: Bytes) -> Result<(), Replaced> {
        self.counters.data += 1;
        let said = InBand::from_data(&amf0);
        let is_event = matches!(said, InBand::Draft { .. } | InBand::Malformed(_));
        self.take(said, None);
        if is_event { Ok(()) } else { self.publisher.push_data(amf0) }
    }

    /// The next event that came inside the stream, or why it is none. To be drained after each message.
    pub fn poll_draft(&mut self) -> Option<Result<Draft, &'static str>> {
        self.in_band.pop_front()
    }

    /// The newest word of the encoder on what time it is.
    pub fn poll_anchor(&mut self) -> Option<AnchorAt> {
        self.anchor.take()
    }

    /// Sets the room clock by that word. False if it can't be true.
    pub fn set_clock(&mut self, said: AnchorAt) -> bool {
        self.publisher.handle_anchor(said.anchor, said.pts_us, said.wall_us)
    }

    /// Of a publisher without the right only keyframes are looked at: OBS puts the time into those.
    fn read_sei(&self, track: TrackKind, keyframe: bool, data: &[u8]) -> Vec<UserData> {
        match self.nal_format {
            Some(format) if track == TrackKind::Video && (keyframe || self.may_send_events) => format.user_data(data),
            _ => Vec::new(),
        }
    }

    /// Takes what was said, beside the picture with this PTS (of the publisher's clock) or between pictures.
    fn take(&mut self, said: InBand, beside_us: Option<i64>) {
        let draft = match said {
            InBand::NotEvent => return,
            InBand::Anchor { anchor, wall_us } => {
                let pts_us = self.publisher.place(beside_us.unwrap_or(self.newest_us));
                self.anchor = pts_us.map(|pts_us| AnchorAt { anchor, pts_us, wall_us }).or(self.anchor);
                return;
            }
            // Two encoders of one show say the same.
            _ if !self.publisher.is_on_air() => return,
            _ if !self.may_send_events => Err("the stream key has no right to send events"),
            InBand::Malformed(reason) => Err(reason),
            InBand::Draft { draft, at } => Ok((draft, self.hub_time(at, beside_us))),
        };
        self.counters.events += 1;
        self.in_band.push_back(draft);
    }

    fn hub_time(&self, at: InBandAt, beside_us: Option<i64>) -> At {
        let publisher_us = match at {
            InBandAt::InMs(ms) => return At::InMs(ms),
            InBandAt::WallMs(ms) => return At::WallMs(ms),
            InBandAt::Here => beside_us,
            InBandAt::PublisherMs(ms) => {
                let us = ms.saturating_mul(1000);
                let ahead_us = us.saturating_sub(self.newest_us);
                u128::try_from(ahead_us).ok().filter(|ahead| *ahead <= AHEAD_US_MAX).map(|_| us)
            }
        };
        publisher_us.and_then(|us| self.publisher.place(us)).map_or(At::Now, At::PtsUs)
    }

    fn is_described(&self, codec: Codec) -> bool {
        match codec.kind() {
            TrackKind::Video => self.tracks.video.as_ref().is_some_and(|video| video.codec == codec),
            TrackKind::Audio => self.tracks.audio.as_ref().is_some_and(|audio| audio.codec == codec),
        }
    }

    /// Opus needs no configuration, and some encoders send none.
    fn describe_opus(&mut self, codec: Codec) -> Result<(), Replaced> {
        if codec == Codec::Opus && self.tracks.audio.is_none() {
            self.tracks.audio = Some(AudioConfig::from_description(Codec::Opus, Bytes::new()));
            self.publisher.set_tracks(self.tracks.clone())?;
        }
        Ok(())
    }
}

const AHEAD_US_MAX: u128 = limits::IN_BAND_AHEAD_MAX.as_micros();
