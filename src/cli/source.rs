//! A media file as a live source: its frames in decode order, and the endless loop of them.

use std::{fs, path::Path};

use bytes::Bytes;

use crate::media::{Codec, Frame, TrackKind, Tracks};

mod flv;
mod mp4;

/// A file in memory: what it says of its tracks, and its frames by decode time, starting at 0.
#[derive(Debug)]
pub(super) struct Clip {
    /// The tracks.
    pub(super) tracks: Tracks,
    /// At least one; the first picture is a keyframe.
    frames: Vec<Frame>,
    /// How long one round takes.
    duration_us: i64,
}

/// Why a file can't be published.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadClip {
    /// The system says no.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// Clips are held in memory.
    #[error("files over {} MiB are not supported; cut a piece out of it", FILE_BYTES_MAX >> 20)]
    TooLarge,
    /// Neither container.
    #[error("neither an FLV nor an MP4 file")]
    Unknown,
    /// A broken container.
    #[error("broken {container} file: {reason}")]
    Broken {
        /// FLV or MP4.
        container: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A codec that RTMP can't carry or hawker doesn't.
    #[error("codec {0} is not supported; use H.264, H.265, AV1 or VP9 with AAC or Opus")]
    Codec(String),
    /// Nothing in it.
    #[error("no frames in it, or no keyframe to start at")]
    Empty,
}

impl Clip {
    /// Reads an FLV or MP4 file.
    pub(super) fn load(path: &Path) -> Result<Self, BadClip> {
        if fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(BadClip::TooLarge);
        }
        Self::parse(fs::read(path)?.into())
    }

    /// The clip that is built in: 8 s, made by `assets/make-sample.sh`.
    pub(super) fn sample() -> Self {
        let flv = Bytes::from_static(include_bytes!("../../assets/sample.flv"));
        Self::parse(flv).expect("invariant: a test parses the built-in clip")
    }

    /// Reads a whole file.
    pub(super) fn parse(file: Bytes) -> Result<Self, BadClip> {
        match file.get(..8) {
            Some([b'F', b'L', b'V', ..]) => flv::parse(&file),
            Some([_, _, _, _, b'f' | b's', b't', b'y', b'p']) => mp4::parse(&file),
            _ => Err(BadClip::Unknown),
        }
    }

    /// Orders the frames, and moves the first to time 0. What comes before the first keyframe is left out.
    fn new(tracks: Tracks, mut frames: Vec<Frame>) -> Result<Self, BadClip> {
        frames.sort_by_key(|frame| frame.dts_us);
        if tracks.video.is_some() {
            let starts = |frame: &Frame| frame.track == TrackKind::Video && frame.keyframe;
            let first = frames.iter().position(starts).ok_or(BadClip::Empty)?;
            frames.drain(..first);
        }
        let start_us = frames.first().ok_or(BadClip::Empty)?.dts_us;
        for frame in &mut frames {
            frame.dts_us -= start_us;
            frame.pts_us -= start_us;
        }
        let ends = [TrackKind::Video, TrackKind::Audio].map(|track| track_end_us(&frames, track));
        let duration_us = ends.into_iter().max().unwrap_or(0);
        Ok(Self { tracks, frames, duration_us })
    }

    /// The clip's frames, that many times over, on a timeline that never jumps.
    pub(super) fn rounds(&self, count: usize) -> impl Iterator<Item = Frame> + '_ {
        let bases = (0i64..).map(|round| round * self.duration_us).take(count);
        bases.flat_map(|base_us| {
            self.frames.iter().map(move |frame| Frame {
                dts_us: frame.dts_us + base_us,
                pts_us: frame.pts_us + base_us,
                ..frame.clone()
            })
        })
    }

    /// The codec of `track`.
    pub(super) fn codec(&self, track: TrackKind) -> Option<Codec> {
        match track {
            TrackKind::Video => self.tracks.video.as_ref().map(|video| video.codec),
            TrackKind::Audio => self.tracks.audio.as_ref().map(|audio| audio.codec),
        }
    }
}

/// When the last frame of `track` is over, if it lasts as long as the others do on average. To the
/// millisecond: finer is lost in FLV and RTMP.
fn track_end_us(frames: &[Frame], track: TrackKind) -> i64 {
    let times = || frames.iter().filter(|frame| frame.track == track).map(|frame| frame.dts_us);
    let (Some(first), Some(last)) = (times().next(), times().next_back()) else { return 0 };
    let intervals = i64::try_from(times().count() - 1).unwrap_or(i64::MAX);
    let frame_us = if intervals == 0 { LONE_FRAME_US } else { (last - first) / intervals };
    (last + frame_us.max(1000) + 500) / 1000 * 1000
}

const FILE_BYTES_MAX: u64 = 2 << 30;
const LONE_FRAME_US: i64 = 1_000_000;

#[cfg(test)]
mod tests;
