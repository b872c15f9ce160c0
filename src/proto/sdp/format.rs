//! The payload types of a media line: codecs, their parameters, and RTCP feedback.

use super::{
    BadSdp, Extensions,
    lines::{Section, is_token},
};
use crate::{limits::SDP_PAYLOAD_TYPES_MAX, media::Codec};

/// A payload type of a media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadType {
    /// Its number, below 128.
    pub number: u8,
    /// The name of its format, empty for a static one.
    pub name: String,
    /// The codec, if it is one of ours.
    pub codec: Option<Codec>,
    /// RTP ticks a second.
    pub clock_rate_hz: u32,
    /// Channels of a sound, 1 where none are said.
    pub channels: u8,
    /// Parameters in printable ASCII, `a=1;b=2`.
    pub fmtp: String,
    /// It carries retransmissions of that payload type.
    pub rtx_for: Option<u8>,
    /// RTCP feedback.
    pub feedback: Feedback,
}

impl PayloadType {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        parameters(&self.fmtp).find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }

    /// The value of a numeric parameter, or what its absence means.
    pub(super) fn number_of(&self, name: &str, default: u32) -> Option<u32> {
        self.parameter(name).map_or(Some(default), |value| value.parse().ok())
    }

    fn new(number: u8) -> Self {
        let (clock_rate_hz, channels) = (0, 1);
        let (name, codec, fmtp, rtx_for) = (String::new(), None, String::new(), None);
        Self { number, name, codec, clock_rate_hz, channels, fmtp, rtx_for, feedback: Feedback::default() }
    }

    /// `opus/48000/2`.
    fn set_map(&mut self, map: &str) -> Option<()> {
        let mut parts = map.trim_end().split('/');
        let name = parts.next().filter(|name| is_token(name))?;
        self.clock_rate_hz = parts.next()?.parse().ok()?;
        self.channels = parts.next().map_or(Some(1), |channels| channels.parse().ok())?;
        self.codec = CODECS.iter().find_map(|(codec, known, clock_rate_hz)| {
            (name.eq_ignore_ascii_case(known) && self.clock_rate_hz == *clock_rate_hz).then_some(*codec)
        });
        self.name = name.to_owned();
        Some(())
    }
}

/// The parameters of an fmtp.
pub(super) fn parameters(fmtp: &str) -> impl Iterator<Item = (&str, &str)> {
    fmtp.split(';').map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (name.trim(), value.trim())
    })
}

/// `VP8/90000`, for a codec that goes over RTP.
pub(super) fn rtp_map(codec: Codec) -> Option<String> {
    let (_, name, clock_rate_hz) = CODECS.iter().find(|(known, ..)| *known == codec)?;
    // RFC 7587 §7: always two channels, whatever is in the packets.
    let channels = if codec == Codec::Opus { "/2" } else { "" };
    Some(format!("{name}/{clock_rate_hz}{channels}"))
}

/// RTCP feedback that we know (RFC 4585, 5104, draft-holmer-rmcat-transport-wide-cc-extensions-01).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Generic NACK.
    pub nack: bool,
    /// Picture loss indication.
    pub pli: bool,
    /// Full intra request.
    pub fir: bool,
    /// Transport-wide congestion control.
    pub transport_cc: bool,
}

impl Feedback {
    fn add(&mut self, text: &str) {
        match text.trim_end() {
            "nack" => self.nack = true,
            "nack pli" => self.pli = true,
            "ccm fir" => self.fir = true,
            "transport-cc" => self.transport_cc = true,
            _ => {}
        }
    }

    /// Transport-wide feedback counts by a header extension, so there is none without it.
    pub(super) fn with(self, extensions: Extensions) -> Self {
        Self { transport_cc: self.transport_cc && extensions.transport_cc.is_some(), ..self }
    }

    /// As an `rtcp-fb` writes them.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let all =
            [(self.nack, "nack"), (self.pli, "nack pli"), (self.fir, "ccm fir"), (self.transport_cc, "transport-cc")];
        all.into_iter().filter_map(|(is_on, name)| is_on.then_some(name))
    }
}

/// All payload types of a line, in its order.
pub(super) fn payload_types<'a>(
    formats: impl Iterator<Item = &'a str>,
    section: &Section<'_>,
) -> Result<Vec<PayloadType>, BadSdp> {
    let mut types: Vec<PayloadType> = Vec::new();
    for format in formats {
        let number = format.parse().ok().filter(|number| *number < 128).ok_or(BadSdp::Bad("payload type"))?;
        if types.len() == SDP_PAYLOAD_TYPES_MAX {
            return Err(BadSdp::TooMany("payload types"));
        }
        if !types.iter().any(|known| known.number == number) {
            types.push(PayloadType::new(number));
        }
    }
    for (name, value) in section.attributes().filter(|(name, _)| matches!(*name, "rtpmap" | "fmtp" | "rtcp-fb")) {
        let Some((number, value)) = value.split_once(' ') else { continue };
        let is_named = |format: &&mut PayloadType| number == "*" || number.parse() == Ok(format.number);
        for format in types.iter_mut().filter(is_named) {
            match name {
                "rtpmap" => format.set_map(value).ok_or(BadSdp::Bad("rtpmap"))?,
                "rtcp-fb" => format.feedback.add(value),
                _ if value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') => {
                    value.trim().clone_into(&mut format.fmtp)
                }
                _ => return Err(BadSdp::Bad("fmtp")),
            }
        }
    }
    for rtx in types.iter_mut().filter(|format| format.name.eq_ignore_ascii_case("rtx")) {
        rtx.rtx_for = rtx.parameter("apt").and_then(|number| number.parse().ok());
    }
    Ok(types)
}

/// Codecs by their encoding names and clock rates: RFC 6184, 7798, 7741, 9628, 7587 and AV1's RTP specification.
const CODECS: [(Codec, &str, u32); 6] = [
    (Codec::Avc, "H264", 90_000),
    (Codec::Hevc, "H265", 90_000),
    (Codec::Av1, "AV1", 90_000),
    (Codec::Vp8, "VP8", 90_000),
    (Codec::Vp9, "VP9", 90_000),
    (Codec::Opus, "opus", 48_000),
];
