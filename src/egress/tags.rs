//! The muxer of FLV tags, for HTTP-FLV and RTMP play: both carry the same tags, wrapped differently.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::rtp::{BFrames, RtpEntry, RtpMux};
use crate::{
    hub::{Bounds, Entry, EntryKind, Merge, Mux, Muxed, Out, Patience, Pool, Settings, Stream, Terms, Transcode},
    limits,
    media::{
        Codec, Event, Frame, Head, Item, StreamName, TrackKind, Tracks,
        codec::sei::{LIVE_EVENT, NalFormat},
    },
    observe::metrics::Protocol,
    proto::{
        flv::{
            self, TagBody,
            script::{self, LiveEvent, LiveEventKind},
        },
        rtmp,
    },
};

/// How tags travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carriage {
    /// As FLV tags in an HTTP body.
    Flv,
    /// As messages on an RTMP message stream.
    Rtmp,
}

impl Carriage {
    /// The carriage's name in logs and metrics.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Flv => Protocol::Flv,
            Self::Rtmp => Protocol::Rtmp,
        }
    }

    /// One tag as slices to write; the payload is shared, not copied.
    pub(super) fn wrap(self, ts_ms: u32, body: &TagBody) -> Vec<Bytes> {
        match self {
            Self::Flv => flv::encode_tag(ts_ms, body).into(),
            Self::Rtmp => rtmp::encode_media(rtmp::STREAM_ID, ts_ms, body),
        }
    }
}

/// What a viewer asks for beside `onLiveEvent`, for players that read nothing else: `?text=1` and `?sei=1`.
///
/// Each choice that somebody watches with costs the stream a muxer and a ring of its own. What is told at the
/// join, the state, comes as `onLiveEvent` alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Extras {
    /// Events also as `onTextData` tags: some hundred bytes each.
    pub text: bool,
    /// Events also as SEI user data in the frame they belong to (H.264 and H.265). That frame is copied, and some
    /// decoders stutter at what they don't expect there: nothing for a player that can read script tags.
    pub sei: bool,
}

impl Extras {
    /// As the query of a URL has them.
    pub fn of(query: impl Fn(&str) -> Option<String>) -> Self {
        let asked = |key: &str| query(key).is_some_and(|value| value == "1");
        Self { text: asked("text"), sei: asked("sei") }
    }
}

/// The running muxers of a shard.
pub struct Egress {
    pool: Pool<(StreamName, Carriage, Extras), TagEntry>,
    rtp_pool: Pool<(StreamName, BFrames), RtpEntry>,
    pub(super) patience: Patience,
    pub(super) stop: CancellationToken,
}

impl Egress {
    /// No muxer runs yet. Viewers who can't keep up have `patience`; `stop` ends them all;
    /// `transcode` makes the sound one that they know.
    pub fn new(
        settings: &Settings,
        patience: Patience,
        merge: Merge,
        stop: CancellationToken,
        transcode: Option<Arc<dyn Transcode>>,
    ) -> Self {
        let bounds = Bounds { bytes_max: settings.ring_bytes_max, groups_max: settings.gops_max };
        let terms = Terms { bounds, linger: settings.linger, merge, stop: stop.clone(), transcode, history: false };
        Self { pool: Pool::new(terms.clone()), rtp_pool: Pool::new(terms), patience, stop }
    }

    pub(super) fn attach(&self, stream: &Arc<Stream>, carriage: Carriage, extras: Extras) -> Muxed<TagEntry> {
        let name = stream.name().clone();
        self.pool.attach((name.clone(), carriage, extras), stream, || TagMux::new(name, carriage, extras))
    }

    pub(super) fn attach_rtp(&self, stream: &Arc<Stream>, b_frames: BFrames) -> Muxed<RtpEntry> {
        self.rtp_pool.attach((stream.name().clone(), b_frames), stream, || RtpMux::new(b_frames))
    }
}

/// One entry of a muxed line of tags.
#[derive(Debug, Clone)]
pub(super) enum TagEntry {
    /// What a joiner needs from here on. The tags that tell it are made per viewer: they carry his start time.
    Head(Arc<HeadTags>),
    /// A tag, wrapped.
    Tag(Tag),
}

