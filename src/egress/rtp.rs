//! The muxer of RTP payloads, for WHEP: frames are cut into packets once, and only their headers are a viewer's own.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    hub::{Entry, EntryKind, Mux, Out},
    limits,
    media::{Codec, Event, Frame, Head, Item, TrackKind, Tracks},
    proto::rtp::payload::{Packetiser, Packets, is_reference},
};

/// What is done with pictures that are decoded in another order than they are shown in: RTP has one time for both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum BFrames {
    /// They end the viewers.
    #[default]
    Refuse,
    /// Those that no other picture refers to are left out; others end the viewers.
    Drop,
}

/// One entry of a muxed line of RTP payloads.
#[derive(Debug, Clone)]
pub(super) enum RtpEntry {
    /// What a joiner needs from here on.
    Head(Arc<RtpHead>),
    /// The message that tells an event (events.md §3, WHEP).
    Event(Bytes),
    /// A frame in packets.
    Frame(RtpFrame),
    /// A picture that would have to be shown before one that was sent.
    OutOfOrder,
}

/// What a joiner is told first.
#[derive(Debug)]
pub(super) struct RtpHead {
    pub(super) tracks: Arc<Tracks>,
    /// The room, an event each.
    pub(super) messages: Vec<Bytes>,
    pub(super) resync: u64,
}

/// A frame in packets.
#[derive(Debug, Clone)]
pub(super) struct RtpFrame {
    pub(super) track: TrackKind,
    pub(super) kind: EntryKind,
    dts_us: i64,
    pub(super) pts_us: i64,
    /// PTS in ticks of the track's RTP clock.
    pub(super) timestamp: u32,
    /// What makes UTC of a PTS, as far as the room's clock is known.
    pub(super) utc_offset_us: i64,
    pub(super) packets: Packets,
}

impl Entry for RtpEntry {
    fn kind(&self) -> EntryKind {
        match self {
            Self::Head(_) => EntryKind::Head,
            Self::Frame(frame) => frame.kind,
            // A viewer must not miss his end either.
            Self::Event(_) | Self::OutOfOrder => EntryKind::Event,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.packets.bytes().len(),
            Self::Event(message) => message.len(),
            Self::Head(_) | Self::OutOfOrder => 0,
        }
    }

    fn dts_us(&self) -> Option<i64> {
        match self {
            Self::Frame(frame) => Some(frame.dts_us),
            Self::Head(_) | Self::Event(_) | Self::OutOfOrder => None,
        }
    }
}

pub(super) struct RtpMux {
    b_frames: BFrames,
    /// None before the first head.
    tracks: Option<Arc<Tracks>>,
    packetiser: Option<(Codec, Packetiser)>,
    /// Timestamps begin at random (RFC 3550 §5.1).
    video_offset: u32,
    audio_offset: u32,
    /// Greatest PTS since the last keyframe, that one included.
    latest_pts_us: i64,
    /// The last group that was told to be out of order.
    refused_group: Option<u64>,
    utc_offset_us: i64,
    /// Heads and events that go before the next frame, in their order.
    waiting: Vec<Item>,
}

impl RtpMux {
    pub(super) fn new(b_frames: BFrames) -> Self {
        Self {
            b_frames,
            tracks: None,
            packetiser: None,
            video_offset: rand::random(),
            audio_offset: rand::random(),
            latest_pts_us: i64::MIN,
            refused_group: None,
            utc_offset_us: 0,
            waiting: Vec::new(),
        }
    }

    fn timestamp(&self, track: TrackKind, us: i64) -> u32 {
        let offset = match track {
            TrackKind::Video => self.video_offset,
            TrackKind::Audio => self.audio_offset,
        };
        ticks(track, us).wrapping_add(offset)
    }

    fn wait(&mut self, item: Item) {
        self.waiting.push(item);
        if self.waiting.len() > limits::EVENTS_PENDING_MAX {
            // The head last: a viewer can't begin without one.
            let oldest = self.waiting.iter().position(|item| matches!(item, Item::Event(_)));
            self.waiting.remove(oldest.unwrap_or(0));
        }
    }

    fn handle_head(&mut self, head: Arc<Head>) {
        if let Some(video) = &head.tracks.video
            && self.packetiser.as_ref().is_none_or(|(codec, _)| *codec != video.codec)
        {
            self.packetiser = Some((video.codec, Packetiser::new(video.codec, VIDEO_PAYLOAD_BYTES_MAX)));
        }
        head.room.replay(head.at).iter().for_each(|event| self.follow_clock(event));
        self.tracks = Some(head.tracks.clone());
        self.wait(Item::Head(head));
    }

    /// The room's clock, as the origin tells it to all.
    fn follow_clock(&mut self, event: &Event) {
        if let ("clock", Some(pts_us), Some(wall_ms)) =
            (event.head.kind.as_str(), event.pts_us(), event.head.time.wall_ms)
        {
            self.utc_offset_us = wall_ms.saturating_mul(1000).saturating_sub(pts_us);
        }
    }

