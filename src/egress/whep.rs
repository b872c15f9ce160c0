//! One WHEP viewer: the shared packets from the newest keyframe on, behind headers of his own and sealed for him.

mod loss;
mod telling;
mod track;

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use self::{
    loss::Loss,
    telling::Telling,
    track::{Track, Wire},
};
use super::{
    Counters, Egress,
    rtp::{BFrames, RtpEntry, RtpFrame, RtpHead},
};
use crate::{
    clock::{self, Instant},
    hub::{Cursor, End, EntryKind, Muxed, Patience, Read, Viewer},
    media::{Codec, TrackKind},
    proto::{
        rtp::{
            ntp,
            rtcp::{self, Report, Rtcp},
        },
        sdp::Terms,
        srtp::Sealer,
        webrtc::Outbox,
    },
};

/// Why a viewer is played to no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// His line ended, or he left too many events unread.
    #[error("{0}")]
    Line(#[from] End),
    /// The stream has pictures out of order, which can't be played over WebRTC.
    #[error("b-frames")]
    BFrames,
    /// The stream's codec is no longer the one that was agreed upon.
    #[error("codec changed")]
    CodecChanged,
    /// The stream has a track now that he asked for, and that it did not have when he came.
    #[error("tracks changed")]
    TracksChanged,
}

/// How a viewer's link does, by what he says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// Packets lost of a thousand, in the last second.
    pub loss_per_mille: u32,
    /// The round trip, if he has told.
    pub round_trip: Option<Duration>,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Keyframes that he asked for. They come when the publisher makes them.
    pub keyframes_asked: u64,
    /// Times that pictures were left out up to a keyframe, because the link lost too many.
    pub overruns: u64,
}

/// A viewer's place in a stream. What it yields goes through an [`Outbox`] to his socket.
pub struct Playback {
    cname: String,
    cursor: Cursor<RtpEntry>,
    codec: Option<Codec>,
    /// What he would play if the stream had it.
    missing: Vec<TrackKind>,
    video: Option<Track>,
    audio: Option<Track>,
    transport_sequence: u16,
    /// A frame whose packets are not all sent, and the first of those.
    unsent: Option<(RtpFrame, usize)>,
    /// Nothing is sent before.
    paused_until: Option<Instant>,
    /// When the next sender reports are due; `None` before the first frame.
    report_at: Option<Instant>,
    telling: Telling,
    loss: Loss,
    /// He tells of each packet (transport-wide feedback).
    has_feedback: bool,
    /// Pictures are left out up to a keyframe.
    is_skipping: bool,
    link: Link,
    counters: Counters,
    /// What makes UTC of a PTS.
    utc_offset_us: i64,
    joined: Instant,
    joined_utc_us: i64,
    entered: Instant,
    over: Option<Over>,
    patience: Patience,
    stop: CancellationToken,
    _muxed: Muxed<RtpEntry>,
    viewer: Viewer,
}

impl Playback {
    /// Joins at the newest keyframe, or at the first one to come. `cname` is the one in the answer.
    pub fn join(egress: &Egress, viewer: Viewer, terms: &Terms, cname: String, b_frames: BFrames) -> Self {
        let muxed = egress.attach_rtp(viewer.stream(), b_frames);
        let cursor = muxed.cursor(Some(egress.patience.lag_us_max()));
        let (video, audio) = (terms.track(TrackKind::Video), terms.track(TrackKind::Audio));
        let has_feedback = terms.tracks.iter().any(|track| track.feedback.transport_cc);
        let joined = clock::now();
        Self {
            cname,
            cursor,
            codec: video.map(|video| video.codec),
            missing: Vec::new(),
            video: video.and_then(Track::new),
            audio: audio.and_then(Track::new),
            transport_sequence: rand::random(),
            unsent: None,
            paused_until: None,
            report_at: None,
            telling: Telling::default(),
            loss: Loss::default(),
            has_feedback,
            is_skipping: false,
            link: Link::default(),
            counters: Counters::default(),
            utc_offset_us: 0,
            joined,
            joined_utc_us: clock::unix_us(),
            entered: joined,
            over: None,
            patience: egress.patience,
            stop: egress.stop.clone(),
            _muxed: muxed,
            viewer,
        }
    }

    /// He asked for these tracks too, which the stream does not have. When one comes he is over: what was agreed upon
    /// can't be changed, and if he comes again he gets it.
    pub fn missing(mut self, missing: Vec<TrackKind>) -> Self {
        self.missing = missing;
        self
    }

