//! The hang catalog (`catalog.json`): what a moq-lite player learns of a broadcast's tracks.
//!
//! The shape is what npm @moq/hang 0.3.5 and the crate hang 0.21 read. Sections they don't know are kept
//! by their readers, which is how the `events` track announces itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::varint::WireError;
use crate::{
    limits::MOQ_CATALOG_BYTES_MAX,
    media::{AudioConfig, Tracks, VideoConfig},
};

/// The catalog's own track.
pub const CATALOG_TRACK: &str = "catalog.json";
/// The picture.
pub const VIDEO_TRACK: &str = "video";
/// The sound.
pub const AUDIO_TRACK: &str = "audio";
/// The commerce events.
pub const EVENTS_TRACK: &str = "events";
/// What the events leave behind.
pub const STATE_TRACK: &str = "state";

/// The root of a catalog.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// Pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Renditions<Video>>,
    /// Sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<Renditions<Audio>>,
    /// Tracks of JSON values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<JsonTracks>,
}

/// The choices of one kind, by track name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Renditions<T> {
    /// Track name to configuration.
    pub renditions: BTreeMap<String, T>,
}

/// A video rendition: WebCodecs' `VideoDecoderConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Video {
    /// RFC 6381 codec string.
    pub codec: String,
    /// How frames are packed.
    #[serde(default)]
    pub container: Container,
    /// The codec's configuration record, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coded_width: Option<u32>,
    /// Pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coded_height: Option<u32>,
}

/// An audio rendition: WebCodecs' `AudioDecoderConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audio {
    /// RFC 6381 codec string.
    pub codec: String,
    /// How frames are packed.
    #[serde(default)]
    pub container: Container,
    /// The codec's configuration, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Samples a second.
    pub sample_rate: u32,
    /// Channels.
    pub number_of_channels: u32,
}

/// How frames are packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// `legacy`, `loc` or `cmaf`.
    pub kind: String,
}

impl Default for Container {
    fn default() -> Self {
        Self { kind: "legacy".to_owned() }
    }
}

/// The `json` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JsonTracks {
    /// Track name to how it is read.
    pub tracks: BTreeMap<String, JsonTrack>,
}

/// A track of JSON values, one a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonTrack {
    /// `stream`: every value counts; `snapshot`: only the last does, told whole and then by patches (@moq/json).
    pub mode: String,
    /// What the values are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

impl Catalog {
    /// The catalog of a stream with these tracks, events included.
    pub fn of(tracks: &Tracks) -> Self {
        let json = |mode: &str| JsonTrack { mode: mode.to_owned(), schema: Some(EVENT_SCHEMA.to_owned()) };
        let json = [(EVENTS_TRACK, json("stream")), (STATE_TRACK, json("snapshot"))];
        Self {
            video: tracks.video.as_ref().map(|config| one(VIDEO_TRACK, Video::of(config))),
            audio: tracks.audio.as_ref().map(|config| one(AUDIO_TRACK, Audio::of(config))),
            json: Some(JsonTracks { tracks: json.map(|(name, track)| (name.to_owned(), track)).into() }),
        }
    }

    /// The catalog as a frame's payload.
    pub fn to_json(&self) -> Bytes {
        // A tree of strings and numbers always serialises; were it not so, an empty catalog is valid too.
        serde_json::to_vec(self).unwrap_or_else(|_| b"{}".to_vec()).into()
    }

    /// Reads a catalog, ours or another publisher's.
    pub fn from_json(json: &[u8]) -> Result<Self, WireError> {
        if json.len() > MOQ_CATALOG_BYTES_MAX {
            let size = u64::try_from(json.len()).unwrap_or(u64::MAX);
            return Err(WireError::TooLarge { what: "catalog", size, max: MOQ_CATALOG_BYTES_MAX });
        }
        serde_json::from_slice(json).map_err(|_| WireError::Malformed("catalog"))
    }
}

impl Video {
    fn of(config: &VideoConfig) -> Self {
        let known = |pixels: u32| (pixels > 0).then_some(pixels);
        Self {
            codec: config.codec_string(),
            container: Container::default(),
            description: hex(&config.description),
            coded_width: known(config.width),
            coded_height: known(config.height),
        }
    }
}

impl Audio {
    fn of(config: &AudioConfig) -> Self {
        Self {
            codec: config.codec_string(),
            container: Container::default(),
            description: hex(&config.description),
            sample_rate: config.sample_rate,
            number_of_channels: config.channels.into(),
        }
    }
}

fn one<T>(track: &str, config: T) -> Renditions<T> {
    Renditions { renditions: BTreeMap::from([(track.to_owned(), config)]) }
}

/// An absent description means "in-band"; an empty one would not.
fn hex(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The schema name of the events' records.
pub const EVENT_SCHEMA: &str = "io.hawker.event.v1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Codec;

    fn tracks() -> Tracks {
        let video = VideoConfig {
            codec: Codec::Avc,
            description: Bytes::from_static(&[1, 0x42, 0xc0, 0x1f, 0xff]),
            width: 1280,
            height: 720,
        };
        let audio = AudioConfig {
            codec: Codec::Aac,
            description: Bytes::from_static(&[0x11, 0x90]),
            sample_rate: 48_000,
            channels: 2,
        };
        Tracks { video: Some(video), audio: Some(audio), ..Tracks::default() }
    }

    #[test]
    fn has_the_fields_that_moq_hang_0_3_5_requires() {
        let json: serde_json::Value = serde_json::from_slice(&Catalog::of(&tracks()).to_json()).expect("JSON");
        assert_eq!(
            json["video"]["renditions"]["video"],
            serde_json::json!({
                "codec": "avc1.42c01f", "container": {"kind": "legacy"}, "description": "0142c01fff",
                "codedWidth": 1280, "codedHeight": 720,
            })
        );
        assert_eq!(
            json["audio"]["renditions"]["audio"],
            serde_json::json!({
                "codec": "mp4a.40.2", "container": {"kind": "legacy"}, "description": "1190",
                "sampleRate": 48000, "numberOfChannels": 2,
            })
        );
        assert_eq!(json["json"]["tracks"]["events"]["mode"], "stream");
        assert_eq!(json["json"]["tracks"]["state"]["mode"], "snapshot");
    }

    #[test]
    fn round_trips_and_leaves_out_what_is_unknown() {
        let mut tracks = tracks();
        tracks.audio = None;
        if let Some(video) = &mut tracks.video {
            (video.width, video.description) = (0, Bytes::new());
        }
        let catalog = Catalog::of(&tracks);
        let json = catalog.to_json();
        assert_eq!(Catalog::from_json(&json), Ok(catalog));
        let text = std::str::from_utf8(&json).expect("UTF-8");
        assert!(!text.contains("null") && !text.contains("description") && !text.contains("codedWidth"), "{text}");
    }

    #[test]
    fn reads_sections_it_does_not_know_and_refuses_what_is_too_large() {
        let foreign = br#"{"video":{"renditions":{"hd":{"codec":"av01","extra":1}}},"scte35":{},"clock":[1]}"#;
        let catalog = Catalog::from_json(foreign).expect("a catalog");
        assert_eq!(catalog.video.expect("video").renditions["hd"].container.kind, "legacy");
        let large = vec![b' '; MOQ_CATALOG_BYTES_MAX + 1];
        assert!(matches!(Catalog::from_json(&large), Err(WireError::TooLarge { .. })));
    }
}
