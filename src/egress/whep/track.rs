//! One track on its way to one viewer: headers, retransmissions, reports.

use std::collections::VecDeque;

use super::super::rtp::{RtpFrame, ticks};
use crate::{
    clock::Instant,
    limits::{WHEP_ASKED_MAX, WHEP_HISTORY_MAX, WHEP_HISTORY_PACKETS_MAX},
    media::TrackKind,
    proto::{
        rtp::{
            ntp,
            packet::Header,
            rtcp::{self, SenderInfo},
        },
        sdp,
        srtp::Sealer,
        webrtc::Outbox,
    },
};

/// Where packets go: sealed, into an outbox.
pub(super) struct Wire<'a> {
    pub(super) sealer: &'a mut Sealer,
    pub(super) out: &'a mut Outbox,
    pub(super) segments_max: usize,
    /// Of the next packet of any track.
    pub(super) transport_sequence: u16,
    /// Bytes written so far.
    pub(super) bytes: usize,
}

impl Wire<'_> {
    /// True if this is as much as goes out at once.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= super::BURST_BYTES
    }

    fn rtp(&mut self, header: &Header, extensions: &Extensions, payload: [&[u8]; 2]) {
        let sequence = self.transport_sequence.to_be_bytes();
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
        let (capture_id, captured) = extensions.capture.unwrap_or_default();
        // Elements with the id 0 are left out.
        let elements: [(u8, &[u8]); 2] =
            [(extensions.transport_id.unwrap_or(0), &sequence), (capture_id, &captured.to_be_bytes())];
        let (buffer, start) = self.out.begin();
        header.write(&elements, buffer);
        let header_bytes = buffer.len() - start;
        payload.iter().for_each(|part| buffer.extend_from_slice(part));
        let sealed = self.sealer.seal_rtp(buffer, start, header_bytes);
        self.end(start, sealed.is_ok());
    }

    fn rtcp(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let (buffer, start) = self.out.begin();
        write(buffer);
        let sealed = self.sealer.seal_rtcp(buffer, start);
        self.end(start, sealed.is_ok());
    }

    fn end(&mut self, start: usize, is_sealed: bool) {
        if !is_sealed {
            return self.out.abandon(start);
        }
        let (buffer, _) = self.out.begin();
        self.bytes += buffer.len() - start;
        self.out.end(start, self.segments_max);
    }
}

/// Header extensions of a packet.
#[derive(Clone, Copy)]
struct Extensions {
    transport_id: Option<u8>,
    /// The extension's id, and when the frame was captured, as NTP time.
    capture: Option<(u8, u64)>,
}

pub(super) struct Track {
    kind: TrackKind,
    ssrc: u32,
    payload_type: u8,
    transport_id: Option<u8>,
    capture_id: Option<u8>,
    rtx: Option<Rtx>,
    /// Of the next packet.
    sequence: u16,
    history: VecDeque<Sent>,
    /// Packets in `history`.
    history_packets: usize,
    /// Sequence numbers that the viewer asked for again.
    asked: VecDeque<u16>,
    /// Retransmissions that he may still have: one for each packet sent.
    credit: usize,
    /// Timestamp and PTS of the newest frame.
    newest: Option<(u32, i64)>,
    /// When a capture time was sent last.
    capture_told: Option<Instant>,
    packets: u32,
    octets: u32,
    /// The highest sequence number that the viewer has told of.
    reported: Option<u32>,
    pub(super) retransmitted: u64,
}

struct Rtx {
    ssrc: u32,
    payload_type: u8,
    sequence: u16,
}

/// A frame as it was sent, for retransmission.
struct Sent {
    /// Sequence number of its first packet.
    first: u16,
    frame: RtpFrame,
    at: Instant,
}

