//! Enhanced RTMP v2 (Veovera, 2024): ExVideoTagHeader, ExAudioTagHeader, ModEx and multitrack.

use bytes::{Buf, Bytes};

use super::{FRAME_TYPE_COMMAND, FRAME_TYPE_INTER, FRAME_TYPE_KEY, MediaTag, TagError, frame, get_i24, truncated};
use crate::media::{AudioConfig, Codec, VideoConfig};

/// Packet types; audio and video number these alike.
pub(super) const SEQUENCE_START: u8 = 0;
pub(super) const CODED_FRAMES: u8 = 1;
pub(super) const CODED_FRAMES_X: u8 = 3;
const VIDEO_METADATA: u8 = 4;
const VIDEO_MULTITRACK: u8 = 6;
const AUDIO_MULTITRACK: u8 = 5;
const MOD_EX: u8 = 7;

pub(super) fn parse_video(first: u8, mut body: Bytes) -> Result<MediaTag, TagError> {
    let frame_type = first >> 4 & 0x07;
    let (packet_type, offset_us) = read_mod_ex(first & 0x0f, &mut body)?;
    if frame_type == FRAME_TYPE_COMMAND || packet_type == VIDEO_METADATA {
        return Ok(MediaTag::Ignored);
    }
    let Some(Track { packet_type, four_cc, mut data }) = read_track(packet_type, VIDEO_MULTITRACK, body)? else {
        return Ok(MediaTag::Ignored);
    };
    let codec = match &four_cc {
        b"avc1" => Codec::Avc,
        b"hvc1" => Codec::Hevc,
        b"av01" => Codec::Av1,
        b"vp08" => Codec::Vp8,
        b"vp09" => Codec::Vp9,
        _ => return Err(unsupported(four_cc)),
    };
    let keyframe = frame_type == FRAME_TYPE_KEY;
    Ok(match packet_type {
        SEQUENCE_START => MediaTag::VideoConfig(VideoConfig::from_description(codec, data)),
        CODED_FRAMES if matches!(codec, Codec::Avc | Codec::Hevc) => {
            let cts_ms = get_i24(&mut data)?;
            frame(codec, keyframe, i64::from(cts_ms) * 1000 + offset_us, data)
        }
        CODED_FRAMES | CODED_FRAMES_X => frame(codec, keyframe, offset_us, data),
        _ => MediaTag::Ignored,
    })
}

pub(super) fn parse_audio(first: u8, mut body: Bytes) -> Result<MediaTag, TagError> {
    let (packet_type, offset_us) = read_mod_ex(first & 0x0f, &mut body)?;
    let Some(Track { packet_type, four_cc, data }) = read_track(packet_type, AUDIO_MULTITRACK, body)? else {
        return Ok(MediaTag::Ignored);
    };
    let codec = match &four_cc {
        b"mp4a" => Codec::Aac,
        b"Opus" => Codec::Opus,
        _ => return Err(unsupported(four_cc)),
    };
    Ok(match packet_type {
        SEQUENCE_START => MediaTag::AudioConfig(AudioConfig::from_description(codec, data)),
        CODED_FRAMES => frame(codec, true, offset_us, data),
        _ => MediaTag::Ignored,
    })
}

pub(super) fn video_header(codec: Codec, keyframe: bool, packet_type: u8) -> Vec<u8> {
    let frame_type = if keyframe { FRAME_TYPE_KEY } else { FRAME_TYPE_INTER };
    let four_cc = match codec {
        Codec::Hevc => b"hvc1",
        Codec::Av1 => b"av01",
        Codec::Vp8 => b"vp08",
        Codec::Vp9 => b"vp09",
        _ => b"avc1",
    };
    let mut header = vec![0x80 | frame_type << 4 | packet_type];
    header.extend_from_slice(four_cc);
    header
}

/// For Opus, the only sound that classic FLV has no number for.
pub(super) fn audio_header(packet_type: u8) -> Vec<u8> {
    let mut header = vec![9 << 4 | packet_type];
    header.extend_from_slice(b"Opus");
    header
}

/// Reads packet modifiers until a real packet type; gives it and the timestamp's sub-millisecond part.
fn read_mod_ex(mut packet_type: u8, body: &mut Bytes) -> Result<(u8, i64), TagError> {
    const TIMESTAMP_OFFSET_NANO: u8 = 0;
    let mut offset_us = 0;
    while packet_type == MOD_EX {
        let mut length = usize::from(body.try_get_u8().map_err(truncated)?) + 1;
        if length == 256 {
            length = usize::from(body.try_get_u16().map_err(truncated)?) + 1;
        }
        if body.len() < length {
            return Err(TagError::Truncated);
        }
        let mut data = body.split_to(length);
        let next = body.try_get_u8().map_err(truncated)?;
        if next >> 4 == TIMESTAMP_OFFSET_NANO
            && let Ok(nanos) = data.try_get_uint(3)
        {
            offset_us = i64::try_from(nanos.min(999_999) / 1000).unwrap_or_default();
        }
        packet_type = next & 0x0f;
    }
    Ok((packet_type, offset_us))
}

struct Track {
    packet_type: u8,
    four_cc: [u8; 4],
    data: Bytes,
}

/// The body of the only track, or of track 0 of several; `None` if there is no track 0.
fn read_track(packet_type: u8, multitrack: u8, mut body: Bytes) -> Result<Option<Track>, TagError> {
    const ONE_TRACK: u8 = 0;
    const MANY_TRACKS_MANY_CODECS: u8 = 2;
    if packet_type != multitrack {
        let four_cc = read_four_cc(&mut body)?;
        return Ok(Some(Track { packet_type, four_cc, data: body }));
    }
    let types = body.try_get_u8().map_err(truncated)?;
    let (layout, packet_type) = (types >> 4, types & 0x0f);
    let mut four_cc = [0; 4];
    if layout != MANY_TRACKS_MANY_CODECS {
        four_cc = read_four_cc(&mut body)?;
    }
    while !body.is_empty() {
        if layout == MANY_TRACKS_MANY_CODECS {
            four_cc = read_four_cc(&mut body)?;
        }
        let id = body.try_get_u8().map_err(truncated)?;
        let length = match layout {
            ONE_TRACK => body.len(),
            _ => usize::try_from(body.try_get_uint(3).map_err(truncated)?).unwrap_or(usize::MAX),
        };
        if body.len() < length {
            return Err(TagError::Truncated);
        }
        let data = body.split_to(length);
        if id == 0 {
            return Ok(Some(Track { packet_type, four_cc, data }));
        }
    }
    Ok(None)
}

fn read_four_cc(body: &mut Bytes) -> Result<[u8; 4], TagError> {
    body.try_get_u32().map(u32::to_be_bytes).map_err(truncated)
}

fn unsupported(four_cc: [u8; 4]) -> TagError {
    TagError::UnsupportedCodec(four_cc.escape_ascii().to_string())
}
