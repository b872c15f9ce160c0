//! One RTP source: its packets in order, asked for where they are missing, and made into frames.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use super::{Counters, clock::MediaClock};
use crate::{
    limits::{PARAMETER_SETS_MAX, RTP_REORDER_PACKETS_MAX},
    media::VideoConfig,
    proto::{
        rtp::{
            packet::{Header, Packet},
            payload::{Depacketiser, Unit},
            reception::Reception,
            reorder::{Patience, Ready, Reorder},
            rtcp::Report,
        },
        sdp::Track,
    },
};

/// One SSRC, and that of its retransmissions: the whole track, or a layer of simulcast.
pub(super) struct Layer {
    pub(super) ssrc: u32,
    pub(super) rtx_ssrc: Option<u32>,
    /// Its place in the sender's list.
    pub(super) rank: usize,
    pub(super) clock: MediaClock,
    /// The configuration of its frames, for video.
    pub(super) config: Option<VideoConfig>,
    pub(super) heard: Instant,
    reorder: Reorder<Held>,
    depacketiser: Depacketiser,
    reception: Reception,
    requests: Requests,
    /// When a keyframe came, and when one was asked for.
    keyframe_at: Option<Instant>,
    keyframe_asked_at: Option<Instant>,
}

struct Held {
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

impl Layer {
    pub(super) fn new(now: Instant, terms: &Track, ssrc: u32, rank: usize) -> Self {
        let is_paired = |(primary, rtx): &(u32, u32)| (*primary == ssrc).then_some(*rtx);
        Self {
            ssrc,
            rtx_ssrc: terms.rtx_ssrcs.iter().find_map(is_paired),
            rank,
            clock: MediaClock::new(terms.clock_rate_hz),
            config: None,
            heard: now,
            reorder: Reorder::new(Requests::default().patience(false)),
            depacketiser: Depacketiser::new(terms.codec)
                .with_parameter_sets(parameter_sets(&terms.fmtp).iter().map(Vec::as_slice)),
            reception: Reception::new(ssrc, terms.clock_rate_hz),
            requests: Requests::default(),
            keyframe_at: None,
            // A source begins with a keyframe: that one needs no asking.
            keyframe_asked_at: Some(now),
        }
    }

    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        arrived_us: i64,
        packet: &Packet<'_>,
        counters: &mut Counters,
    ) {
        let Header { sequence, timestamp, .. } = packet.header;
        self.heard = now;
        self.clock.handle_packet(arrived_us, timestamp);
        self.reception.record(now, sequence, timestamp);
        self.insert(now, sequence, packet.header, packet.payload, counters);
    }

    /// RFC 4588 §4: the original sequence number goes before the payload.
    pub(super) fn handle_retransmission(&mut self, now: Instant, packet: &Packet<'_>, counters: &mut Counters) {
        if let Some((sequence, payload)) = packet.payload.split_first_chunk() {
            self.insert(now, u16::from_be_bytes(*sequence), packet.header, payload, counters);
        }
    }

    fn insert(&mut self, now: Instant, sequence: u16, header: Header, payload: &[u8], counters: &mut Counters) {
        if self.requests.handle_arrival(now, sequence) {
            counters.recovered += 1;
        }
        let Header { timestamp, marker, .. } = header;
        self.reorder.insert(now, sequence, Held { timestamp, marker, payload: payload.to_vec() });
    }

    /// The next frame, also of a layer that is not the one shown.
    pub(super) fn poll(&mut self, now: Instant, counters: &mut Counters) -> Option<Unit> {
        loop {
            if let Some(unit) = self.depacketiser.poll_unit() {
                if unit.keyframe {
                    self.keyframe_at = Some(now);
                }
                if unit.config.is_some() {
                    self.config.clone_from(&unit.config);
                }
                return Some(unit);
            }
            match self.reorder.poll(now)? {
                Ready::Packet(Held { timestamp, marker, payload }) => {
                    if self.depacketiser.handle_packet(timestamp, marker, &payload).is_err() {
                        counters.malformed += 1;
                    }
                }
                Ready::Lost { packets } => {
                    counters.lost += u64::from(packets);
                    self.depacketiser.handle_loss();
                }
            }
        }
    }

    /// Whether missing packets are asked for.
    pub(super) fn set_asking(&mut self, asks: bool) {
        self.reorder.handle_patience(self.requests.patience(asks));
    }

    /// The packets to ask for now.
    pub(super) fn poll_nack(&mut self, now: Instant) -> Vec<u16> {
        let missing = self.reorder.poll_nack(now);
        missing.iter().for_each(|sequence| self.requests.handle_request(now, *sequence));
        missing
    }

    /// Was this packet asked for, and has not come?
    pub(super) fn has_asked_for(&self, sequence: u16) -> bool {
        self.requests.open.iter().any(|request| request.sequence == sequence)
    }

    pub(super) fn handle_sender_report(&mut self, now: Instant, ntp: u64) {
        self.reception.handle_sender_report(now, ntp);
    }

