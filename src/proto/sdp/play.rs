//! The answer to a player (WHEP, draft-ietf-wish-whep): we send, in the stream's own codecs.

use super::{
    Direction, Local, Media, Offer, PayloadType, Ssrcs, Terms, Track, Unacceptable,
    answer::{self, Taker, no_codec},
    write::Writer,
};
use crate::media::{Codec, TrackKind, VideoConfig};

/// What there is to play.
#[derive(Debug, Clone, Copy)]
pub struct Play<'a> {
    /// The stream's picture.
    pub video: Option<&'a VideoConfig>,
    /// The codec that its sound can be had in.
    pub audio: Option<Codec>,
    /// What we send them with.
    pub ssrcs: Ssrcs,
}

/// Takes the first video and the first audio line that receive, if the stream has such a track, with the payload type
/// that fits the stream's codec best; and a data channel. All other lines are rejected.
pub fn answer(offer: &Offer, local: &Local, play: &Play<'_>) -> Result<(String, Terms), Unacceptable> {
    let (text, terms) = answer::answer(offer, local, Sender { play })?;
    if terms.tracks.is_empty() {
        return Err(Unacceptable::NoMedia("receive"));
    }
    Ok((text, terms))
}

struct Sender<'a> {
    play: &'a Play<'a>,
}

impl Taker for Sender<'_> {
    fn take(&mut self, media: &Media, kind: TrackKind) -> Result<Option<Track>, Unacceptable> {
        let (codec, profile) = match (kind, self.play.video, self.play.audio) {
            (TrackKind::Video, Some(video), _) => (video.codec, video.codec_string()),
            (TrackKind::Audio, _, Some(codec)) => (codec, codec.as_str().to_owned()),
            _ => return Ok(None),
        };
        if !media.direction.receives() {
            return Ok(None);
        }
        let usable = media.payload_types.iter().filter(|format| format.codec == Some(codec));
        // Of equals `max_by_key` takes the last, and the first is preferred.
        let best = usable.filter_map(|format| Some((fit(codec, &profile, format)?, format))).rev();
        let (_, format) = best
            .max_by_key(|(fit, _)| *fit)
            .ok_or_else(|| no_codec(kind, media, format!("{} ({profile})", codec.as_str())))?;

        let mut track = Track::new(media, format, codec);
        let ssrcs = self.play.ssrcs;
        (track.ssrcs, track.rtx_ssrcs, track.rids) = match kind {
            TrackKind::Video => {
                (vec![ssrcs.video], track.rtx.map(|_| (ssrcs.video, ssrcs.video_rtx)).into_iter().collect(), Vec::new())
            }
            TrackKind::Audio => (vec![ssrcs.audio], Vec::new(), Vec::new()),
        };
        // A packet is never sealed twice, so what is lost is only sent again in a stream of its own.
        track.feedback.nack &= track.rtx.is_some();
        // Nothing that we send has layers.
        (track.extensions.rid, track.extensions.repaired_rid) = (None, None);
        Ok(Some(track))
    }

    fn write(&self, writer: &mut Writer<'_>, track: &Track) {
        writer.rtp(Direction::SendOnly, track.extensions);
        writer.format(track, &track.fmtp);
        writer.ssrcs(track);
    }
}

/// How well a payload type of the right codec fits a stream, the greater the better; `None` if it can't be used.
/// `profile` is the stream's codec string (RFC 6381). Levels are left to the player: he knows what he can decode, and
/// browsers offer one level whatever they can.
fn fit(codec: Codec, profile: &str, format: &PayloadType) -> Option<u8> {
    let profile = profile.split('.').nth(1);
    match codec {
        Codec::Avc => fit_h264(profile, format),
        // RFC 7798 §7.1: Main unless said.
        Codec::Hevc => same(profile, format.number_of("profile-id", 1)?),
        // AV1 RTP §7.2.1, RFC 9628 §6: profile 0 unless said.
        Codec::Av1 => same(profile, format.number_of("profile", 0)?),
        Codec::Vp9 => same(profile, format.number_of("profile-id", 0)?),
        _ => Some(0),
    }
}

/// A stream whose profile isn't known is offered to all.
fn same(profile: Option<&str>, offered: u32) -> Option<u8> {
    let is_same = profile.and_then(|profile| profile.parse().ok()).is_none_or(|profile: u32| profile == offered);
    is_same.then_some(0)
}

/// The same profile is best, and any other will do: browsers decode High whatever they list. Frames larger than a
/// packet need `packetization-mode=1` (RFC 6184 §6.3).
fn fit_h264(profile: Option<&str>, format: &PayloadType) -> Option<u8> {
    if format.number_of("packetization-mode", 0) != Some(1) {
        return None;
    }
    // RFC 6184 §8.1: Baseline unless said. The second byte's flags tell Constrained Baseline from Baseline.
    let offered = format.parameter("profile-level-id").unwrap_or("420010");
    let is_same = |bytes: usize| {
        let ours = profile.and_then(|profile| profile.get(..bytes * 2));
        ours.zip(offered.get(..bytes * 2)).is_some_and(|(ours, offered)| ours.eq_ignore_ascii_case(offered))
    };
    Some(u8::from(is_same(1)) + u8::from(is_same(2)))
}
