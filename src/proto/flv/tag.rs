//! Media bodies of FLV tags and RTMP messages: classic (Annex E.4.2, E.4.3) and Enhanced RTMP v2.
//!
//! In: whatever encoders send. Out: classic FLV where it can name the codec, because players know
//! nothing else there; Enhanced RTMP's FourCC for the rest.

mod enhanced;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::media::{AudioConfig, Codec, VideoConfig};

/// The type of an FLV tag, and of the RTMP message with the same body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagKind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
    /// AMF0 data.
    Script,
}

impl From<TagKind> for u8 {
    fn from(kind: TagKind) -> Self {
        match kind {
            TagKind::Audio => 8,
            TagKind::Video => 9,
            TagKind::Script => 18,
        }
    }
}

impl TryFrom<u8> for TagKind {
    type Error = ();

    fn try_from(kind: u8) -> Result<Self, Self::Error> {
        match kind {
            8 => Ok(Self::Audio),
            9 => Ok(Self::Video),
            18 => Ok(Self::Script),
            _ => Err(()),
        }
    }
}

/// What one audio or video body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaTag {
    /// The picture's decoder configuration.
    VideoConfig(VideoConfig),
    /// The sound's decoder configuration.
    AudioConfig(AudioConfig),
    /// One coded frame.
    Frame {
        /// The codec, which also says the track.
        codec: Codec,
        /// Decoding may start here. Always true for sound.
        keyframe: bool,
        /// Presentation time less decode time, microseconds.
        cts_us: i64,
        /// The coded frame; shares the body's memory.
        data: Bytes,
    },
    /// Nothing that hawker carries: end of sequence, colour metadata, seek commands, tracks beyond the first.
    Ignored,
}

/// Why a media body is refused. Always the publisher's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// The body ends inside its header.
    #[error("media tag ends inside its header")]
    Truncated,
    /// A codec that hawker doesn't carry.
    #[error("codec {0} is not supported; send H.264, H.265, AV1 or VP9 with AAC or Opus")]
    UnsupportedCodec(String),
}

/// Parses a body of the given kind; script bodies are [`MediaTag::Ignored`].
pub fn parse(kind: TagKind, body: Bytes) -> Result<MediaTag, TagError> {
    match kind {
        TagKind::Audio => parse_audio(body),
        TagKind::Video => parse_video(body),
        TagKind::Script => Ok(MediaTag::Ignored),
    }
}

fn parse_video(mut body: Bytes) -> Result<MediaTag, TagError> {
    // Some encoders keep the connection warm with empty messages.
    let Ok(first) = body.try_get_u8() else { return Ok(MediaTag::Ignored) };
    if first & 0x80 != 0 {
        return enhanced::parse_video(first, body);
    }
    let codec = match first & 0x0f {
        7 => Codec::Avc,
        12 => Codec::Hevc,
        other => return Err(unsupported(VIDEO_CODECS, other)),
    };
    let frame_type = first >> 4;
    if frame_type == FRAME_TYPE_COMMAND {
        return Ok(MediaTag::Ignored);
    }
    let packet_type = body.try_get_u8().map_err(truncated)?;
    let cts_ms = get_i24(&mut body)?;
    Ok(match packet_type {
        0 => MediaTag::VideoConfig(VideoConfig::from_description(codec, body)),
        1 => frame(codec, frame_type == FRAME_TYPE_KEY, i64::from(cts_ms) * 1000, body),
        _ => MediaTag::Ignored,
    })
}

fn parse_audio(mut body: Bytes) -> Result<MediaTag, TagError> {
    let Ok(first) = body.try_get_u8() else { return Ok(MediaTag::Ignored) };
    match first >> 4 {
        9 => return enhanced::parse_audio(first, body),
        10 => {}
        other => return Err(unsupported(AUDIO_CODECS, other)),
    }
    // An AAC body of one byte is a keep-alive too.
    let Ok(packet_type) = body.try_get_u8() else { return Ok(MediaTag::Ignored) };
    Ok(match packet_type {
        0 => MediaTag::AudioConfig(AudioConfig::from_description(Codec::Aac, body)),
        1 => frame(Codec::Aac, true, 0, body),
        _ => MediaTag::Ignored,
    })
}

/// A frame; an empty one has nothing to decode.
fn frame(codec: Codec, keyframe: bool, cts_us: i64, mut data: Bytes) -> MediaTag {
    // A temporal delimiter is not part of the low-overhead form (AV1 codec ISO media binding §2.4).
    if codec == Codec::Av1 && data.starts_with(&[0x12, 0x00]) {
        data.advance(2);
    }
    if data.is_empty() {
        return MediaTag::Ignored;
    }
    MediaTag::Frame { codec, keyframe, cts_us, data }
}

/// Signed 24 bits.
fn get_i24(body: &mut Bytes) -> Result<i32, TagError> {
    let [high, middle] = body.try_get_u16().map_err(truncated)?.to_be_bytes();
    let low = body.try_get_u8().map_err(truncated)?;
    Ok(i32::from_be_bytes([high, middle, low, 0]) >> 8)
}

fn truncated(_: bytes::TryGetError) -> TagError {
    TagError::Truncated
}

fn unsupported(names: &[(u8, &str)], id: u8) -> TagError {
    let name = names.iter().find(|(known, _)| *known == id).map(|(_, name)| (*name).to_owned());
    TagError::UnsupportedCodec(name.unwrap_or_else(|| format!("number {id}")))
}

