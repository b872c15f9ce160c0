//! What the publisher is told over RTCP: how his packets arrive, which are missing, and when a keyframe is needed.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Counters, track::Track};
use crate::proto::rtp::{
    packet::Packet,
    rtcp::{self, Report},
    twcc::Recorder,
};

/// The RTCP to one publisher.
pub(super) struct Feedback {
    keyframe_interval: Duration,
    report_at: Instant,
    arrivals: Recorder,
    /// The source that arrived last; transport-wide feedback must name one.
    newest_ssrc: u32,
    fir_command: u8,
    out: VecDeque<Vec<u8>>,
}

impl Feedback {
    pub(super) fn new(now: Instant, keyframe_interval: Duration) -> Self {
        Self {
            keyframe_interval,
            report_at: now + REPORT_INTERVAL,
            arrivals: Recorder::default(),
            newest_ssrc: 0,
            fir_command: 0,
            out: VecDeque::new(),
        }
    }

    /// Notes a packet's arrival, if its transport-wide number was agreed upon and is there.
    pub(super) fn handle_packet(&mut self, now: Instant, track: &Track, packet: &Packet<'_>) {
        let number = track.terms.extensions.transport_cc.and_then(|id| packet.extensions.get(id));
        if let (true, Some(number)) = (track.terms.feedback.transport_cc, number.and_then(<[u8]>::first_chunk)) {
            self.newest_ssrc = packet.header.ssrc;
            self.arrivals.record(now, u16::from_be_bytes(*number));
        }
    }

    /// When [`Self::poll`] has something to say, or a track to give up a packet.
    pub(super) fn deadline(&self, tracks: &[Track]) -> Option<Instant> {
        let of_tracks = tracks.iter().filter_map(|track| track.deadline(self.keyframe_interval));
        let report = tracks.iter().any(|track| !track.layers.is_empty()).then_some(self.report_at);
        of_tracks.chain(self.arrivals.deadline()).chain(report).min()
    }

    /// The next compound packet.
    pub(super) fn poll(&mut self, now: Instant, tracks: &mut [Track], counters: &mut Counters) -> Option<Vec<u8>> {
        if self.out.is_empty() {
            self.report(now, tracks);
            for track in tracks {
                self.ask(now, track, counters);
            }
            while let Some(feedback) = self.arrivals.poll_feedback(now) {
                let ssrc = self.newest_ssrc;
                self.add(&[], |out| rtcp::write_twcc(out, OUR_SSRC, ssrc, &feedback));
            }
        }
        self.out.pop_front()
    }

    fn report(&mut self, now: Instant, tracks: &mut [Track]) {
        if now < self.report_at {
            return;
        }
        self.report_at = now + REPORT_INTERVAL;
        let layers = tracks.iter_mut().flat_map(|track| &mut track.layers);
        let reports: Vec<_> = layers.filter_map(|layer| layer.report(now)).collect();
        if !reports.is_empty() {
            self.add(&reports, |_| ());
        }
    }

    fn ask(&mut self, now: Instant, track: &mut Track, counters: &mut Counters) {
        let (asks_for_packets, has_pli) = (track.terms.feedback.nack, track.terms.feedback.pli);
        for (layer, keyframe_due) in track.wanted(self.keyframe_interval) {
            let ssrc = layer.ssrc;
            if asks_for_packets {
                let lost = layer.poll_nack(now);
                if !lost.is_empty() {
                    self.add(&[], |out| rtcp::write_nack(out, OUR_SSRC, ssrc, &lost));
                }
            }
            if keyframe_due.is_some_and(|due| due <= now) {
                layer.handle_keyframe_request(now);
                counters.keyframe_requests += 1;
                self.fir_command = self.fir_command.wrapping_add(1);
                let command = self.fir_command;
                self.add(&[], |out| match has_pli {
                    true => rtcp::write_pli(out, OUR_SSRC, ssrc),
                    false => rtcp::write_fir(out, OUR_SSRC, ssrc, command),
                });
            }
        }
    }

    /// A compound begins with a report, which may be empty, and our name (RFC 3550 §6.1).
    fn add(&mut self, reports: &[Report], write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        rtcp::write_receiver_report(&mut out, OUR_SSRC, reports);
        rtcp::write_cname(&mut out, OUR_SSRC, CNAME);
        write(&mut out);
        self.out.push_back(out);
    }
}

/// We send no media, so any number will do that isn't one of his.
const OUR_SSRC: u32 = 1;
const CNAME: &str = "hawker";
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
