//! What viewers see while the publisher is away: the last keyframe, again each second, with silence.
//!
//! It is no publisher: it makes nothing live, is counted nowhere and keeps no stream longer than it would be kept.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    Hub, State,
    stream::{Line, Stream},
};
use crate::{
    clock::{self, Instant},
    config::Slate,
    media::{AudioConfig, Codec, Frame, Item, TrackKind},
};

/// The slate of one stream, and where on the timeline it is.
pub(super) struct Still {
    keyframe: Frame,
    silence: Option<Silence>,
    began: Instant,
    began_us: i64,
    /// DTS of the next picture.
    picture_us: i64,
    /// DTS of the next frame of silence.
    sound_us: i64,
}

/// A frame of silence, and how long it is, in microseconds.
type Silence = (&'static [u8], i64);

impl Hub {
    /// Shows the slate where one is wanted, until told to stop.
    pub async fn run_slate(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        let show = async {
            loop {
                tick.tick().await;
                if self.settings().slate == Slate::LastKeyframe {
                    self.list().iter().for_each(|stream| stream.show_slate());
                }
            }
        };
        let _: Option<()> = stop.run_until_cancelled(show).await;
    }
}

impl Stream {
    /// Goes on with the slate if the publisher is away. Another node's line brings its own.
    fn show_slate(&self) {
        let is_wanted = || self.state() == State::Interrupted && !self.is_relayed();
        if !is_wanted() {
            return;
        }
        let mut line = self.line.lock();
        if is_wanted() {
            line.show_slate(self);
        }
    }
}

impl Line {
    fn show_slate(&mut self, stream: &Stream) {
        let Some(mut still) = self.slate.take().or_else(|| self.begin_slate(stream)) else { return };
        let now_us = still.now_us();
        still.skip_to(now_us.saturating_sub(PICTURE_US));
        while let Some(mut frame) = still.next_due(now_us) {
            self.keep_order(&mut frame);
            self.enter(stream, frame, None, false);
        }
        self.slate = Some(still);
    }

    /// The slate from here on: none before anybody misses a picture, nor without one that fits the tracks.
    fn begin_slate(&self, stream: &Stream) -> Option<Still> {
        let (_, newest) = self.newest.filter(|(_, at)| at.elapsed() >= PICTURE_INTERVAL)?;
        let (Item::Head(head), Item::Frame(keyframe)) = stream.ring().newest_start()? else { return None };
        if keyframe.track != TrackKind::Video || head.tracks.video != self.tracks.video {
            return None;
        }
        tracing::info!(stream = %stream.name(), silent_ms = newest.elapsed().as_millis(), "viewers see the slate");
        let (began, began_us) = (clock::now(), self.next_us());
        let silence = self.tracks.audio.as_ref().and_then(silence);
        Some(Still { keyframe, silence, began, began_us, picture_us: began_us, sound_us: began_us })
    }
}

impl Still {
    /// The place on the timeline that the wall clock has come to.
    pub(super) fn now_us(&self) -> i64 {
        self.began_us.saturating_add(i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// Leaves out what is long over: the process may have stood still.
    fn skip_to(&mut self, us: i64) {
        (self.picture_us, self.sound_us) = (self.picture_us.max(us), self.sound_us.max(us));
    }

    /// What comes next, if it is time for it.
    fn next_due(&mut self, now_us: i64) -> Option<Frame> {
        let sound = self.silence.filter(|_| self.sound_us < self.picture_us);
        let (due_us, length_us) = match sound {
            Some((_, length_us)) => (&mut self.sound_us, length_us),
            None => (&mut self.picture_us, PICTURE_US),
        };
        let dts_us = *due_us;
        if dts_us > now_us {
            return None;
        }
        *due_us = dts_us.saturating_add(length_us);
        Some(match sound {
            Some((data, _)) => {
                let (track, data) = (TrackKind::Audio, Bytes::from_static(data));
                Frame { track, dts_us, pts_us: dts_us, keyframe: false, data }
            }
            None => Frame { dts_us, pts_us: dts_us, ..self.keyframe.clone() },
        })
    }
}

/// Silence as this track has it; none in codecs, channels and rates that are rare.
fn silence(audio: &AudioConfig) -> Option<Silence> {
    match (audio.codec, audio.channels) {
        (Codec::Opus, 1 | 2) => Some((OPUS, 20_000)),
        (Codec::Aac, channels @ (1 | 2))
            if audio.codec_string() == AAC_LC && (8_000..=96_000).contains(&audio.sample_rate) =>
        {
            let length_us = 1024 * 1_000_000 / i64::from(audio.sample_rate);
            Some((if channels == 1 { AAC_MONO } else { AAC_STEREO }, length_us))
        }
        _ => None,
    }
}

/// How often the picture comes again.
const PICTURE_INTERVAL: Duration = Duration::from_secs(1);
const PICTURE_US: i64 = 1_000_000;

/// Silence comes in pieces of about this.
const TICK: Duration = Duration::from_millis(100);

const AAC_LC: &str = "mp4a.40.2";

/// One channel element without a spectrum (`max_sfb` 0), and the end (ISO/IEC 14496-3 §4.4.2).
pub(super) const AAC_MONO: &[u8] = &[0x00, 0x00, 0x00, 0x07];

/// The same of a pair that shares its window.
pub(super) const AAC_STEREO: &[u8] = &[0x21, 0x00, 0x00, 0x00, 0x00, 0x1c];

/// 20 ms of CELT, full band, with its silence flag (RFC 6716 §4.3); mono, which stereo decoders take as well.
pub(super) const OPUS: &[u8] = &[0xf8, 0xff, 0xfe];
