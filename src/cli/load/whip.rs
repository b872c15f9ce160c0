//! WHIP publishers: the synthetic stream in RTP packets, sent again when they are asked for, with a keyframe where
//! one is.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;
use url::Url;

use super::media::{Due, Synthetic};
use crate::{
    cli::webrtc::{Failed, Input, Session},
    clock::{self, Instant},
    media::TrackKind,
    proto::{
        rtp::{
            ntp,
            packet::Header,
            payload::{Packetiser, Packets},
            rtcp::{self, Rtcp, SenderInfo},
        },
        sdp::{self, Ssrcs},
        webrtc::Over,
    },
};

/// A publisher on air.
pub(super) struct Publisher {
    session: Session,
    packetiser: Packetiser,
    video: Option<Track>,
    audio: Option<Track>,
    /// Of the next packet of any track.
    transport_sequence: u16,
    /// When the next reports are due.
    report_at: Instant,
    /// The next picture is to be a keyframe.
    wants_keyframe: bool,
}

impl Publisher {
    /// Asks to publish; returns once media may flow.
    pub(super) async fn connect(url: &Url, media: &Synthetic) -> Result<Self, Failed> {
        let ssrcs = Ssrcs { video: rand::random(), video_rtx: rand::random(), audio: rand::random() };
        let connecting = async {
            let mut session = Session::publish(url, media.has_sound(), ssrcs).await?;
            while !session.is_connected() {
                session.turn(clock::now() + CONNECT_TIMEOUT, |_, _| ()).await?;
            }
            Ok::<_, Failed>(session)
        };
        let session = timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or(Err(Over::NotConnected.into()))?;
        let track = |kind, ssrc, rtx_ssrc| Some(Track::new(session.terms().track(kind)?, ssrc, rtx_ssrc));
        Ok(Self {
            video: track(TrackKind::Video, ssrcs.video, Some(ssrcs.video_rtx)),
            audio: track(TrackKind::Audio, ssrcs.audio, None),
            packetiser: Packetiser::new(media.video().codec, PAYLOAD_BYTES_MAX),
            transport_sequence: 0,
            report_at: clock::now(),
            wants_keyframe: false,
            session,
        })
    }

    /// Waits, and answers what the server asks for meanwhile.
    pub(super) async fn wait_until(&mut self, at: Instant) -> Result<(), Failed> {
        loop {
            let mut asked = Vec::new();
            let handle = |_, input: Input<'_>| {
                if let Input::Rtcp(packet) = input {
                    asked.extend(rtcp::parse(packet).unwrap_or_default());
                }
            };
            self.session.turn(at, handle).await?;
            for packet in asked {
                match packet {
                    Rtcp::Nack { media_ssrc, lost } => self.resend(media_ssrc, &lost),
                    Rtcp::Pli { .. } | Rtcp::Fir { .. } => self.wants_keyframe = true,
                    _ => {}
                }
            }
            self.session.flush();
            if at <= clock::now() {
                return Ok(());
            }
        }
    }

    /// Sends a frame that is due now; gives how many bytes it has.
    pub(super) fn send(&mut self, due: &Due, media: &Synthetic) -> usize {
        let clock_us = clock::unix_us();
        let asked = due.track == TrackKind::Video && std::mem::take(&mut self.wants_keyframe);
        let due = &Due { keyframe: due.keyframe || asked, ..*due };
        let frame = media.frame(due, clock_us);
        let bytes = frame.len();
        let (track, packets) = match due.track {
            TrackKind::Video => (&mut self.video, self.packetiser.packetise(media.video(), due.keyframe, &frame)),
            TrackKind::Audio => (&mut self.audio, Packetiser::audio(frame)),
        };
        if let Some(track) = track {
            track.send(&mut self.session, &mut self.transport_sequence, due.at_us, &packets);
        }
        if self.report_at <= clock::now() {
            self.report_at = clock::now() + REPORT_INTERVAL;
            for track in self.video.iter().chain(&self.audio) {
                self.session.send_rtcp(&track.report(clock_us, due.at_us));
            }
        }
        self.session.flush();
        bytes
    }

    fn resend(&mut self, ssrc: u32, lost: &[u16]) {
        let track = self.video.iter_mut().chain(&mut self.audio).find(|track| track.ssrc == ssrc);
        if let Some(track) = track {
            lost.iter().for_each(|number| track.resend(&mut self.session, &mut self.transport_sequence, *number));
        }
    }

    /// Ends the stream.
    pub(super) async fn close(self) -> Result<(), Failed> {
        self.session.close().await
    }
}

