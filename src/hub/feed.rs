//! What a muxer reads: its stream's own line or, where the viewers can't take that sound, the same line transcoded.

use std::sync::Arc;

use super::{
    mux::Muxed,
    ring::{Cursor, End, Read},
    stream::Stream,
};
use crate::{
    clock::Instant,
    media::{Codec, Item, TrackKind, event::Moment},
};

/// Makes lines whose sound has another codec. The hub knows no codecs; it only knows whom to ask.
pub trait Transcode: Send + Sync {
    /// The stream's line, its sound in `codec`.
    fn attach(&self, source: &Arc<Stream>, codec: Codec) -> Muxed<Item>;
}

/// A muxer's place in the line that it reads.
pub(super) struct Feed {
    source: Arc<Stream>,
    transcode: Option<Arc<dyn Transcode>>,
    cursor: Cursor<Item>,
    /// Held while the cursor is on it.
    transcoded: Option<Muxed<Item>>,
    /// Up to this head, or to what is newer than all that was read, the transcoded line only repeats.
    repeats_until: Option<Moment>,
    newest_video_us: Option<i64>,
    newest_audio_us: Option<i64>,
}

impl Feed {
    /// From the newest start point on; with `history` from the oldest that is held.
    pub(super) fn new(source: Arc<Stream>, transcode: Option<Arc<dyn Transcode>>, history: bool) -> Self {
        let cursor = source.ring().cursor(None);
        Self {
            cursor: if history { cursor.from_group(1) } else { cursor },
            source,
            transcode,
            transcoded: None,
            repeats_until: None,
            newest_video_us: None,
            newest_audio_us: None,
        }
    }

    /// As [`Cursor::recv`].
    pub(super) async fn recv(&mut self) -> Result<Read<Item>, End> {
        self.cursor.recv().await
    }

    /// As [`Cursor::try_recv`].
    pub(super) fn try_recv(&mut self) -> Result<Option<Read<Item>>, End> {
        self.cursor.try_recv()
    }

    /// As [`Cursor::entered`].
    pub(super) fn entered(&self) -> Instant {
        self.cursor.entered()
    }

    /// True if an item of `group` that was read is to be muxed. `sound` is the codec that the muxer wants from here on;
    /// a head that tells another one leads to the transcoded line, which has that head again.
    pub(super) fn admits(&mut self, item: &Item, group: u64, sound: Option<Codec>) -> bool {
        match item {
            Item::Head(head) => {
                let told = head.tracks.audio.as_ref().map(|audio| audio.codec);
                if self.transcoded.is_none()
                    && let (Some(sound), Some(told), Some(transcode)) = (sound, told, &self.transcode)
                    && sound != told
                {
                    let line = transcode.attach(&self.source, sound);
                    let has_begun = self.newest_video_us.or(self.newest_audio_us).is_some();
                    // That line may be ahead, and what lies between has to be muxed too.
                    let cursor = line.cursor(None);
                    self.cursor = if has_begun { cursor.from_group(group) } else { cursor };
                    self.transcoded = Some(line);
                    self.repeats_until = self.newest_video_us.or(self.newest_audio_us).map(|_| head.at);
                    return false;
                }
                self.repeats_until.take_if(|until| *until == head.at);
                true
            }
            Item::Frame(frame) => {
                let newest_us = match frame.track {
                    TrackKind::Video => &mut self.newest_video_us,
                    TrackKind::Audio => &mut self.newest_audio_us,
                };
                if self.transcoded.is_some() && newest_us.is_some_and(|newest_us| frame.dts_us <= newest_us) {
                    return false;
                }
                *newest_us = Some(frame.dts_us);
                self.repeats_until = None;
                true
            }
            Item::Event(_) | Item::Data(_) => self.repeats_until.is_none(),
        }
    }
}
