//! The items of a stream's line: configuration, frames, publisher data and events.
//!
//! Payloads are `Bytes`, allocated once at ingest; cloning an item never copies media.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    StreamName,
    event::{Event, Moment},
    room::Room,
};

/// One entry in a stream's line. Everything downstream of ingest reads these, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// What a joiner needs from here on. Always precedes the first frame it describes.
    Head(Arc<Head>),
    /// One coded picture or audio frame.
    Frame(Frame),
    /// A commerce event; it belongs to the frame that follows it.
    Event(Arc<Event>),
    /// A data message of the publisher's encoder, carried as it came.
    Data(Data),
}

/// The configuration and the room at a place of the line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Head {
    /// The tracks.
    pub tracks: Arc<Tracks>,
    /// What is so in the room.
    pub room: Arc<Room>,
    /// What is so in all rooms of the organisation.
    pub global: Arc<Room>,
    /// The place.
    pub at: Moment,
    /// Grows when readers must take the room for the new truth, whatever they were told before.
    pub resync: u64,
}

impl Head {
    /// Nothing but tracks.
    pub fn of(tracks: Arc<Tracks>) -> Arc<Self> {
        Arc::new(Self { tracks, ..Self::default() })
    }

    /// The snapshots that tell a joiner the room, each at most about `bytes_max` long; none for an empty room.
    pub fn snapshots(&self, source: &StreamName, bytes_max: usize) -> Vec<String> {
        let global = self.global.replay(self.at);
        if self.room.is_empty() && global.is_empty() {
            return Vec::new();
        }
        self.room.parts(source, self.at, &global, bytes_max)
    }
}

/// Which of the (at most two) media tracks a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrackKind {
    /// The picture.
    Video,
    /// The sound.
    Audio,
}

/// Codecs that hawker carries. What it can't name it refuses at ingest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264 (ISO/IEC 14496-10), length-prefixed NAL units, description = avcC.
    Avc,
    /// H.265 (ISO/IEC 23008-2), length-prefixed NAL units, description = hvcC.
    Hevc,
    /// AV1, low-overhead OBUs without temporal delimiters, description = av1C.
    Av1,
    /// VP8 (RFC 6386), no description: its size is in every keyframe.
    Vp8,
    /// VP9, description = vpcC.
    Vp9,
    /// AAC (ISO/IEC 14496-3), raw frames, description = AudioSpecificConfig.
    Aac,
    /// Opus (RFC 6716), one packet a frame, description = OpusHead (RFC 7845 §5.1), may be empty.
    Opus,
}

impl Codec {
    /// The track kind that this codec makes.
    pub fn kind(self) -> TrackKind {
        match self {
            Self::Avc | Self::Hevc | Self::Av1 | Self::Vp8 | Self::Vp9 => TrackKind::Video,
            Self::Aac | Self::Opus => TrackKind::Audio,
        }
    }

    /// Short name for logs, metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avc => "h264",
            Self::Hevc => "h265",
            Self::Av1 => "av1",
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::Aac => "aac",
            Self::Opus => "opus",
        }
    }
}

/// A video track's decoder configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfig {
    /// The codec.
    pub codec: Codec,
    /// The codec's configuration record (avcC, hvcC, av1C, vpcC).
    pub description: Bytes,
    /// Coded width in pixels, 0 when unknown.
    pub width: u32,
    /// Coded height in pixels, 0 when unknown.
    pub height: u32,
}

/// An audio track's decoder configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioConfig {
    /// The codec.
    pub codec: Codec,
    /// The codec's configuration (AudioSpecificConfig, OpusHead).
    pub description: Bytes,
    /// Samples a second.
    pub sample_rate: u32,
    /// Channel count.
    pub channels: u8,
}

/// A publisher metadata value that hawker keeps: scalars only.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// A number.
    Number(f64),
    /// A boolean.
    Bool(bool),
    /// A string.
    String(String),
}

/// The publisher's own description of the stream (`onMetaData`), in the order it came.
pub type Metadata = Vec<(String, Scalar)>;

/// The configuration of a stream at a point of its line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tracks {
    /// The picture, once its configuration is known.
    pub video: Option<VideoConfig>,
    /// The sound, once its configuration is known.
    pub audio: Option<AudioConfig>,
    /// What the publisher said of itself.
    pub metadata: Metadata,
    /// Grows by one whenever the publisher's clock restarts (events.md, `time.epoch`).
    pub epoch: u64,
}

/// One coded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The track.
    pub track: TrackKind,
    /// Decode time on the stream's timeline, microseconds.
    pub dts_us: i64,
    /// Presentation time on the stream's timeline, microseconds.
    pub pts_us: i64,
    /// Decoding may start here (IDR for video).
    pub keyframe: bool,
    /// The coded frame in the codec's own form (see [`Codec`]).
    pub data: Bytes,
}

/// A data message from the publisher (RTMP type 18): the AMF0 values, unparsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// Time on the stream's timeline, microseconds.
    pub dts_us: i64,
    /// AMF0: a name, then its values.
    pub amf0: Bytes,
}

impl Item {
    /// Decode time of a frame or data item; `None` for items that take their neighbour's time.
    pub fn dts_us(&self) -> Option<i64> {
        match self {
            Self::Frame(frame) => Some(frame.dts_us),
            Self::Data(data) => Some(data.dts_us),
            Self::Head(_) | Self::Event(_) => None,
        }
    }
}