    /// What he got so far.
    pub fn counters(&self) -> Counters {
        Counters { events: self.telling.events, events_replayed: self.telling.replayed, ..self.counters }
    }

    /// How his link does.
    pub fn link(&self) -> Link {
        let retransmitted = self.video.iter().chain(&self.audio).map(|track| track.retransmitted).sum();
        Link { loss_per_mille: self.loss.per_mille(), retransmitted, ..self.link }
    }

    /// The stream he watches.
    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// How he is borne with when he can't keep up.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Cancelled when the server stops; that ends his line too.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// When the newest of what was taken last entered the hub; for what was kept for him, when he came.
    pub fn entered(&self) -> Instant {
        self.entered
    }

    /// From now on he is told events: first the room as it was at the newest keyframe that said so, then what came
    /// since.
    pub fn tell_events(&mut self) {
        self.telling.begin();
    }

    /// What told him is gone, and what was on its way with it. Where he listens again, [`Playback::tell_events`] begins
    /// with the room once more.
    pub fn stop_telling(&mut self) {
        self.telling.stop();
    }

    /// The next message for him. Those that there are after [`Playback::poll_take`] go out before what it took.
    pub fn poll_message(&mut self) -> Option<Bytes> {
        self.telling.poll()
    }

    /// Takes what he says of his link, a compound RTCP packet. Call [`Playback::poll_take`] then: he may have asked
    /// for packets.
    pub fn handle_rtcp(&mut self, now: Instant, compound: &[u8]) {
        for packet in rtcp::parse(compound).unwrap_or_default() {
            match packet {
                Rtcp::Nack { media_ssrc, lost } => {
                    if let Some(track) = self.track(media_ssrc) {
                        track.handle_nack(&lost);
                    }
                }
                Rtcp::Pli { .. } | Rtcp::Fir { .. } => self.link.keyframes_asked += 1,
                Rtcp::ReceiverReport { reports, .. } | Rtcp::SenderReport { reports, .. } => {
                    reports.iter().for_each(|report| self.handle_report(now, report));
                }
                Rtcp::Twcc(feedback) if self.has_feedback => {
                    let (mut packets, mut lost) = (0, 0);
                    for (_, arrived) in feedback.arrivals() {
                        packets += 1;
                        lost += u32::from(arrived.is_none());
                    }
                    self.note_loss(now, packets, lost);
                }
                Rtcp::Twcc(_) | Rtcp::Remb { .. } | Rtcp::Bye { .. } | Rtcp::Other => {}
            }
        }
    }

    fn handle_report(&mut self, now: Instant, report: &Report) {
        let ntp = ntp::from_unix_us(self.utc_us(now));
        let has_feedback = self.has_feedback;
        let Some(track) = self.track(report.ssrc) else { return };
        let counted = track.handle_report(report);
        self.link.round_trip = report.round_trip(ntp).or(self.link.round_trip);
        if let (Some((packets, lost)), false) = (counted, has_feedback) {
            self.note_loss(now, packets, lost);
        }
    }

    fn note_loss(&mut self, now: Instant, packets: u32, lost: u32) {
        if self.loss.add(now, packets, lost) && self.video.is_some() {
            self.is_skipping = true;
            self.link.overruns += 1;
        }
    }

    fn track(&mut self, ssrc: u32) -> Option<&mut Track> {
        self.video.iter_mut().chain(&mut self.audio).find(|track| track.ssrc() == ssrc)
    }

