//! Session descriptions (RFC 8866) as WebRTC uses them (RFC 8829): offers read, answers written.
//!
//! Invariant: what is answered is made of our own words and of what a peer's text was validated to be; no line end
//! of his ever enters it. All tracks and the data channel share one transport (RFC 9143), or are rejected.

mod answer;
pub mod client;
mod format;
mod fragment;
pub mod fuzz;
mod lines;
mod media;
mod offer;
pub mod play;
pub mod publish;
mod transport;
mod write;

pub use self::{
    format::{Feedback, PayloadType},
    fragment::Fragment,
    media::{Data, Direction, Extensions, Kind, Media},
    offer::Offer,
    transport::{Candidate, Fingerprint, HashFunction, Setup, Transport},
};
use crate::media::{Codec, TrackKind};
pub use crate::proto::ice::Credentials;

/// Why a description can't be read. Nothing of it is quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSdp {
    /// It, or a line of it, is longer than `limits.rs` allows.
    #[error("the description, or a line of it, is too long")]
    TooLong,
    /// It has more of something than `limits.rs` allows.
    #[error("more {0} than allowed")]
    TooMany(&'static str),
    /// A line, counted from 1, isn't `type=value`, or has a control character.
    #[error("line {0} is not SDP")]
    Line(usize),
    /// A value breaks its grammar.
    #[error("bad {0}")]
    Bad(&'static str),
    /// Something that WebRTC demands isn't there.
    #[error("no {0}")]
    Missing(&'static str),
}

/// Why an offer has no answer. The texts are for the person at the other end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// None of the codecs offered will do.
    #[error("no common codec for {kind}: offered {offered}, possible {possible}")]
    NoCodec {
        /// `audio` or `video`.
        kind: &'static str,
        /// What the peer offered.
        offered: String,
        /// What would do.
        possible: String,
    },
    /// The line can't share the transport of the others (RFC 9725 §4.4.1).
    #[error("the {0} line must be in the BUNDLE group and have rtcp-mux")]
    NotBundled(&'static str),
    /// No line of the offer has the direction and the kind that are needed.
    #[error("the offer has no audio or video line to {0}")]
    NoMedia(&'static str),
    /// Two lite agents never find each other (RFC 8445 §2.5).
    #[error("both ends are ICE-lite")]
    BothLite,
}

/// Our side of a description.
#[derive(Debug, Clone)]
pub struct Local {
    /// Of this session alone.
    pub ice: Credentials,
    /// Our certificate's.
    pub fingerprint: Fingerprint,
    /// Where we listen.
    pub candidates: Vec<Candidate>,
    /// Random; its uppermost bit isn't used (RFC 8829 §5.2.1).
    pub session_id: u64,
}

/// SSRCs for the tracks we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ssrcs {
    /// The picture's.
    pub video: u32,
    /// That of its retransmissions (RFC 4588).
    pub video_rtx: u32,
    /// The sound's.
    pub audio: u32,
}

/// What an offer and its answer agreed upon, the same for both ends and directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The peer's transport.
    pub transport: Transport,
    /// At most one video and one audio track, in the order of their lines.
    pub tracks: Vec<Track>,
    /// The data channel association, if there is one.
    pub data: Option<Data>,
}

impl Terms {
    /// The track of a kind.
    pub fn track(&self, kind: TrackKind) -> Option<&Track> {
        self.tracks.iter().find(|track| track.codec.kind() == kind)
    }
}

/// A track as agreed upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The line's name, empty if it has none.
    pub mid: String,
    /// The codec.
    pub codec: Codec,
    /// The codec's payload type.
    pub payload_type: u8,
    /// The payload type of retransmissions (RFC 4588).
    pub rtx: Option<u8>,
    /// RTP ticks a second.
    pub clock_rate_hz: u32,
    /// Channels of an audio track, 1 for video.
    pub channels: u8,
    /// The codec's parameters as the peer wrote them.
    pub fmtp: String,
    /// RTCP feedback that both ends know.
    pub feedback: Feedback,
    /// Header extensions that both ends know.
    pub extensions: Extensions,
    /// The sender's SSRCs as announced, without those of retransmissions; empty with simulcast by rid.
    pub ssrcs: Vec<u32>,
    /// Pairs of an SSRC and that of its retransmissions.
    pub rtx_ssrcs: Vec<(u32, u32)>,
    /// Simulcast layers, as the sender orders them (RFC 8853); empty without simulcast.
    pub rids: Vec<String>,
}

impl Track {
    fn new(media: &Media, format: &PayloadType, codec: Codec) -> Self {
        Self {
            mid: media.mid.clone(),
            codec,
            payload_type: format.number,
            rtx: media.rtx_of(format.number),
            clock_rate_hz: format.clock_rate_hz,
            channels: format.channels,
            fmtp: format.fmtp.clone(),
            feedback: format.feedback.with(media.extensions),
            extensions: media.extensions,
            ssrcs: media.ssrcs.clone(),
            rtx_ssrcs: media.rtx_ssrcs.clone(),
            rids: media.rids.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
