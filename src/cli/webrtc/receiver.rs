//! Frames out of what a WHEP session receives, and the RTCP that tells the server how it came.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{
    media::TrackKind,
    proto::{
        rtp::{
            packet::Packet,
            payload::{Depacketiser, Unit},
            reception::Reception,
            reorder::{Patience, Ready, Reorder},
            rtcp::{self, Rtcp},
            twcc::Recorder,
        },
        sdp::{self, Terms},
    },
};

/// The receiving end of a session's tracks.
pub(in crate::cli) struct Receiver {
    tracks: Vec<Track>,
    arrivals: Recorder,
    /// The source that came last; transport-wide feedback must name one.
    newest_ssrc: u32,
    report_at: Instant,
}

struct Track {
    terms: sdp::Track,
    packets: Reorder<Piece>,
    frames: Depacketiser,
    /// From the first packet on.
    reception: Option<(u32, Reception)>,
}

/// What is kept of a packet until its turn.
#[derive(Debug)]
struct Piece {
    timestamp: u32,
    marker: bool,
    payload: Bytes,
}

impl Receiver {
    /// Of the tracks that were agreed upon.
    pub(in crate::cli) fn new(terms: &Terms, now: Instant) -> Self {
        Self {
            tracks: terms.tracks.iter().cloned().map(Track::new).collect(),
            arrivals: Recorder::default(),
            newest_ssrc: 0,
            report_at: now + REPORT_INTERVAL,
        }
    }

    /// Takes an RTP packet; one that can't be read is as good as lost.
    pub(in crate::cli) fn handle_rtp(&mut self, now: Instant, packet: &[u8]) {
        let Ok(packet) = Packet::parse(packet) else { return };
        let number = packet.header.payload_type;
        let ours = |track: &&mut Track| number == track.terms.payload_type || Some(number) == track.terms.rtx;
        let Some(track) = self.tracks.iter_mut().find(ours) else { return };
        let sequence = track.terms.extensions.transport_cc.and_then(|id| packet.extensions.get(id));
        if let (true, Some(sequence)) = (track.terms.feedback.transport_cc, sequence.and_then(<[u8]>::first_chunk)) {
            self.newest_ssrc = packet.header.ssrc;
            self.arrivals.record(now, u16::from_be_bytes(*sequence));
        }
        track.handle_packet(now, &packet);
    }

    /// Takes a compound RTCP packet.
    pub(in crate::cli) fn handle_rtcp(&mut self, now: Instant, compound: &[u8]) {
        for packet in rtcp::parse(compound).unwrap_or_default() {
            let Rtcp::SenderReport { ssrc, info, .. } = packet else { continue };
            let receptions = self.tracks.iter_mut().filter_map(|track| track.reception.as_mut());
            if let Some((_, reception)) = receptions.into_iter().find(|(of, _)| *of == ssrc) {
                reception.handle_sender_report(now, info.ntp);
            }
        }
    }

    /// The next whole frame.
    pub(in crate::cli) fn poll_frame(&mut self, now: Instant) -> Option<(TrackKind, Unit)> {
        self.tracks.iter_mut().find_map(|track| Some((track.terms.codec.kind(), track.poll_frame(now)?)))
    }

    /// The next compound RTCP packet to send.
    pub(in crate::cli) fn poll_feedback(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut reports = Vec::new();
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            let receptions = self.tracks.iter_mut().filter_map(|track| track.reception.as_mut());
            reports.extend(receptions.filter_map(|(_, reception)| reception.report(now)));
        }
        let asked = self.tracks.iter_mut().find_map(|track| track.poll_nack(now));
        let arrivals = self.arrivals.poll_feedback(now);
        if reports.is_empty() && asked.is_none() && arrivals.is_none() {
            return None;
        }
        // A compound begins with a report, which may be empty, and our name (RFC 3550 §6.1).
        let mut out = Vec::new();
        rtcp::write_receiver_report(&mut out, OUR_SSRC, &reports);
        rtcp::write_cname(&mut out, OUR_SSRC, CNAME);
        if let Some((ssrc, lost)) = asked {
            rtcp::write_nack(&mut out, OUR_SSRC, ssrc, &lost);
        }
        if let Some(arrivals) = arrivals {
            rtcp::write_twcc(&mut out, OUR_SSRC, self.newest_ssrc, &arrivals);
        }
        Some(out)
    }

    /// When [`Self::poll_frame`] and [`Self::poll_feedback`] have something to say, whatever comes.
    pub(in crate::cli) fn deadline(&self) -> Instant {
        let holes = self.tracks.iter().filter_map(|track| track.packets.deadline());
        holes.chain(self.arrivals.deadline()).fold(self.report_at, Instant::min)
    }
}

impl Track {
    fn new(terms: sdp::Track) -> Self {
        let ask_every = (terms.feedback.nack && terms.rtx.is_some()).then_some(ASK_EVERY);
        Self {
            packets: Reorder::new(Patience { wait: HOLE_WAIT, ask_every }),
            frames: Depacketiser::new(terms.codec),
            reception: None,
            terms,
        }
    }

    fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        let header = &packet.header;
        let (mut sequence, mut payload) = (header.sequence, packet.payload);
        if header.payload_type == self.terms.payload_type {
            let rate = self.terms.clock_rate_hz;
            let reception = self.reception.get_or_insert_with(|| (header.ssrc, Reception::new(header.ssrc, rate)));
            reception.1.record(now, sequence, header.timestamp);
        } else if let Some((original, rest)) = payload.split_first_chunk() {
            // A retransmission (RFC 4588 §4).
            (sequence, payload) = (u16::from_be_bytes(*original), rest);
        }
        let payload = Bytes::copy_from_slice(payload);
        self.packets.insert(now, sequence, Piece { timestamp: header.timestamp, marker: header.marker, payload });
    }

    fn poll_frame(&mut self, now: Instant) -> Option<Unit> {
        loop {
            if let Some(unit) = self.frames.poll_unit() {
                return Some(unit);
            }
            match self.packets.poll(now)? {
                Ready::Lost { .. } => self.frames.handle_loss(),
                Ready::Packet(Piece { timestamp, marker, payload }) => {
                    // What can't be read is missing afterwards, and counted so.
                    let _ = self.frames.handle_packet(timestamp, marker, &payload);
                }
            }
        }
    }

    fn poll_nack(&mut self, now: Instant) -> Option<(u32, Vec<u16>)> {
        let (ssrc, _) = self.reception.as_ref()?;
        let mut lost = self.packets.poll_nack(now);
        lost.truncate(NACK_PACKETS_MAX);
        (!lost.is_empty()).then_some((*ssrc, lost))
    }
}

/// We send no media, so any number will do that isn't the server's.
const OUR_SSRC: u32 = 1;
const CNAME: &str = "hawker";
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A packet is waited for as long as a player would wait.
const HOLE_WAIT: Duration = Duration::from_millis(500);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Even if each is far from the next, so many fit a datagram.
const NACK_PACKETS_MAX: usize = 128;