/// What a joiner is told first.
#[derive(Debug)]
pub(super) struct HeadTags {
    pub(super) tracks: Arc<Tracks>,
    /// The room: bodies of script tags.
    pub(super) snapshots: Vec<TagBody>,
    /// Events in them.
    pub(super) events: u64,
    pub(super) resync: u64,
}

/// A wrapped tag.
#[derive(Debug, Clone)]
pub(super) struct Tag {
    pub(super) kind: EntryKind,
    /// It tells an event that no tag before it told.
    pub(super) is_event: bool,
    pub(super) ts_ms: u32,
    dts_us: i64,
    pub(super) bytes: usize,
    pub(super) slices: Arc<[Bytes]>,
}

impl Entry for TagEntry {
    fn kind(&self) -> EntryKind {
        match self {
            Self::Head(_) => EntryKind::Head,
            Self::Tag(tag) => tag.kind,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Head(_) => 0,
            Self::Tag(tag) => tag.bytes,
        }
    }

    fn dts_us(&self) -> Option<i64> {
        match self {
            Self::Head(_) => None,
            Self::Tag(tag) => Some(tag.dts_us),
        }
    }
}

pub(super) struct TagMux {
    carriage: Carriage,
    extras: Extras,
    name: StreamName,
    /// None before the first head.
    tracks: Option<Arc<Tracks>>,
    /// Stream time of tag time 0, in whole milliseconds.
    base_ms: Option<i64>,
    /// Heads and events that go before the next frame, in their order: a tag takes the DTS of the video tag it
    /// precedes.
    waiting: Vec<Item>,
}

impl TagMux {
    pub(super) fn new(name: StreamName, carriage: Carriage, extras: Extras) -> Self {
        Self { carriage, extras, name, tracks: None, base_ms: None, waiting: Vec::new() }
    }

    /// Milliseconds on the tags' timeline, always by floor from the one microsecond clock, never cumulative.
    fn tag_ms(&mut self, us: i64) -> i64 {
        let ms = us.div_euclid(1000);
        ms - *self.base_ms.get_or_insert(ms)
    }

    fn tag(&self, kind: EntryKind, dts_us: i64, ts_ms: u32, body: &TagBody) -> Tag {
        let slices = self.carriage.wrap(ts_ms, body);
        let bytes = slices.iter().map(Bytes::len).sum();
        Tag { kind, is_event: false, ts_ms, dts_us, bytes, slices: slices.into() }
    }

    fn wait(&mut self, item: Item) {
        self.waiting.push(item);
        if self.waiting.len() > limits::EVENTS_PENDING_MAX {
            // The head last: a viewer can't begin without one.
            let oldest = self.waiting.iter().position(|item| matches!(item, Item::Event(_)));
            self.waiting.remove(oldest.unwrap_or(0));
        }
    }

    fn frame(&mut self, frame: &Frame, group: u64, out: &Out<'_, TagEntry>) {
        // What waits waits on: before their tracks are told nothing may be sent, FLV's header comes first.
        let Some(mut body) = self.frame_body(frame) else { return };
        let ts_ms = self.tag_ms(frame.dts_us);
        if ts_ms < 0 {
            // Sound that belongs to pictures before the first one.
            return;
        }
        let ts_ms = wrap_ms(ts_ms);
        for item in std::mem::take(&mut self.waiting) {
            match item {
                Item::Head(head) => out.push(TagEntry::Head(Arc::new(self.head_tags(&head))), group),
                Item::Event(event) => {
                    for (nth, amf0) in self.event_scripts(&event, frame).into_iter().enumerate() {
                        let tag = self.tag(EntryKind::Event, frame.dts_us, ts_ms, &TagBody::script(amf0));
                        out.push(TagEntry::Tag(Tag { is_event: nth == 0, ..tag }), group);
                    }
                    if self.extras.sei && frame.track == TrackKind::Video {
                        self.insert_sei(&event, &mut body);
                    }
                }
                Item::Frame(_) | Item::Data(_) => {}
            }
        }
        let kind = if frame.keyframe { EntryKind::Start } else { EntryKind::Follow };
        out.push(TagEntry::Tag(self.tag(kind, frame.dts_us, ts_ms, &body)), group);
    }

