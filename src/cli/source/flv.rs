//! FLV files as clips.

use bytes::Bytes;

use super::{BadClip, Clip};
use crate::{
    media::{Frame, Tracks, time::Unwrap},
    proto::{
        flv::{FlvReader, FlvTag, MediaTag, TagError, TagKind, script, tag},
        rtmp::amf0,
    },
};

pub(super) fn parse(file: &Bytes) -> Result<Clip, BadClip> {
    let mut reader = FlvReader::new();
    let (mut tracks, mut frames, mut clock) = (Tracks::default(), Vec::new(), Unwrap::<32>::default());
    for piece in file.chunks(PIECE_BYTES) {
        reader.handle_bytes(piece).map_err(|e| broken(&e))?;
        while let Some(tag) = reader.poll_tag() {
            take(&tag, &mut clock, &mut tracks, &mut frames)?;
        }
    }
    Clip::new(tracks, frames)
}

fn take(tag: &FlvTag, clock: &mut Unwrap<32>, tracks: &mut Tracks, frames: &mut Vec<Frame>) -> Result<(), BadClip> {
    if tag.kind == TagKind::Script {
        if let Ok(script::ScriptData::Metadata(metadata)) = script::parse(tag.body.clone(), &amf0::Limits::AUTHORISED) {
            tracks.metadata = metadata;
        }
        return Ok(());
    }
    match tag::parse(tag.kind, tag.body.clone()) {
        Ok(MediaTag::VideoConfig(config)) => {
            tracks.video.get_or_insert(config);
        }
        Ok(MediaTag::AudioConfig(config)) => {
            tracks.audio.get_or_insert(config);
        }
        Ok(MediaTag::Frame { codec, keyframe, cts_us, data }) => {
            let dts_us = clock.unwrap_next(tag.timestamp_ms) * 1000;
            frames.push(Frame { track: codec.kind(), dts_us, pts_us: dts_us + cts_us, keyframe, data });
        }
        Ok(MediaTag::Ignored) => {}
        Err(TagError::UnsupportedCodec(name)) => return Err(BadClip::Codec(name)),
        Err(e) => return Err(broken(&e)),
    }
    Ok(())
}

fn broken(error: &dyn std::error::Error) -> BadClip {
    BadClip::Broken { container: "FLV", reason: error.to_string() }
}

const PIECE_BYTES: usize = 1 << 20;
