//! Writes descriptions: the session's part, and what all media lines have in common.
//!
//! `write!` into a `String` can't fail, so its results are dropped.

use core::fmt::Write as _;

use super::{
    Direction, Extensions, Local, Setup, Track,
    format::rtp_map,
    media::{Head, SCTP_PORT},
};
use crate::limits::DATA_CHANNEL_MESSAGE_BYTES_MAX;

/// A description that grows line by line.
pub(super) struct Writer<'a> {
    local: &'a Local,
    setup: Setup,
    mids: Vec<String>,
    media: String,
}

impl<'a> Writer<'a> {
    pub(super) fn new(local: &'a Local, setup: Setup) -> Self {
        Self { local, setup, mids: Vec::new(), media: String::new() }
    }

    /// An attribute of the current media line.
    pub(super) fn attribute(&mut self, text: impl core::fmt::Display) {
        let _ = write!(self.media, "a={text}\r\n");
    }

    /// A line of the bundle. Each carries the transport, which RFC 9143 §7.2 asks of the first alone: with the bundle
    /// policy that RFC 9725 §4.4.2 wants, aiortc looks at the last.
    pub(super) fn open(&mut self, mid: &str, head: &Head) {
        let Head { media, protocol, format } = head;
        let _ = write!(self.media, "m={media} 9 {protocol} {format}\r\nc=IN IP4 0.0.0.0\r\n");
        let (local, setup) = (self.local, self.setup.name());
        if !mid.is_empty() {
            self.attribute(format_args!("mid:{mid}"));
        }
        self.mids.push(mid.to_owned());
        self.attribute(format_args!("ice-ufrag:{}", local.ice.ufrag));
        self.attribute(format_args!("ice-pwd:{}", local.ice.pwd));
        self.attribute(format_args!("fingerprint:{}", local.fingerprint));
        self.attribute(format_args!("setup:{setup}"));
        write_candidates(&mut self.media, local);
    }

    /// A line that the answer refuses (RFC 3264 §6).
    pub(super) fn reject(&mut self, mid: &str, head: &Head) {
        let Head { media, protocol, format } = head;
        let _ = write!(self.media, "m={media} 0 {protocol} {format}\r\nc=IN IP4 0.0.0.0\r\n");
        if !mid.is_empty() {
            self.attribute(format_args!("mid:{mid}"));
        }
        self.attribute("inactive");
    }

    /// What a track's line says of RTP, whatever its codec.
    pub(super) fn rtp(&mut self, direction: Direction, extensions: Extensions) {
        self.attribute(direction.name());
        self.attribute("rtcp-mux");
        for (id, uri) in extensions.named() {
            self.attribute(format_args!("extmap:{id} {uri}"));
        }
    }

    /// A track's codec, with its retransmissions.
    pub(super) fn format(&mut self, track: &Track, fmtp: &str) {
        let number = track.payload_type;
        self.attribute(format_args!("rtpmap:{number} {}", rtp_map(track.codec).unwrap_or_default()));
        if !fmtp.is_empty() {
            self.attribute(format_args!("fmtp:{number} {fmtp}"));
        }
        for feedback in track.feedback.names() {
            self.attribute(format_args!("rtcp-fb:{number} {feedback}"));
        }
        if let Some(rtx) = track.rtx {
            self.attribute(format_args!("rtpmap:{rtx} rtx/{}", track.clock_rate_hz));
            self.attribute(format_args!("fmtp:{rtx} apt={number}"));
        }
    }

    /// What the line of a data channel association says of SCTP.
    pub(super) fn data(&mut self) {
        self.attribute(format_args!("sctp-port:{SCTP_PORT}"));
        self.attribute(format_args!("max-message-size:{DATA_CHANNEL_MESSAGE_BYTES_MAX}"));
    }

    /// The SSRCs that we send a track with.
    pub(super) fn ssrcs(&mut self, track: &Track) {
        let rtx = track.rtx_ssrcs.iter();
        for (ssrc, rtx) in rtx.clone() {
            self.attribute(format_args!("ssrc-group:FID {ssrc} {rtx}"));
        }
        let (session, kind) = (self.local.session_id, track.codec.as_str());
        self.attribute(format_args!("msid:{STREAM} {kind}"));
        for ssrc in track.ssrcs.iter().chain(rtx.map(|(_, rtx)| rtx)) {
            // One CNAME for all: the receiver plays them in step (RFC 3550 §6.5.1).
            self.attribute(format_args!("ssrc:{ssrc} cname:{session:x}"));
            self.attribute(format_args!("ssrc:{ssrc} msid:{STREAM} {kind}"));
        }
    }

    /// The whole description. `session` are lines of its session part. An answer has a BUNDLE group only if the offer
    /// has one.
    pub(super) fn finish(self, session: &str, bundle: bool) -> String {
        let mut text = String::with_capacity(256 + self.media.len());
        let id = self.local.session_id & (u64::MAX >> 1);
        let _ = write!(text, "v=0\r\no=- {id} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{session}");
        if bundle {
            let _ = write!(text, "a=group:BUNDLE {}\r\n", self.mids.join(" "));
        }
        text.push_str(&self.media);
        text
    }
}

/// Our candidates, all of them.
pub(super) fn write_candidates(text: &mut String, local: &Local) {
    for (foundation, candidate) in (1u32..).zip(&local.candidates) {
        let _ = write!(text, "a=candidate:{foundation} {candidate}\r\n");
    }
    text.push_str("a=end-of-candidates\r\n");
}

/// The name of the stream that our tracks belong to.
const STREAM: &str = "hawker";
