//! One viewer of tags: his prologue, then the shared tags from the newest keyframe on.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    outlet::Outlet,
    tags::{Carriage, Egress, Extras, HeadTags, TagEntry},
};
use crate::{
    clock::{self, Instant},
    hub::{Cursor, End, EntryKind, Muxed, Patience, Read, Viewer},
    media::{Codec, Scalar, Tracks},
    proto::flv::{self, TagBody, script},
};

/// What a viewer got.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Frames sent.
    pub frames: u64,
    /// Frames left out because he was too slow.
    pub frames_skipped: u64,
    /// Events sent.
    pub events: u64,
    /// Events of snapshots sent.
    pub events_replayed: u64,
    /// Bytes sent.
    pub bytes: u64,
}

/// A viewer's place in a stream. What it yields goes through an [`Outlet`] to his socket.
pub struct Session {
    carriage: Carriage,
    cursor: Cursor<TagEntry>,
    /// What to tell before the next tag.
    head: Option<Arc<HeadTags>>,
    /// What he was told last.
    told: Option<Arc<HeadTags>>,
    counters: Counters,
    joined: Instant,
    entered: Instant,
    patience: Patience,
    stop: CancellationToken,
    _muxed: Muxed<TagEntry>,
    viewer: Viewer,
}

impl Session {
    /// Joins at the newest keyframe, or at the first one to come.
    pub fn join(egress: &Egress, viewer: Viewer, carriage: Carriage, extras: Extras) -> Self {
        let muxed = egress.attach(viewer.stream(), carriage, extras);
        let cursor = muxed.cursor(Some(egress.patience.lag_us_max()));
        let (counters, joined, stop) = (Counters::default(), clock::now(), egress.stop.clone());
        Self {
            carriage,
            cursor,
            head: None,
            told: None,
            counters,
            joined,
            entered: joined,
            patience: egress.patience,
            stop,
            _muxed: muxed,
            viewer,
        }
    }

    /// What he got so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The stream he watches.
    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// How he is borne with when he can't keep up.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Cancelled when the server stops; that ends his line too.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// When the newest of what was taken last entered the hub; for what was kept for him, when he came. The rest may
    /// have waited for it.
    pub fn entered(&self) -> Instant {
        self.entered
    }

    /// Puts what is to be written next into `out`; if there is nothing, the task of `cx` is woken when there is.
    pub fn poll_take(&mut self, cx: &mut Context<'_>, out: &mut Outlet) -> Poll<Result<(), End>> {
        let (mut bytes, mut reads) = (0, 0);
        while bytes == 0 {
            let read = ready!(self.cursor.poll_recv(cx))?;
            bytes = self.handle_read(read, out);
        }
        // What else is ready goes out in the same write.
        while bytes < WRITE_BYTES && reads < WRITE_TAGS {
            match self.cursor.try_recv() {
                Ok(Some(read)) => {
                    bytes += self.handle_read(read, out);
                    reads += 1;
                }
                // An end is found again, and reported, by the next call.
                Ok(None) | Err(_) => break,
            }
        }
        self.entered = self.cursor.entered().max(self.joined);
        self.counters.bytes += bytes as u64;
        Poll::Ready(Ok(()))
    }

    /// Returns how many bytes are to be written for it.
    fn handle_read(&mut self, read: Read<TagEntry>, out: &mut Outlet) -> usize {
        let mut bytes = 0;
        match read {
            Read::Skipped { frames } => self.counters.frames_skipped += frames,
            Read::Entry { entry: TagEntry::Head(head), .. } => self.head = Some(head),
            Read::Entry { entry: TagEntry::Tag(tag), .. } => {
                match tag.kind {
                    EntryKind::Event => self.counters.events += u64::from(tag.is_event),
                    _ => self.counters.frames += 1,
                }
                if let Some(head) = self.head.take() {
                    let told = self.tell(head, tag.ts_ms);
                    bytes += told.iter().map(Bytes::len).sum::<usize>();
                    out.push(told.into());
                }
                bytes += tag.bytes;
                out.push(tag.slices);
            }
        }
        bytes
    }