impl Track {
    /// `None` for a track without an SSRC.
    pub(super) fn new(terms: &sdp::Track) -> Option<Self> {
        let ssrc = *terms.ssrcs.first()?;
        let rtx_ssrc = terms.rtx_ssrcs.iter().find(|(of, _)| *of == ssrc).map(|(_, rtx)| *rtx);
        let rtx = terms.rtx.zip(rtx_ssrc).filter(|_| terms.feedback.nack);
        Some(Self {
            kind: terms.codec.kind(),
            ssrc,
            payload_type: terms.payload_type,
            transport_id: terms.extensions.transport_cc.filter(|_| terms.feedback.transport_cc),
            capture_id: terms.extensions.abs_capture_time,
            rtx: rtx.map(|(payload_type, ssrc)| Rtx { ssrc, payload_type, sequence: first_sequence() }),
            sequence: first_sequence(),
            history: VecDeque::new(),
            history_packets: 0,
            asked: VecDeque::new(),
            credit: 0,
            newest: None,
            capture_told: None,
            packets: 0,
            octets: 0,
            reported: None,
            retransmitted: 0,
        })
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Sends the packets of a frame from `from` on, as many as go out at once. Gives the one to continue with, if
    /// there is one.
    pub(super) fn send(&mut self, now: Instant, frame: &RtpFrame, from: usize, wire: &mut Wire<'_>) -> Option<usize> {
        if from == 0 {
            self.remember(now, frame);
        }
        let last = frame.packets.len().saturating_sub(1);
        for (nth, payload) in frame.packets.iter().enumerate().skip(from) {
            if wire.is_full() {
                return Some(nth);
            }
            let header = Header {
                marker: self.is_marked(nth, last),
                payload_type: self.payload_type,
                sequence: self.sequence,
                timestamp: frame.timestamp,
                ssrc: self.ssrc,
            };
            let capture = if nth == 0 { self.capture(now, frame) } else { None };
            wire.rtp(&header, &Extensions { transport_id: self.transport_id, capture }, [payload, &[]]);
            self.sequence = self.sequence.wrapping_add(1);
            self.credit = (self.credit + 1).min(WHEP_HISTORY_PACKETS_MAX);
            self.packets = self.packets.wrapping_add(1);
            self.octets = self.octets.wrapping_add(u32::try_from(payload.len()).unwrap_or(0));
        }
        None
    }

    /// The marker ends a picture; of sound, it would say that silence ends (RFC 3551 §4.1, §5).
    fn is_marked(&self, nth: usize, last: usize) -> bool {
        self.kind == TrackKind::Video && nth == last
    }

    fn remember(&mut self, now: Instant, frame: &RtpFrame) {
        self.newest = Some((frame.timestamp, frame.pts_us));
        if self.rtx.is_none() {
            return;
        }
        self.history_packets += frame.packets.len();
        self.history.push_back(Sent { first: self.sequence, frame: frame.clone(), at: now });
        while self.history.len() > 1
            && (self.history_packets > WHEP_HISTORY_PACKETS_MAX
                || self.history.front().is_some_and(|sent| sent.at + WHEP_HISTORY_MAX < now))
        {
            let Some(sent) = self.history.pop_front() else { break };
            self.history_packets -= sent.frame.packets.len();
        }
    }

    /// The capture time, once a second: a receiver computes those between.
    fn capture(&mut self, now: Instant, frame: &RtpFrame) -> Option<(u8, u64)> {
        let id = self.capture_id?;
        if self.capture_told.is_some_and(|told| now < told + super::REPORT_INTERVAL) {
            return None;
        }
        self.capture_told = Some(now);
        Some((id, ntp::from_unix_us(frame.pts_us.saturating_add(frame.utc_offset_us))))
    }

    /// The viewer asks for packets again.
    pub(super) fn handle_nack(&mut self, lost: &[u16]) {
        for sequence in lost {
            if self.asked.len() < WHEP_ASKED_MAX && !self.asked.contains(sequence) && self.sent(*sequence).is_some() {
                self.asked.push_back(*sequence);
            }
        }
    }

    /// Sends again what was asked for: on a stream of its own, with the packet's number in front (RFC 4588 §4).
    pub(super) fn resend(&mut self, wire: &mut Wire<'_>) {
        while self.credit > 0
            && !wire.is_full()
            && let Some(sequence) = self.asked.pop_front()
        {
            let Some((sent, nth)) = self.sent(sequence) else { continue };
            let frame = sent.frame.clone();
            let (Some(payload), Some(rtx)) = (frame.packets.iter().nth(nth), &self.rtx) else { continue };
            let header = Header {
                marker: self.is_marked(nth, frame.packets.len().saturating_sub(1)),
                payload_type: rtx.payload_type,
                sequence: rtx.sequence,
                timestamp: frame.timestamp,
                ssrc: rtx.ssrc,
            };
            let extensions = Extensions { transport_id: self.transport_id, capture: None };
            wire.rtp(&header, &extensions, [&sequence.to_be_bytes(), payload]);
            if let Some(rtx) = &mut self.rtx {
                rtx.sequence = rtx.sequence.wrapping_add(1);
            }
            self.credit -= 1;
            self.retransmitted += 1;
        }
    }

    /// The frame that a sent packet belongs to, and which of its packets it is.
    fn sent(&self, sequence: u16) -> Option<(&Sent, usize)> {
        // One that is still to be sent lies ahead.
        if !(1..=1 << 15).contains(&self.sequence.wrapping_sub(sequence)) {
            return None;
        }
        let nth = |sent: &Sent| usize::from(sequence.wrapping_sub(sent.first));
        let found = self.history.iter().rev().find(|sent| nth(sent) < sent.frame.packets.len())?;
        Some((found, nth(found)))
    }

    /// Says which time of the track's clock it is at a UTC instant (RFC 3550 §6.4.1). `pts_us` is the same instant on
    /// the stream's timeline.
    pub(super) fn report(&self, utc_us: i64, pts_us: i64, cname: &str, wire: &mut Wire<'_>) {
        let Some((timestamp, newest_us)) = self.newest else { return };
        let ahead = ticks(self.kind, pts_us).wrapping_sub(ticks(self.kind, newest_us));
        let info = SenderInfo {
            ntp: ntp::from_unix_us(utc_us),
            timestamp: timestamp.wrapping_add(ahead),
            packets: self.packets,
            octets: self.octets,
        };
        wire.rtcp(|out| {
            rtcp::write_sender_report(out, self.ssrc, &info, &[]);
            rtcp::write_cname(out, self.ssrc, cname);
        });
    }

    /// Packets that a report tells of, and how many of them it calls lost.
    pub(super) fn handle_report(&mut self, report: &rtcp::Report) -> Option<(u32, u32)> {
        let before = self.reported.replace(report.highest_sequence)?;
        let packets = report.highest_sequence.wrapping_sub(before);
        // A smaller number than before, or more packets than a second has, is no honest count.
        (packets < 1 << 16).then(|| (packets, packets * u32::from(report.fraction_lost) / 256))
    }
}

/// At random (RFC 3550 §5.1), in the lower half: so a receiver that misses the first packets can tell how often the
/// number has wrapped (RFC 3711 §3.3.1).
fn first_sequence() -> u16 {
    rand::random::<u16>() >> 1
}
