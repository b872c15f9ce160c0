//! RTMP (and FLV) tags of one publisher, turned into items of the line.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    hub::{Publisher, Replaced, Stream},
    media::{AudioConfig, Codec, Frame, Metadata, TrackKind, Tracks, time::EncoderClock},
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
    /// Frames of a track that was not described yet, left out.
    pub undescribed: u64,
}

/// A publisher's session, from its first tag to its last.
pub struct TagIngest {
    publisher: Publisher,
    clock: EncoderClock,
    tracks: Tracks,
    counters: Counters,
}

impl TagIngest {
    /// A session that has just got the publisher slot.
    pub fn new(publisher: Publisher) -> Self {
        Self { publisher, clock: EncoderClock::default(), tracks: Tracks::default(), counters: Counters::default() }
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
    pub async fn replaced(&mut self) -> Replaced {
        self.publisher.replaced().await
    }

    /// The publisher said that he is done: the stream ends, rather than waiting for him to come back.
    pub fn end(self) {
        self.publisher.end();
    }

    /// An audio or video tag.
    pub fn handle_tag(&mut self, timestamp_ms: u32, tag: MediaTag) -> Result<(), Replaced> {
        match tag {
            MediaTag::VideoConfig(video) => {
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
                self.publisher.push_frame(Frame { track: codec.kind(), dts_us, pts_us, keyframe, data })?;
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

    /// Any other data message.
    pub fn handle_data(&mut self, amf0: Bytes) -> Result<(), Replaced> {
        self.counters.data += 1;
        self.publisher.push_data(amf0)
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