    /// `onMetaData` once (a second one stops mpegts.js dispatching), sequence headers where they change (with
    /// each one players begin their decoders anew), the room once, and again where he can't have followed it.
    fn tell(&mut self, head: Arc<HeadTags>, ts_ms: u32) -> Vec<Bytes> {
        let mut out = Vec::new();
        let tracks = &head.tracks;
        let told = self.told.replace(head.clone());
        if told.is_none() {
            if self.carriage == Carriage::Flv {
                out.push(flv::header(tracks.video.is_some(), tracks.audio.is_some()));
            }
            let metadata = TagBody::script(script::on_metadata(&metadata(tracks, ts_ms)));
            // At 0 whenever the viewer joins: to ffmpeg, an onMetaData of any other time is a subtitle.
            out.extend(self.carriage.wrap(0, &metadata));
        }
        let before = told.as_ref().map(|told| told.tracks.clone()).unwrap_or_default();
        let video = tracks.video.as_ref().filter(|_| tracks.video != before.video).map(TagBody::video_config);
        let audio = tracks.audio.as_ref().filter(|_| tracks.audio != before.audio).map(TagBody::audio_config);
        for config in [video, audio].iter().flatten() {
            out.extend(self.carriage.wrap(ts_ms, config));
        }
        if told.is_none_or(|told| told.resync != head.resync) {
            self.counters.events_replayed += head.events;
            for snapshot in &head.snapshots {
                out.extend(self.carriage.wrap(ts_ms, snapshot));
            }
        }
        out
    }
}

/// What the publisher said of himself, with what hawker knows put right.
fn metadata(tracks: &Tracks, first_ts_ms: u32) -> Vec<(String, Scalar)> {
    let number = |key: &str, value: f64| (key.to_owned(), Scalar::Number(value));
    let mut ours = vec![number("firstTs", first_ts_ms.into()), number("epoch", tracks.epoch as f64)];
    if let Some(video) = &tracks.video {
        ours.push(number("videocodecid", codec_id(video.codec)));
        if video.width > 0 {
            ours.extend([number("width", video.width.into()), number("height", video.height.into())]);
        }
    }
    if let Some(audio) = &tracks.audio {
        ours.extend([
            number("audiocodecid", codec_id(audio.codec)),
            number("audiosamplerate", audio.sample_rate.into()),
            ("stereo".to_owned(), Scalar::Bool(audio.channels == 2)),
        ]);
    }
    let text = |key: &str, value: &str| (key.to_owned(), Scalar::String(value.to_owned()));
    ours.push(text("server", concat!("hawker/", env!("CARGO_PKG_VERSION"))));
    ours.push(text("eventKeys", EVENT_KEYS_PATH));
    // A live stream has neither a length nor a size; players that read one would seek.
    let not_of_live = ["duration", "filesize"];
    let theirs = tracks
        .metadata
        .iter()
        .filter(|(key, _)| !not_of_live.contains(&key.as_str()) && !ours.iter().any(|(known, _)| known == key));
    let theirs: Vec<_> = theirs.cloned().collect();
    ours.into_iter().chain(theirs).collect()
}

/// The codec in `onMetaData`: classic numbers, FourCC for the rest (Enhanced RTMP v2, "Defining Additional Video Codecs").
fn codec_id(codec: Codec) -> f64 {
    let four_cc = |name: [u8; 4]| f64::from(u32::from_be_bytes(name));
    match codec {
        Codec::Avc => 7.0,
        Codec::Aac => 10.0,
        Codec::Hevc => four_cc(*b"hvc1"),
        Codec::Av1 => four_cc(*b"av01"),
        Codec::Vp8 => four_cc(*b"vp08"),
        Codec::Vp9 => four_cc(*b"vp09"),
        Codec::Opus => four_cc(*b"Opus"),
    }
}

/// Where every node tells the keys that events are verified by.
const EVENT_KEYS_PATH: &str = "/.well-known/hawker-keys.json";

/// A write is handed to the kernel when it has this many bytes or tags, or nothing more is ready.
const WRITE_BYTES: usize = 64 * 1024;
const WRITE_TAGS: usize = 31;
