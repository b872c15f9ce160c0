//! RTP of one WHIP publisher, turned into items of the line.
//!
//! Sans-IO: decrypted packets and a time in; frames into the hub, and RTCP to seal and send out.

use std::{
    sync::Arc,
    time::{self, Duration},
};

use bytes::Bytes;

use self::{
    feedback::Feedback,
    track::{Shown, Track},
};
use super::inband::InBand;
use crate::{
    clock::Instant,
    hub::{Publisher, Replaced, Stream},
    media::{Anchor, AudioConfig, Codec, Frame, TrackKind, Tracks, codec::sei::NalFormat},
    proto::{
        rtp::{
            ntp,
            packet::Packet,
            rtcp::{self, Rtcp},
        },
        sdp::{self, Terms},
    },
};

mod clock;
mod feedback;
mod layer;
mod track;

/// What one publisher sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Video frames.
    pub video_frames: u64,
    /// Audio frames.
    pub audio_frames: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Packets that never came, of all layers.
    pub lost: u64,
    /// Packets that came because they were asked for again.
    pub recovered: u64,
    /// Packets that could not be read.
    pub malformed: u64,
    /// Packets of a source or a payload type that was not agreed upon.
    pub unknown: u64,
    /// Keyframes asked for.
    pub keyframe_requests: u64,
    /// Times that the sender said and the room clock believed.
    pub anchors: u64,
}

/// A publisher's session, from the end of its handshake.
pub struct RtpIngest {
    tracks: Vec<Track>,
    line: Line,
    feedback: Feedback,
    began: time::Instant,
}

/// Where the frames go.
struct Line {
    publisher: Publisher,
    tracks: Tracks,
    counters: Counters,
    awaits_video: bool,
    /// The tracks are in the line.
    is_announced: bool,
    /// When the newest sound came, and for how long there has been sound without a picture.
    sound_at: time::Instant,
    sound_alone: Duration,
    /// By the publisher's clock.
    newest_sound_us: i64,
}

impl RtpIngest {
    /// A session that has just got the publisher slot. A keyframe is asked for when the newest is `keyframe_interval`
    /// old: browsers send none of themselves, and viewers can join at keyframes only.
    pub fn new(publisher: Publisher, terms: Terms, keyframe_interval: Duration, now: Instant) -> Self {
        let began = now.into_std();
        Self {
            line: Line {
                publisher,
                tracks: Tracks { audio: terms.track(TrackKind::Audio).map(audio_config), ..Tracks::default() },
                counters: Counters::default(),
                awaits_video: terms.track(TrackKind::Video).is_some(),
                is_announced: false,
                sound_at: began,
                sound_alone: Duration::ZERO,
                newest_sound_us: i64::MIN,
            },
            feedback: Feedback::new(began, keyframe_interval),
            tracks: terms.tracks.into_iter().map(Track::new).collect(),
            began,
        }
    }

    /// The stream published to.
    pub fn stream(&self) -> &Arc<Stream> {
        self.line.publisher.stream()
    }

    /// What came so far.
    pub fn counters(&self) -> Counters {
        self.line.counters
    }

    /// The codecs, for the log.
    pub fn codecs(&self) -> String {
        let video = self.line.tracks.video.as_ref().map(|video| video.codec);
        let audio = self.line.tracks.audio.as_ref().map(|audio| audio.codec);
        let names: Vec<_> = [video, audio].into_iter().flatten().map(Codec::as_str).collect();
        names.join("+")
    }

    /// Resolves when a newer session has taken the stream over.
    pub fn replaced(&self) -> impl Future<Output = Replaced> + use<> {
        self.line.publisher.replaced()
    }

    /// The publisher said that he is done: the stream ends, rather than waiting for him to come back.
    pub fn end(self) {
        self.line.publisher.end();
    }