    /// The bodies of the script tags that tell an event, `onLiveEvent` first.
    fn event_scripts(&mut self, event: &Event, frame: &Frame) -> Vec<Bytes> {
        // Milliseconds stay exact in a double for 285,000 years.
        let ts_ms = self.tag_ms(event.pts_us().unwrap_or(frame.pts_us)) as f64;
        let Ok(json) = std::str::from_utf8(&event.json) else { return Vec::new() };
        let mut scripts = vec![LiveEvent { ts_ms, replay: false, kind: LiveEventKind::Event, json }.encode()];
        if self.extras.text {
            scripts.push(script::on_text_data(json));
        }
        scripts
    }

    /// One message a NAL unit, directly before the picture.
    fn insert_sei(&self, event: &Event, body: &mut TagBody) {
        let video = self.tracks.as_ref().and_then(|tracks| tracks.video.as_ref());
        let parts = video
            .and_then(NalFormat::of)
            .and_then(|format| format.insert_user_data(&body.payload, LIVE_EVENT, &event.json));
        if let Some(parts) = parts {
            body.payload = parts.concat().into();
        }
    }

    fn head_tags(&mut self, head: &Head) -> HeadTags {
        // Milliseconds stay exact in a double for 285,000 years.
        let ts_ms = self.tag_ms(head.at.pts_us) as f64;
        let parts = head.snapshots(&self.name, SNAPSHOT_BYTES_MAX);
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let part = |index| (count > 1).then_some((index, count));
        let snapshots = (0..).zip(&parts).map(|(index, json)| {
            let kind = LiveEventKind::Snapshot { part: part(index) };
            TagBody::script(LiveEvent { ts_ms, replay: true, kind, json }.encode())
        });
        let events = (head.room.replay(head.at).len() + head.global.replay(head.at).len()) as u64;
        HeadTags { tracks: head.tracks.clone(), snapshots: snapshots.collect(), events, resync: head.resync }
    }

    /// `None` for a frame of a track that was never described.
    fn frame_body(&self, frame: &Frame) -> Option<TagBody> {
        let tracks = self.tracks.as_ref()?;
        Some(match frame.track {
            TrackKind::Video => {
                let cts_ms = frame.pts_us.div_euclid(1000) - frame.dts_us.div_euclid(1000);
                let codec = tracks.video.as_ref()?.codec;
                TagBody::video_frame(codec, frame.keyframe, i32::try_from(cts_ms).ok()?, frame.data.clone())
            }
            TrackKind::Audio => TagBody::audio_frame(tracks.audio.as_ref()?.codec, frame.data.clone()),
        })
    }
}

impl Mux for TagMux {
    type Out = TagEntry;

    fn sound(&self, tracks: &Tracks) -> Option<Codec> {
        match tracks.video.as_ref().map(|video| video.codec) {
            // Who shows these reads Enhanced RTMP, which names Opus as well. All others know AAC.
            Some(Codec::Av1 | Codec::Vp9) => None,
            _ => Some(Codec::Aac),
        }
    }

    fn handle_item(&mut self, item: Item, group: u64, out: &Out<'_, TagEntry>) {
        match item {
            Item::Head(head) => {
                self.tracks = Some(head.tracks.clone());
                // Nobody has been told anything yet, and this head knows what came of it.
                if self.base_ms.is_none() {
                    self.waiting.clear();
                }
                self.wait(Item::Head(head));
            }
            // From before the first head, which knows what came of it.
            Item::Event(_) if self.tracks.is_none() => {}
            Item::Event(_) => self.wait(item),
            Item::Frame(frame) => self.frame(&frame, group, out),
            // Before the first frame there is no timeline to put it on.
            Item::Data(_) if self.base_ms.is_none() => {}
            Item::Data(data) => {
                let ts_ms = wrap_ms(self.tag_ms(data.dts_us));
                let tag = self.tag(EntryKind::Event, data.dts_us, ts_ms, &TagBody::script(data.amf0));
                out.push(TagEntry::Tag(tag), group);
            }
        }
    }
}

/// Longest snapshot in one tag: a string has at most 65,535 bytes, and what stands around the events takes some.
const SNAPSHOT_BYTES_MAX: usize = 50_000;

/// The 32 bits that FLV and RTMP carry. Data from before the first frame is at 0.
fn wrap_ms(ms: i64) -> u32 {
    u32::try_from(ms.max(0) & 0xFFFF_FFFF).unwrap_or(0)
}