    pub(super) fn report(&mut self, now: Instant) -> Option<Report> {
        self.reception.report(now)
    }

    pub(super) fn is_flowing(&self, now: Instant) -> bool {
        now < self.heard + FLOWING_MAX
    }

    /// When holes are to be asked for or given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reorder.deadline()
    }

    /// When a keyframe is to be asked for: soon if there is none to go on from (or to change layers at), else when the
    /// newest is that old. None of a source that is silent.
    pub(super) fn keyframe_due(&self, changes_to_it: bool, interval: Duration) -> Option<Instant> {
        let after_asking = |pause: Duration| self.keyframe_asked_at.map_or(self.heard, |asked| asked + pause);
        let due = if changes_to_it || self.depacketiser.wants_keyframe() {
            after_asking(REQUEST_INTERVAL_MIN)
        } else {
            self.keyframe_at
                .map_or(self.heard, |at| at + interval)
                .max(after_asking(interval.max(REQUEST_INTERVAL_MIN)))
        };
        (due < self.heard + FLOWING_MAX).then_some(due)
    }

    pub(super) fn handle_keyframe_request(&mut self, now: Instant) {
        self.keyframe_asked_at = Some(now);
    }
}

/// The parameter sets that the description gives (RFC 6184 §8.1, RFC 7798 §7.1); what isn't base64 is left out.
fn parameter_sets(fmtp: &str) -> Vec<Vec<u8>> {
    let parameters = fmtp.split(';').filter_map(|parameter| parameter.trim().split_once('='));
    let sets = parameters.filter(|(name, _)| PARAMETER_SETS.iter().any(|known| known.eq_ignore_ascii_case(name)));
    let sets = sets.flat_map(|(_, sets)| sets.split(',')).take(PARAMETER_SETS_MAX);
    sets.filter_map(|set| STANDARD_NO_PAD.decode(set.trim().trim_end_matches('=')).ok()).collect()
}

/// Packets asked for and not here yet, and how long the answers take.
struct Requests {
    open: VecDeque<Request>,
    round_trip: Duration,
}

struct Request {
    sequence: u16,
    at: Instant,
    is_repeated: bool,
}

impl Default for Requests {
    fn default() -> Self {
        Self { open: VecDeque::new(), round_trip: ROUND_TRIP }
    }
}

impl Requests {
    fn handle_request(&mut self, now: Instant, sequence: u16) {
        if let Some(request) = self.open.iter_mut().find(|request| request.sequence == sequence) {
            request.is_repeated = true;
            return;
        }
        self.forget_old(now);
        if self.open.len() >= RTP_REORDER_PACKETS_MAX {
            self.open.pop_front();
        }
        self.open.push_back(Request { sequence, at: now, is_repeated: false });
    }

    fn forget_old(&mut self, now: Instant) {
        while self.open.pop_front_if(|oldest| oldest.at + REQUEST_AGE_MAX < now).is_some() {}
    }

    /// True if the packet had been asked for. To which of two requests it answers is not known (RFC 6298 §3).
    fn handle_arrival(&mut self, now: Instant, sequence: u16) -> bool {
        // An old request's number may have come round again.
        self.forget_old(now);
        let Some(index) = self.open.iter().position(|request| request.sequence == sequence) else { return false };
        if let Some(Request { at, is_repeated: false, .. }) = self.open.remove(index) {
            self.round_trip = (self.round_trip * 7 + now.saturating_duration_since(at)) / 8;
        }
        true
    }

    /// Two requests have the time to be answered.
    fn patience(&self, asks: bool) -> Patience {
        let wait = if asks { (self.round_trip * 3).clamp(WAIT_MIN, WAIT_MAX) } else { WAIT_MIN };
        Patience { wait, ask_every: asks.then_some(self.round_trip) }
    }
}

const PARAMETER_SETS: [&str; 4] = ["sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps"];
/// Taken for the round trip before it is known.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// A hole is waited for at least this long, for packets that were overtaken, …
const WAIT_MIN: Duration = Duration::from_millis(50);
/// … and at most this long: then the picture has stood still for long enough.
const WAIT_MAX: Duration = Duration::from_millis(400);
/// Nothing answers a request after this.
const REQUEST_AGE_MAX: Duration = Duration::from_secs(1);
/// Between two requests for a keyframe: a keyframe costs the sender as much as a second of other pictures.
const REQUEST_INTERVAL_MIN: Duration = Duration::from_millis(500);
/// A layer that is silent for this long has stopped.
const FLOWING_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_never_answered_tells_nothing_of_the_round_trip() {
        let (mut requests, start) = (Requests::default(), crate::clock::now().into_std());
        requests.handle_request(start, 7);
        assert!(!requests.handle_arrival(start + Duration::from_secs(600), 7));
        assert_eq!(requests.round_trip, ROUND_TRIP);
        requests.handle_request(start, 8);
        assert!(requests.handle_arrival(start + REQUEST_AGE_MAX, 8));
        assert_eq!(requests.round_trip, (ROUND_TRIP * 7 + REQUEST_AGE_MAX) / 8);
    }
}