    /// A decrypted RTP packet.
    pub fn handle_rtp(&mut self, now: Instant, packet: &[u8]) -> Result<(), Replaced> {
        let now = now.into_std();
        let counters = &mut self.line.counters;
        let Ok(packet) = Packet::parse(packet) else {
            counters.malformed += 1;
            return Ok(());
        };
        let Some(track) = self.tracks.iter_mut().find(|track| track.owns(&packet)) else {
            counters.unknown += 1;
            return Ok(());
        };
        self.feedback.handle_packet(now, track, &packet);
        let capture = track.terms.extensions.abs_capture_time.and_then(|id| packet.extensions.get(id));
        let arrived_us = i64::try_from(now.saturating_duration_since(self.began).as_micros()).unwrap_or(i64::MAX);
        if !track.handle_packet(now, arrived_us, &packet, counters) {
            counters.unknown += 1;
        }
        if let Some(wall_us) = capture.and_then(capture_us) {
            self.handle_ntp(Anchor::AbsCaptureTime, packet.header.ssrc, packet.header.timestamp, wall_us);
        }
        self.drain(now)
    }

    /// A decrypted RTCP packet.
    pub fn handle_rtcp(&mut self, now: Instant, compound: &[u8]) {
        let Ok(packets) = rtcp::parse(compound) else {
            self.line.counters.malformed += 1;
            return;
        };
        for packet in packets {
            if let Rtcp::SenderReport { ssrc, info, .. } = packet {
                for track in &mut self.tracks {
                    if let Some((layer, _)) = track.layer_mut(ssrc) {
                        layer.handle_sender_report(now.into_std(), info.ntp);
                    }
                }
                self.handle_ntp(Anchor::SenderReport, ssrc, info.timestamp, ntp::to_unix_us(info.ntp));
            }
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Replaced> {
        self.drain(now.into_std())
    }

    /// When [`Self::handle_timeout`] and then [`Self::poll_feedback`] are due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.feedback.deadline(&self.tracks).map(Instant::from_std)
    }

    /// The next compound RTCP packet to seal and send.
    pub fn poll_feedback(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.feedback.poll(now.into_std(), &mut self.tracks, &mut self.line.counters)
    }

    /// The sender says of one of its timestamps which NTP time it stands for.
    fn handle_ntp(&mut self, said_by: Anchor, ssrc: u32, timestamp: u32, wall_us: i64) {
        let is_lone = self.tracks.len() == 1;
        for track in &mut self.tracks {
            let is_picture = track.kind() == TrackKind::Video || is_lone;
            let Some((layer, is_shown)) = track.layer_mut(ssrc) else { continue };
            layer.clock.handle_ntp(said_by, timestamp, wall_us);
            if is_shown
                && is_picture
                && let Some(publisher_us) = layer.clock.place(timestamp)
            {
                self.line.handle_anchor(said_by, publisher_us, wall_us);
            }
        }
    }

    /// Brings all frames that are ready into the line. Sound follows the picture's clock.
    fn drain(&mut self, now: time::Instant) -> Result<(), Replaced> {
        let picture = self.tracks.iter().find(|track| track.kind() == TrackKind::Video);
        let picture_us = picture.and_then(Track::behind_ntp_us);
        for track in &mut self.tracks {
            let kind = track.kind();
            let follows_us = picture_us.filter(|_| kind == TrackKind::Audio);
            while let Some(shown) = track.poll(now, follows_us, &mut self.line.counters) {
                match kind {
                    TrackKind::Video => self.line.push_picture(shown)?,
                    TrackKind::Audio => self.line.push_sound(now, shown)?,
                }
            }
        }
        Ok(())
    }
}

impl Line {
    /// After a time of sound alone pictures begin with a keyframe, as at first.
    fn push_picture(&mut self, shown: Shown) -> Result<(), Replaced> {
        if shown.unit.keyframe && shown.config != self.tracks.video {
            self.tracks.video.clone_from(&shown.config);
            self.announce()?;
        }
        if self.tracks.video.is_none() {
            return Ok(());
        }
        self.sound_alone = Duration::ZERO;
        self.counters.video_frames += 1;
        let (publisher_us, said) = (shown.pts_us, time_in_keyframe(&shown));
        self.push(TrackKind::Video, shown)?;
        if let Some((said_by, wall_us)) = said {
            self.handle_anchor(said_by, publisher_us, wall_us);
        }
        Ok(())
    }