    fn frame(&mut self, frame: &Frame, group: u64, out: &Out<'_, RtpEntry>) {
        if self.is_out_of_order(frame) {
            match self.b_frames {
                BFrames::Drop if !self.is_reference(frame) => {}
                // Whoever watches a group was there at its beginning.
                _ if self.refused_group.replace(group) != Some(group) => out.push(RtpEntry::OutOfOrder, group),
                _ => {}
            }
            return;
        }
        // What waits waits on: it is for those who get the frame that it comes before.
        let Some(packets) = self.packets(frame).filter(|packets| !packets.is_empty()) else { return };
        for item in std::mem::take(&mut self.waiting) {
            match item {
                Item::Head(head) => out.push(RtpEntry::Head(Arc::new(self.head(&head))), group),
                Item::Event(event) => {
                    let pts_us = event.pts_us().unwrap_or(frame.pts_us);
                    out.push(RtpEntry::Event(self.message(&event, pts_us, false)), group);
                }
                Item::Frame(_) | Item::Data(_) => {}
            }
        }
        let made = RtpFrame {
            track: frame.track,
            kind: if frame.keyframe { EntryKind::Start } else { EntryKind::Follow },
            dts_us: frame.dts_us,
            pts_us: frame.pts_us,
            timestamp: self.timestamp(frame.track, frame.pts_us),
            utc_offset_us: self.utc_offset_us,
            packets,
        };
        out.push(RtpEntry::Frame(made), group);
    }

    fn is_out_of_order(&mut self, frame: &Frame) -> bool {
        if frame.track == TrackKind::Audio {
            return false;
        }
        if !frame.keyframe && frame.pts_us < self.latest_pts_us {
            return true;
        }
        self.latest_pts_us = frame.pts_us;
        false
    }

    fn is_reference(&self, frame: &Frame) -> bool {
        let video = self.tracks.as_ref().and_then(|tracks| tracks.video.as_ref());
        video.is_none_or(|video| is_reference(video, &frame.data))
    }

    /// `None` for a frame of a track that was never described, or that no viewer can play.
    fn packets(&mut self, frame: &Frame) -> Option<Packets> {
        let tracks = self.tracks.as_ref()?;
        match frame.track {
            TrackKind::Video => {
                let (_, packetiser) = self.packetiser.as_mut()?;
                Some(packetiser.packetise(tracks.video.as_ref()?, frame.keyframe, &frame.data))
            }
            TrackKind::Audio => {
                let fits = tracks.audio.as_ref()?.codec == Codec::Opus && frame.data.len() <= AUDIO_PAYLOAD_BYTES_MAX;
                (fits && !frame.data.is_empty()).then(|| Packetiser::audio(frame.data.clone()))
            }
        }
    }

    fn head(&self, head: &Head) -> RtpHead {
        let message = |event: &Arc<Event>| {
            // What has fired must not seem to lie ahead, which it would once it is half of the clock's range old.
            let pts_us = event.pts_us().unwrap_or(head.at.pts_us).max(head.at.pts_us);
            self.message(event, pts_us, true)
        };
        let messages = head.room.replay(head.at).iter().chain(&head.global.replay(head.at)).map(message).collect();
        RtpHead { tracks: head.tracks.clone(), messages, resync: head.resync }
    }

    fn message(&self, event: &Event, pts_us: i64, replay: bool) -> Bytes {
        let rtp = self.timestamp(TrackKind::Video, pts_us);
        let head = format!("{{\"rtp\":{rtp},\"rp\":{},\"ev\":", u8::from(replay));
        [head.as_bytes(), &event.json, b"}"].concat().into()
    }
}

impl Mux for RtpMux {
    type Out = RtpEntry;

    fn sound(&self, _tracks: &Tracks) -> Option<Codec> {
        Some(Codec::Opus)
    }

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, RtpEntry>) {
        match item {
            Item::Head(head) => self.handle_head(head),
            // From before the first head, which knows what came of it.
            Item::Event(_) if self.tracks.is_none() => {}
            Item::Event(event) => {
                self.follow_clock(&event);
                self.wait(Item::Event(event));
            }
            Item::Frame(frame) => self.frame(&frame, group, out),
            // An encoder's data messages are no part of WebRTC.
            Item::Data(_) => {}
        }
    }
}

/// A time in ticks of a track's RTP clock, always by floor from the one microsecond clock, wrapping.
pub(super) fn ticks(track: TrackKind, us: i64) -> u32 {
    let ticks_per_ms = match track {
        TrackKind::Video => 90,
        TrackKind::Audio => 48,
    };
    let ticks = us.saturating_mul(ticks_per_ms).div_euclid(1000);
    u32::try_from(ticks & 0xFFFF_FFFF).unwrap_or(0)
}

/// Longest packet that every path carries: IPv6's least MTU, less what tunnels take.
const PACKET_BYTES_MAX: usize = 1200;
/// Header and extensions at their longest: transport sequence number and capture time.
const HEADER_BYTES_MAX: usize = 12 + 16;
/// What SRTP adds at most.
const SEAL_BYTES_MAX: usize = 16;
const VIDEO_PAYLOAD_BYTES_MAX: usize = PACKET_BYTES_MAX - HEADER_BYTES_MAX - SEAL_BYTES_MAX;
/// A packet of sound can't be cut. What is longer, beyond 500 kbit/s, no common network takes in one piece.
const AUDIO_PAYLOAD_BYTES_MAX: usize = 1400;