/// A body to send: a few bytes of header, then a payload that is shared, not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagBody {
    /// What it is.
    pub kind: TagKind,
    /// The codec's own tag header, at most 8 bytes; empty for script data.
    pub header: Bytes,
    /// The frame, configuration record or AMF0.
    pub payload: Bytes,
}

impl TagBody {
    /// Script data: an AMF0 name and its values.
    pub fn script(amf0: Bytes) -> Self {
        Self { kind: TagKind::Script, header: Bytes::new(), payload: amf0 }
    }

    /// The picture's decoder configuration.
    pub fn video_config(config: &VideoConfig) -> Self {
        let header = match config.codec {
            Codec::Avc => vec![FRAME_TYPE_KEY << 4 | 7, 0, 0, 0, 0],
            codec => enhanced::video_header(codec, true, enhanced::SEQUENCE_START),
        };
        Self { kind: TagKind::Video, header: header.into(), payload: config.description.clone() }
    }

    /// The sound's decoder configuration.
    pub fn audio_config(config: &AudioConfig) -> Self {
        let header = match config.codec {
            Codec::Opus => enhanced::audio_header(enhanced::SEQUENCE_START),
            _ => vec![AAC_HEADER, 0],
        };
        Self { kind: TagKind::Audio, header: header.into(), payload: config.description.clone() }
    }

    /// One coded picture, shown `cts_ms` after its tag's timestamp.
    pub fn video_frame(codec: Codec, keyframe: bool, cts_ms: i32, data: Bytes) -> Self {
        let mut header = BytesMut::with_capacity(8);
        match codec {
            Codec::Avc => {
                let frame_type = if keyframe { FRAME_TYPE_KEY } else { FRAME_TYPE_INTER };
                header.put_slice(&[frame_type << 4 | 7, 1]);
                header.put_int(cts_ms.into(), 3);
            }
            Codec::Hevc if cts_ms != 0 => {
                header.put_slice(&enhanced::video_header(codec, keyframe, enhanced::CODED_FRAMES));
                header.put_int(cts_ms.into(), 3);
            }
            Codec::Hevc => header.put_slice(&enhanced::video_header(codec, keyframe, enhanced::CODED_FRAMES_X)),
            // AV1 and VP9 have no reordering between decode and presentation, hence no offset field.
            _ => header.put_slice(&enhanced::video_header(codec, keyframe, enhanced::CODED_FRAMES)),
        }
        Self { kind: TagKind::Video, header: header.freeze(), payload: data }
    }

    /// One coded audio frame.
    pub fn audio_frame(codec: Codec, data: Bytes) -> Self {
        let header = match codec {
            Codec::Opus => enhanced::audio_header(enhanced::CODED_FRAMES),
            _ => vec![AAC_HEADER, 1],
        };
        Self { kind: TagKind::Audio, header: header.into(), payload: data }
    }

    /// Bytes of header and payload.
    pub fn length(&self) -> u32 {
        u32::try_from(self.header.len() + self.payload.len()).unwrap_or(u32::MAX)
    }
}

const FRAME_TYPE_KEY: u8 = 1;
const FRAME_TYPE_INTER: u8 = 2;
const FRAME_TYPE_COMMAND: u8 = 5;

/// SoundFormat 10, 44 kHz, 16 bit, stereo: fixed for AAC, whose configuration says the truth (E.4.2.1).
const AAC_HEADER: u8 = 0xaf;

const VIDEO_CODECS: &[(u8, &str)] = &[
    (2, "Sorenson H.263"),
    (3, "Screen Video"),
    (4, "VP6"),
    (5, "VP6 with alpha"),
    (6, "Screen Video 2"),
    (8, "H.263"),
    (9, "MPEG-4 Part 2"),
    (13, "AV1 as CodecID 13 (use Enhanced RTMP)"),
];

const AUDIO_CODECS: &[(u8, &str)] = &[
    (0, "PCM"),
    (1, "ADPCM"),
    (2, "MP3"),
    (3, "PCM"),
    (4, "Nellymoser"),
    (5, "Nellymoser"),
    (6, "Nellymoser"),
    (7, "G.711 A-law"),
    (8, "G.711 mu-law"),
    (11, "Speex"),
    (13, "Opus as SoundFormat 13 (use Enhanced RTMP)"),
    (14, "MP3"),
];

/// Fuzz entry: the body of one tag.
pub mod fuzz {
    use bytes::Bytes;

    use super::{MediaTag, TagBody, TagKind, parse};

    /// The first byte says whether it is a picture's or a sound's; what is read can be written, and then says the same.
    pub fn enhanced(data: &[u8]) {
        let Some((&first, body)) = data.split_first() else { return };
        let kind = if first & 1 == 0 { TagKind::Video } else { TagKind::Audio };
        let Ok(tag) = parse(kind, Bytes::copy_from_slice(body)) else { return };
        let written = match &tag {
            MediaTag::VideoConfig(config) => TagBody::video_config(config),
            MediaTag::AudioConfig(config) => TagBody::audio_config(config),
            _ => return,
        };
        let again = [written.header.as_ref(), written.payload.as_ref()].concat();
        assert_eq!(parse(kind, again.into()), Ok(tag), "a configuration changed on its way");
    }
}

#[cfg(test)]
mod tests;