    /// Sound waits for the picture, if there shall be one: viewers would begin with half of the stream. When pictures
    /// stop they are no longer announced, because viewers would have to wait for one to join at.
    fn push_sound(&mut self, now: time::Instant, shown: Shown) -> Result<(), Replaced> {
        // After a stall, sound may come before its picture.
        let step = now.saturating_duration_since(std::mem::replace(&mut self.sound_at, now));
        self.sound_alone = self.sound_alone.saturating_add(step.min(SOUND_STEP_MAX));
        if !self.is_announced {
            if self.awaits_video && self.sound_alone < SOUND_ALONE_AFTER {
                return Ok(());
            }
            self.announce()?;
        } else if self.tracks.video.is_some() && self.sound_alone >= PICTURE_GONE_AFTER {
            self.tracks.video = None;
            self.announce()?;
        }
        // Its clock was put back: this time has had its sound.
        if shown.pts_us <= self.newest_sound_us {
            return Ok(());
        }
        self.newest_sound_us = shown.pts_us;
        self.counters.audio_frames += 1;
        self.push(TrackKind::Audio, shown)
    }

    fn announce(&mut self) -> Result<(), Replaced> {
        self.is_announced = true;
        self.publisher.set_tracks(self.tracks.clone())
    }

    /// This time of the publisher's clock is this UTC time, says someone.
    fn handle_anchor(&mut self, said_by: Anchor, publisher_us: i64, wall_us: i64) {
        if let Some(pts_us) = self.publisher.place(publisher_us) {
            self.counters.anchors += u64::from(self.publisher.handle_anchor(said_by, pts_us, wall_us));
        }
    }

    fn push(&mut self, track: TrackKind, shown: Shown) -> Result<(), Replaced> {
        let Shown { unit, pts_us, .. } = shown;
        self.counters.bytes += unit.data.len() as u64;
        // RTP tells no decode time; WebRTC has no pictures out of order.
        self.publisher.push_frame(Frame { track, dts_us: pts_us, pts_us, keyframe: unit.keyframe, data: unit.data })
    }
}

/// Both channels always: a decoder for two takes packets with one, too (RFC 7587 §7.1).
fn audio_config(terms: &sdp::Track) -> AudioConfig {
    AudioConfig::from_description(terms.codec, Bytes::new())
}

/// What the encoder wrote of the time into the keyframe: it knows better than what is beside the packets.
fn time_in_keyframe(shown: &Shown) -> Option<(Anchor, i64)> {
    let config = shown.config.as_ref().filter(|_| shown.unit.keyframe)?;
    let messages = NalFormat::of(config)?.user_data(&shown.unit.data);
    messages.iter().find_map(|message| match InBand::from_sei(message) {
        InBand::Anchor { anchor, wall_us } => Some((anchor, wall_us)),
        _ => None,
    })
}

/// The value of an abs-capture-time extension, as UTC microseconds by the sender's clock: when it was captured, and
/// if there is more, how far the sender's clock is from that of the capture, 32.32 bits of seconds.
fn capture_us(value: &[u8]) -> Option<i64> {
    let (captured, rest) = value.split_first_chunk()?;
    let captured_us = ntp::to_unix_us(u64::from_be_bytes(*captured));
    let offset_us = rest.first_chunk().map_or(0, |offset| {
        let us = (i128::from(i64::from_be_bytes(*offset)) * 1_000_000) >> 32;
        i64::try_from(us).unwrap_or(0)
    });
    captured_us.checked_add(offset_us)
}

/// After so much sound without a picture, the stream begins without one: over a thin uplink the first keyframe takes its
/// time.
const SOUND_ALONE_AFTER: Duration = Duration::from_secs(5);
/// After so much sound since the last picture, there are none.
const PICTURE_GONE_AFTER: Duration = Duration::from_secs(2);
/// Frames of sound are at most 120 ms (RFC 6716 §2.1.4).
const SOUND_STEP_MAX: Duration = Duration::from_millis(120);

#[cfg(test)]
mod tests;