struct Track {
    kind: TrackKind,
    ssrc: u32,
    payload_type: u8,
    /// Payload type, SSRC and next sequence number of retransmissions.
    rtx: Option<(u8, u32, u16)>,
    transport_id: Option<u8>,
    /// Of the next packet.
    sequence: u16,
    packets: u32,
    octets: u32,
    history: VecDeque<Sent>,
}

/// A packet that may be asked for again.
struct Sent {
    header: Header,
    payload: Bytes,
}

impl Track {
    fn new(terms: &sdp::Track, ssrc: u32, rtx_ssrc: Option<u32>) -> Self {
        let rtx = terms.rtx.zip(rtx_ssrc).filter(|_| terms.feedback.nack);
        Self {
            kind: terms.codec.kind(),
            ssrc,
            payload_type: terms.payload_type,
            rtx: rtx.map(|(number, ssrc)| (number, ssrc, 0)),
            transport_id: terms.extensions.transport_cc.filter(|_| terms.feedback.transport_cc),
            sequence: 0,
            packets: 0,
            octets: 0,
            history: VecDeque::new(),
        }
    }

    /// The time in ticks of the track's clock.
    fn ticks(&self, at_us: u64) -> u32 {
        let ticks_per_ms = if self.kind == TrackKind::Video { 90 } else { 48 };
        u32::try_from((at_us * ticks_per_ms / 1000) & 0xffff_ffff).unwrap_or(0)
    }

    fn send(&mut self, session: &mut Session, transport_sequence: &mut u16, at_us: u64, packets: &Packets) {
        for (nth, payload) in (1..).zip(packets.iter()) {
            let header = Header {
                marker: self.kind == TrackKind::Video && nth == packets.len(),
                payload_type: self.payload_type,
                sequence: self.sequence,
                timestamp: self.ticks(at_us),
                ssrc: self.ssrc,
            };
            self.write(session, transport_sequence, &header, [payload, &[]]);
            self.sequence = self.sequence.wrapping_add(1);
            self.packets = self.packets.wrapping_add(1);
            self.octets = self.octets.wrapping_add(u32::try_from(payload.len()).unwrap_or(0));
            if self.rtx.is_some() {
                self.history.push_back(Sent { header, payload: packets.bytes().slice_ref(payload) });
            }
        }
        while self.history.len() > HISTORY_PACKETS_MAX {
            self.history.pop_front();
        }
    }

    /// On a stream of its own, with the packet's number in front (RFC 4588 §4).
    fn resend(&mut self, session: &mut Session, transport_sequence: &mut u16, number: u16) {
        let Some((payload_type, ssrc, sequence)) = self.rtx else { return };
        let Some(sent) = self.history.iter().find(|sent| sent.header.sequence == number) else { return };
        let header = Header { payload_type, ssrc, sequence, ..sent.header };
        self.write(session, transport_sequence, &header, [&number.to_be_bytes(), &sent.payload]);
        self.rtx = Some((payload_type, ssrc, sequence.wrapping_add(1)));
    }

    fn write(&self, session: &mut Session, transport_sequence: &mut u16, header: &Header, payload: [&[u8]; 2]) {
        // An element with the id 0 is left out.
        session.send_rtp(header, &[(self.transport_id.unwrap_or(0), &transport_sequence.to_be_bytes())], payload);
        *transport_sequence = transport_sequence.wrapping_add(1);
    }

    /// Which time of the track's clock it is now (RFC 3550 §6.4.1).
    fn report(&self, unix_us: i64, at_us: u64) -> Vec<u8> {
        let (ntp, timestamp) = (ntp::from_unix_us(unix_us), self.ticks(at_us));
        let info = SenderInfo { ntp, timestamp, packets: self.packets, octets: self.octets };
        let mut out = Vec::new();
        rtcp::write_sender_report(&mut out, self.ssrc, &info, &[]);
        rtcp::write_cname(&mut out, self.ssrc, CNAME);
        out
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const CNAME: &str = "hawker-load";
/// With header, extension and seal it fits what every path carries.
const PAYLOAD_BYTES_MAX: usize = 1150;
/// Packets that can be asked for again: a second of 10 Mbit/s.
const HISTORY_PACKETS_MAX: usize = 1024;
