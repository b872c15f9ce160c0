//! The muxer that converts: a stream's items in, the same items with their sound in another codec out.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    codec::CodecError,
    convert::{Coded, Converter},
};
use crate::{
    hub::{Mux, Out},
    limits,
    media::{AudioConfig, Codec, Frame, Head, Item, StreamName, TrackKind, Tracks},
    observe::metrics::{Metrics, Present},
};

/// Converts one stream's sound.
pub(super) struct SoundMux {
    name: StreamName,
    codec: Codec,
    metrics: Arc<Metrics>,
    /// The head in force, as the stream has it.
    head: Arc<Head>,
    pub(super) sound: Sound,
    /// A group has begun whose first frame is not out yet.
    begins: bool,
    /// Stamp of the newest frame out: what was heard before a jump back is not heard again.
    newest_us: i64,
    converted: Vec<Coded>,
    errors: u64,
    panics: u32,
    _running: Present,
}

/// What becomes of the sound.
pub(super) enum Sound {
    /// It has the codec already, or there is none.
    Passes,
    /// It is converted.
    Converted(Box<Converter>),
    /// It can't be; the stream goes on without.
    LeftOut,
}

impl SoundMux {
    pub(super) fn new(name: StreamName, codec: Codec, metrics: Arc<Metrics>) -> Self {
        tracing::info!(stream = %name, to = codec.as_str(), "transcoder started");
        Self {
            _running: metrics.transcoder(),
            name,
            codec,
            metrics,
            head: Arc::default(),
            sound: Sound::Passes,
            begins: false,
            newest_us: i64::MIN,
            converted: Vec::new(),
            errors: 0,
            panics: 0,
        }
    }

    fn handle_head(&mut self, head: Arc<Head>) -> Arc<Head> {
        if self.head.tracks.audio != head.tracks.audio {
            self.sound = self.begin(head.tracks.audio.as_ref());
        }
        self.head = head;
        self.head_out()
    }

    fn begin(&mut self, source: Option<&AudioConfig>) -> Sound {
        let Some(source) = source.filter(|source| source.codec != self.codec) else { return Sound::Passes };
        match guarded(|| Converter::new(source, self.codec)) {
            Ok(converter) => Sound::Converted(Box::new(converter)),
            Err(failed) => {
                self.fail();
                tracing::warn!(stream = %self.name, %failed, "the sound is left out");
                Sound::LeftOut
            }
        }
    }

    /// The head in force, as it is out.
    fn head_out(&self) -> Arc<Head> {
        let audio = match &self.sound {
            Sound::Passes => return self.head.clone(),
            Sound::Converted(converter) => Some(converter.config()),
            Sound::LeftOut => None,
        };
        let tracks = Arc::new(Tracks { audio, ..Tracks::clone(&self.head.tracks) });
        Arc::new(Head { tracks, ..Head::clone(&self.head) })
    }

    fn handle_sound(&mut self, frame: Frame, group: u64, out: &Out<'_, Item>) {
        let converter = match &mut self.sound {
            Sound::Passes => return out.push(Item::Frame(frame), group),
            Sound::Converted(converter) => converter,
            Sound::LeftOut => return,
        };
        self.begins |= frame.keyframe;
        let handled = guarded(|| converter.handle_frame(frame.pts_us, &frame.data, &mut self.converted));
        for Coded { pts_us, data } in self.converted.drain(..) {
            if pts_us > self.newest_us {
                self.newest_us = pts_us;
                let keyframe = std::mem::take(&mut self.begins);
                let frame = Frame { track: TrackKind::Audio, dts_us: pts_us, pts_us, keyframe, data };
                out.push(Item::Frame(frame), group);
            }
        }
        match handled {
            Ok(()) => {}
            Err(Failed::Codec(_)) => self.fail(),
            Err(Failed::Panic) => {
                self.fail();
                self.recover(group, out);
            }
        }
    }

    /// After a panic the codecs begin anew, unless they have had their chances.
    fn recover(&mut self, group: u64, out: &Out<'_, Item>) {
        self.panics += 1;
        self.sound = match self.panics < limits::TRANSCODE_PANICS_MAX {
            true => self.begin(self.head.tracks.audio.clone().as_ref()),
            false => Sound::LeftOut,
        };
        tracing::error!(stream = %self.name, panics = self.panics, "a codec panicked; nothing else is affected");
        if matches!(self.sound, Sound::LeftOut) {
            out.push(Item::Head(self.head_out()), group);
        }
    }

    fn fail(&mut self) {
        self.errors += 1;
        self.metrics.transcode_errors.inc();
    }
}

impl Mux for SoundMux {
    type Out = Item;

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, Item>) {
        match item {
            Item::Head(head) => out.push(Item::Head(self.handle_head(head)), group),
            Item::Frame(frame) if frame.track == TrackKind::Audio => self.handle_sound(frame, group, out),
            Item::Frame(_) | Item::Event(_) | Item::Data(_) => out.push(item, group),
        }
    }
}

impl Drop for SoundMux {
    fn drop(&mut self) {
        tracing::info!(stream = %self.name, to = self.codec.as_str(), errors = self.errors, "transcoder stopped");
    }
}

/// How a codec let us down.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("a codec panicked")]
    Panic,
}

/// Runs what works on a publisher's bytes in other people's code: its panic is an error of this stream's sound.
fn guarded<T>(run: impl FnOnce() -> Result<T, CodecError>) -> Result<T, Failed> {
    // What was half changed is dropped by the caller.
    Ok(catch_unwind(AssertUnwindSafe(run)).map_err(|_| Failed::Panic)??)
}
