//! The other side, for our own tools: offers written, answers read.

use super::{
    BadSdp, Direction, Extensions, Feedback, Local, Setup, Ssrcs, Terms, Track, media::Head, offer::read_media,
    write::Writer,
};
use crate::media::{Codec, TrackKind};

/// The offer of a publisher who sends these tracks.
pub fn publish(local: &Local, video: Option<Codec>, audio: Option<Codec>, ssrcs: Ssrcs) -> String {
    let mut writer = Writer::new(local, Setup::ActPass);
    for codec in video.into_iter().chain(audio) {
        let mut track = offered(codec);
        (track.ssrcs, track.rtx_ssrcs) = match codec.kind() {
            TrackKind::Video => (vec![ssrcs.video], vec![(ssrcs.video, ssrcs.video_rtx)]),
            TrackKind::Audio => (vec![ssrcs.audio], Vec::new()),
        };
        write_line(&mut writer, core::slice::from_ref(&track), Direction::SendOnly);
        writer.ssrcs(&track);
    }
    writer.finish("", true)
}

/// The offer of a player who takes any of these codecs, at most one video and one audio track, and events over a
/// data channel if he asks for it.
pub fn play(local: &Local, codecs: &[Codec], wants_data: bool) -> String {
    let mut writer = Writer::new(local, Setup::ActPass);
    for kind in [TrackKind::Video, TrackKind::Audio] {
        let tracks: Vec<_> = codecs.iter().filter(|codec| codec.kind() == kind).map(|codec| offered(*codec)).collect();
        write_line(&mut writer, &tracks, Direction::RecvOnly);
    }
    if wants_data {
        let [media, protocol, format] = ["application", "UDP/DTLS/SCTP", "webrtc-datachannel"].map(str::to_owned);
        writer.open("data", &Head { media, protocol, format });
        writer.data();
    }
    writer.finish("", true)
}

/// What the answer to such an offer agreed to.
pub fn accept(answer: &str) -> Result<Terms, BadSdp> {
    let (lines, _) = read_media(answer)?;
    let mut accepted = lines.into_iter().filter(|media| !media.rejected).peekable();
    let transport = accepted.peek().and_then(|media| media.transport.clone()).ok_or(BadSdp::Missing("ice-ufrag"))?;
    let mut terms = Terms { transport, tracks: Vec::new(), data: None };
    for media in accepted {
        if let Some(kind) = media.kind.track() {
            let format = media.payload_types.first().ok_or(BadSdp::Missing("payload type"))?;
            let codec = format.codec.filter(|codec| codec.kind() == kind).ok_or(BadSdp::Bad("payload type"))?;
            terms.tracks.push(Track::new(&media, format, codec));
        } else if media.data.is_some() {
            terms.data = media.data;
        }
    }
    Ok(terms)
}

/// A track as we offer it. Payload types and ids are ours to choose; they only must not clash within a line.
fn offered(codec: Codec) -> Track {
    let is_video = codec.kind() == TrackKind::Video;
    let (payload_type, fmtp) = match codec {
        Codec::Avc => (96, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
        Codec::Hevc => (98, ""),
        Codec::Av1 => (100, ""),
        Codec::Vp9 => (102, ""),
        Codec::Vp8 => (104, ""),
        Codec::Opus | Codec::Aac => (111, "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"),
    };
    Track {
        mid: if is_video { "video" } else { "audio" }.to_owned(),
        codec,
        payload_type,
        rtx: is_video.then_some(payload_type + 1),
        clock_rate_hz: if is_video { 90_000 } else { 48_000 },
        channels: if is_video { 1 } else { 2 },
        fmtp: fmtp.to_owned(),
        feedback: Feedback { nack: is_video, pli: is_video, fir: is_video, transport_cc: true },
        extensions: Extensions {
            mid: Some(1),
            transport_cc: Some(2),
            abs_capture_time: Some(3),
            ..Extensions::default()
        },
        ssrcs: Vec::new(),
        rtx_ssrcs: Vec::new(),
        rids: Vec::new(),
    }
}

/// One media line, with a format for each track that it may become.
fn write_line(writer: &mut Writer<'_>, formats: &[Track], direction: Direction) {
    let Some(first) = formats.first() else { return };
    let mut head = Head { media: first.mid.clone(), protocol: "UDP/TLS/RTP/SAVPF".to_owned(), format: String::new() };
    head.set_formats(formats);
    writer.open(&first.mid, &head);
    writer.attribute("rtcp-rsize");
    writer.rtp(direction, first.extensions);
    for format in formats {
        writer.format(format, &format.fmtp);
    }
}