    fn utc_us(&self, now: Instant) -> i64 {
        let since = now.saturating_duration_since(self.joined).as_micros();
        self.joined_utc_us.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// When [`Playback::poll_take`] has something to do whatever comes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.paused_until {
            Some(until) => Some(until),
            None => self.report_at,
        }
    }

    /// Seals what is to be sent next into `out`; if there is nothing, the task of `cx` is woken when there is.
    ///
    /// He is not sent everything that waits at once, whether at the join or behind a stall: no socket's buffer would
    /// hold it. Between the parts this is pending, and only [`Playback::poll_timeout`] says for how long.
    pub fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        sealer: &mut Sealer,
        segments_max: usize,
        out: &mut Outbox,
    ) -> Poll<Result<(), Over>> {
        if self.paused_until.is_some_and(|until| now < until) {
            return Poll::Pending;
        }
        self.paused_until = None;
        let transport_sequence = self.transport_sequence;
        let mut wire = Wire { sealer, out, segments_max, transport_sequence, bytes: 0 };
        self.report(now, &mut wire);
        self.video.iter_mut().chain(&mut self.audio).for_each(|track| track.resend(&mut wire));
        let taken = self.poll_line(cx, now, &mut wire);
        self.transport_sequence = wire.transport_sequence;
        self.paused_until = wire.is_full().then(|| now + BURST_PAUSE);
        self.counters.bytes += wire.bytes as u64;
        taken
    }

    /// Sends what the line has, waiting for it if there is nothing else to send or tell.
    fn poll_line(&mut self, cx: &mut Context<'_>, now: Instant, wire: &mut Wire<'_>) -> Poll<Result<(), Over>> {
        let told = self.telling.told();
        self.send_frame(now, wire);
        while !wire.is_full() {
            if wire.bytes == 0 && self.telling.told() == told {
                if let Some(over) = self.over {
                    return Poll::Ready(Err(over));
                }
                let read = ready!(self.cursor.poll_recv(cx))?;
                self.handle_read(read);
            } else if self.over.is_none()
                && let Ok(Some(read)) = self.cursor.try_recv()
            {
                self.handle_read(read);
            } else {
                // An end is found again, and reported, by the next call.
                break;
            }
            self.send_frame(now, wire);
        }
        self.entered = self.cursor.entered().max(self.joined);
        Poll::Ready(Ok(()))
    }

    fn handle_read(&mut self, read: Read<RtpEntry>) {
        match read {
            Read::Skipped { frames } => self.counters.frames_skipped += frames,
            Read::Entry { entry: RtpEntry::Head(head), .. } => self.handle_head(head),
            Read::Entry { entry: RtpEntry::Event(message), .. } => self.telling.handle_event(message),
            Read::Entry { entry: RtpEntry::OutOfOrder, .. } if self.video.is_some() => self.over = Some(Over::BFrames),
            Read::Entry { entry: RtpEntry::OutOfOrder, .. } => {}
            Read::Entry { entry: RtpEntry::Frame(frame), .. } => self.handle_frame(frame),
        }
        if self.telling.is_full() {
            self.over = Some(End::EventsLost.into());
        }
    }

    fn handle_head(&mut self, head: Arc<RtpHead>) {
        // Another configuration of the same codec comes with its keyframe.
        let codec = head.tracks.video.as_ref().map(|video| video.codec);
        if self.codec.is_some() && codec.is_some() && codec != self.codec {
            self.over = Some(Over::CodecChanged);
        }
        self.telling.handle_head(head);
    }

    fn handle_frame(&mut self, frame: RtpFrame) {
        self.telling.tell_head();
        self.utc_offset_us = frame.utc_offset_us;
        let is_played = match frame.track {
            TrackKind::Video => self.video.is_some(),
            TrackKind::Audio => self.audio.is_some(),
        };
        if self.missing.contains(&frame.track) {
            self.over = Some(Over::TracksChanged);
        }
        if frame.kind == EntryKind::Start {
            self.is_skipping = false;
        }
        if self.is_skipping && frame.track == TrackKind::Video {
            self.counters.frames_skipped += 1;
        } else if is_played && self.over.is_none() {
            self.unsent = Some((frame, 0));
        }
    }

    fn send_frame(&mut self, now: Instant, wire: &mut Wire<'_>) {
        let Some((frame, from)) = self.unsent.take() else { return };
        let track = match frame.track {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        };
        let Some(track) = track else { return };
        match track.send(now, &frame, from, wire) {
            Some(next) => self.unsent = Some((frame, next)),
            None => self.counters.frames += 1,
        }
        self.report_at.get_or_insert(now);
    }

    /// Tells how the tracks' clocks stand to UTC, by the room's clock: so both play in step, and with the same stream
    /// on other nodes.
    fn report(&mut self, now: Instant, wire: &mut Wire<'_>) {
        if self.report_at.is_none_or(|at| now < at) {
            return;
        }
        self.report_at = Some(now + REPORT_INTERVAL);
        let utc_us = self.utc_us(now);
        let pts_us = utc_us.saturating_sub(self.utc_offset_us);
        for track in self.video.iter().chain(&self.audio) {
            track.report(utc_us, pts_us, &self.cname, wire);
        }
    }
}

/// What is sent at once, and how long the rest waits: 50 Mbit/s, in parts that any socket's buffer holds.
const BURST_BYTES: usize = 32 * 1024;
const BURST_PAUSE: Duration = Duration::from_millis(5);
/// Between sender reports; RFC 3550 §6.2 allows it for streams beyond 360 kbit/s, and players start in step the sooner.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
