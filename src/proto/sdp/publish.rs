//! The answer to a publisher (WHIP, RFC 9725): we receive.

use super::{
    Direction, Local, Media, Offer, PayloadType, Terms, Track, Unacceptable,
    answer::{self, Taker, no_codec},
    format::parameters,
    write::Writer,
};
use crate::media::{Codec, TrackKind};

/// Takes the first video and the first audio line that send, each with the first codec of `accepts` that is offered, and
/// a data channel. The order is ours: browsers offer VP8 first, which few players of other protocols know. All other lines are rejected.
pub fn answer(offer: &Offer, local: &Local, accepts: &[Codec]) -> Result<(String, Terms), Unacceptable> {
    let (text, terms) = answer::answer(offer, local, Receiver { accepts })?;
    if terms.tracks.is_empty() {
        return Err(Unacceptable::NoMedia("send"));
    }
    Ok((text, terms))
}

struct Receiver<'a> {
    accepts: &'a [Codec],
}

impl Taker for Receiver<'_> {
    fn take(&mut self, media: &Media, kind: TrackKind) -> Result<Option<Track>, Unacceptable> {
        if !media.direction.sends() {
            return Ok(None);
        }
        let possible: Vec<Codec> = self.accepts.iter().copied().filter(|codec| codec.kind() == kind).collect();
        for codec in &possible {
            let is_fit = |format: &&PayloadType| format.codec == Some(*codec) && can_receive(*codec, format);
            if let Some(format) = media.payload_types.iter().find(is_fit) {
                return Ok(Some(Track::new(media, format, *codec)));
            }
        }
        let possible: Vec<_> = possible.iter().map(|codec| codec.as_str()).collect();
        Err(no_codec(kind, media, possible.join(", ")))
    }

    fn write(&self, writer: &mut Writer<'_>, track: &Track) {
        writer.rtp(Direction::RecvOnly, track.extensions);
        writer.format(track, &fmtp(track));
        for rid in &track.rids {
            writer.attribute(format_args!("rid:{rid} recv"));
        }
        if !track.rids.is_empty() {
            writer.attribute(format_args!("simulcast:recv {}", track.rids.join(";")));
        }
    }
}

/// Of H.264 the interleaved mode isn't read (RFC 6184 §6.4), of H.265 only one RTP stream (RFC 7798 §7.1).
fn can_receive(codec: Codec, format: &PayloadType) -> bool {
    match codec {
        Codec::Avc => matches!(format.number_of("packetization-mode", 0), Some(0 | 1)),
        Codec::Hevc => format.parameter("tx-mode").is_none_or(|mode| mode == "SRST"),
        _ => true,
    }
}

/// The parameters offered, without those that describe only the sender. Of Opus we want both channels: a browser
/// sends one to a receiver that doesn't say so (RFC 7587 §6.1).
fn fmtp(track: &Track) -> String {
    let is_sound = track.codec == Codec::Opus;
    let is_dropped = |name: &str| name.is_empty() || name.starts_with("sprop-") || (is_sound && name == "stereo");
    let kept = parameters(&track.fmtp).filter(|(name, _)| !is_dropped(name));
    let mut kept: Vec<_> = kept.map(|(name, value)| format!("{name}={value}")).collect();
    if is_sound {
        kept.push("stereo=1".to_owned());
    }
    kept.join(";")
}
