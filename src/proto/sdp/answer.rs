//! What the answers to publishers and players have in common: which lines are taken, and how they are written.

use super::{Local, Media, Offer, Terms, Track, Unacceptable, media::Data, write::Writer};
use crate::media::TrackKind;

/// A line of the offer, as answered.
enum Line {
    Track(Track),
    Data(Data),
    Rejected,
}

/// Which lines are taken, and how our end writes them.
pub(super) trait Taker {
    /// The track that a line of that kind makes; `None` rejects the line.
    fn take(&mut self, media: &Media, kind: TrackKind) -> Result<Option<Track>, Unacceptable>;
    /// What our end adds to the line of a track.
    fn write(&self, writer: &mut Writer<'_>, track: &Track);
}

/// Answers line by line.
pub(super) fn answer(offer: &Offer, local: &Local, mut taker: impl Taker) -> Result<(String, Terms), Unacceptable> {
    let mut lines = Vec::with_capacity(offer.media.len());
    let mut terms = Terms { transport: offer.transport.clone(), tracks: Vec::new(), data: None };
    let mut is_first = true;
    for media in &offer.media {
        let line = take(media, &terms, &mut taker)?;
        if is_first && !matches!(line, Line::Rejected) {
            // The transport is that of the first line taken (RFC 9143 §7.3.1).
            terms.transport = media.transport.clone().unwrap_or(terms.transport);
            is_first = false;
        }
        match &line {
            Line::Track(track) => terms.tracks.push(track.clone()),
            Line::Data(data) => terms.data = Some(data.clone()),
            Line::Rejected => {}
        }
        lines.push(line);
    }
    if terms.transport.ice_lite {
        return Err(Unacceptable::BothLite);
    }
    let mut writer = Writer::new(local, terms.transport.setup.answered());
    for (media, line) in offer.media.iter().zip(lines) {
        write(&mut writer, media, &line, &taker);
    }
    Ok((writer.finish("a=ice-lite\r\n", offer.bundle), terms))
}

fn take(media: &Media, terms: &Terms, taker: &mut impl Taker) -> Result<Line, Unacceptable> {
    if media.rejected {
        return Ok(Line::Rejected);
    }
    let Some(kind) = media.kind.track() else {
        let data = media.data.clone().filter(|_| media.bundled && terms.data.is_none());
        return Ok(data.map_or(Line::Rejected, Line::Data));
    };
    if terms.track(kind).is_some() {
        return Ok(Line::Rejected);
    }
    match taker.take(media, kind)? {
        Some(_) if !media.bundled || !media.rtcp_mux => Err(Unacceptable::NotBundled(kind_name(kind))),
        Some(track) => Ok(Line::Track(track)),
        None => Ok(Line::Rejected),
    }
}

fn write(writer: &mut Writer<'_>, media: &Media, line: &Line, taker: &impl Taker) {
    let mut head = media.head.clone();
    match line {
        Line::Rejected => writer.reject(&media.mid, &head),
        Line::Data(_) => {
            writer.open(&media.mid, &head);
            writer.data();
        }
        Line::Track(track) => {
            head.set_formats(core::slice::from_ref(track));
            writer.open(&media.mid, &head);
            if media.rtcp_rsize {
                writer.attribute("rtcp-rsize");
            }
            taker.write(writer, track);
        }
    }
}

/// That a line has no codec that would do.
pub(super) fn no_codec(kind: TrackKind, media: &Media, possible: String) -> Unacceptable {
    Unacceptable::NoCodec { kind: kind_name(kind), offered: media.format_names(), possible }
}

fn kind_name(kind: TrackKind) -> &'static str {
    match kind {
        TrackKind::Video => "video",
        TrackKind::Audio => "audio",
    }
}
