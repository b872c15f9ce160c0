//! A viewer's bytes, read back: publisher, hub, muxer and session together, and only the socket left out.

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::{
    Carriage, Egress, Extras, Outlet, Session,
    tags::{TagEntry, TagMux},
};
use crate::{
    clock,
    hub::{At, Bounds, End, Hub, Merge, Mux, Origin, Out, Patience, Publisher, Read, Ring, Settings},
    limits,
    media::{
        AudioConfig, Codec, Data, Event, Frame, Head, Item, Room as RoomState, Scalar, StreamName, TrackKind, Tracks,
        VideoConfig,
        codec::sei::{LIVE_EVENT, NalFormat},
    },
    proto::{
        flv::{FlvReader, FlvTag, MediaTag, TagKind, tag},
        rtmp::amf0::{self, Value},
    },
};

struct Room {
    hub: Arc<Hub>,
    egress: Egress,
    publisher: Publisher,
}

const MERGE: Merge = Merge { audio: limits::SOUND_WAIT_MAX, all: Duration::ZERO };

/// Longer than sound waits for a picture.
const A_MOMENT: Duration = Duration::from_millis(50);

fn name() -> StreamName {
    "live/room".parse().expect("name")
}

fn room(lag_max: Duration) -> Room {
    let patience = Patience::new(lag_max);
    let settings = Settings::default();
    let egress = Egress::new(&settings, patience, MERGE, CancellationToken::new(), None);
    let hub = Hub::new(settings, Some(Origin::in_memory()));
    let publisher = hub.publish(&name()).expect("slot");
    Room { hub, egress, publisher }
}

fn tracks(video: Codec, audio: Codec) -> Tracks {
    let video = VideoConfig { codec: video, description: Bytes::from_static(b"record"), width: 320, height: 180 };
    let audio =
        AudioConfig { codec: audio, description: Bytes::from_static(&[0x11, 0x90]), sample_rate: 48_000, channels: 2 };
    Tracks { video: Some(video), audio: Some(audio), ..Tracks::default() }
}

fn video(dts_ms: i64, pts_ms: i64, keyframe: bool) -> Frame {
    let data = Bytes::from(format!("picture {dts_ms}"));
    Frame { track: TrackKind::Video, dts_us: dts_ms * 1000, pts_us: pts_ms * 1000, keyframe, data }
}

fn audio(ms: i64) -> Frame {
    Frame { track: TrackKind::Audio, ..video(ms, ms, false) }
}

fn card() -> Map<String, Json> {
    let draft = json!({"type": "card.show", "op": "set", "key": "card:main", "data": {"name": "Wool coat"}});
    draft.as_object().expect("object").clone()
}

/// A card as an edge gets it; some kilobytes long.
fn stamped(seq: u64, slot: &str) -> Arc<Event> {
    let event = json!({"v": 1, "id": ulid::Ulid::from_parts(seq, 0).to_string(), "source": "live/room", "seq": seq,
        "type": "card.show", "op": "set", "key": format!("card:{slot}"), "time": {"mode": "asap"},
        "data": {"a": "x".repeat(500), "b": "y".repeat(500), "c": "z".repeat(500)}});
    Event::from_object(event.as_object().expect("object").clone()).expect("an event").into()
}

impl Room {
    fn join(&self) -> Viewer {
        self.join_with(Extras::default())
    }

    fn join_with(&self, extras: Extras) -> Viewer {
        let viewer = self.hub.view(&name()).expect("room");
        Viewer { session: Session::join(&self.egress, viewer, Carriage::Flv, extras), reader: FlvReader::new() }
    }

    fn push(&mut self, frames: impl IntoIterator<Item = Frame>) {
        for frame in frames {
            self.publisher.push_frame(frame).expect("current");
        }
    }

    /// Where the publisher's times are on the stream's timeline.
    fn offset_us(&self) -> i64 {
        let mut cursor = self.publisher.stream().ring().cursor(None);
        let frame = std::iter::from_fn(|| cursor.try_recv().expect("open")).find_map(|read| match read {
            Read::Entry { entry: Item::Frame(frame), .. } => Some(frame),
            _ => None,
        });
        let frame = frame.expect("a frame");
        let text = std::str::from_utf8(&frame.data).expect("text");
        let dts_ms: i64 = text.strip_prefix("picture ").expect("ours").parse().expect("a number");
        frame.dts_us - dts_ms * 1000
    }

    async fn push_with_event(&mut self, frame: Frame) -> Arc<Event> {
        let at = At::PtsUs(self.offset_us() + frame.pts_us);
        let event = self.hub.publish_event(&name(), card(), Some(at)).await.expect("accepted").event;
        self.push([frame]);
        event
    }
}

struct Viewer {
    session: Session,
    reader: FlvReader,
}

impl Viewer {
    /// What the session has by now; the paused clock moves only once nothing else can.
    async fn batches(&mut self) -> Vec<Vec<Bytes>> {
        let mut batches = Vec::new();
        while let Ok(Ok(batch)) = tokio::time::timeout(A_MOMENT, self.batch()).await {
            batches.push(batch);
        }
        batches
    }

    async fn batch(&mut self) -> Result<Vec<Bytes>, End> {
        let mut out = Outlet::default();
        poll_fn(|cx| self.session.poll_take(cx, &mut out)).await?;
        Ok(out.take())
    }

    async fn tags(&mut self) -> Vec<FlvTag> {
        for slice in self.batches().await.concat() {
            self.reader.handle_bytes(&slice).expect("FLV, its header first and once");
        }
        std::iter::from_fn(|| self.reader.poll_tag()).collect()
    }
}

/// A tag in a word, with its time.
fn word(tag: &FlvTag) -> String {
    let what = match tag::parse(tag.kind, tag.body.clone()).expect("well-formed") {
        MediaTag::VideoConfig(config) => format!("{} config", config.codec.as_str()),
        MediaTag::AudioConfig(config) => format!("{} config", config.codec.as_str()),
        MediaTag::Frame { codec, keyframe, cts_us, .. } if codec.kind() == TrackKind::Video => {
            format!("{}{} +{}", codec.as_str(), if keyframe { " key" } else { "" }, cts_us / 1000)
        }
        MediaTag::Frame { codec, .. } => codec.as_str().to_owned(),
        MediaTag::Ignored => script_word(tag),
    };
    format!("{} {what}", tag.timestamp_ms)
}

/// Live events by the types in them.
fn script_word(tag: &FlvTag) -> String {
    let (name, body) = script(tag);
    let Some(json) = body.get_str("json").filter(|_| name == "onLiveEvent") else { return name };
    let json: Json = serde_json::from_str(json).expect("JSON");
    let kind = |event: &Json| event["type"].as_str().expect("a type").to_owned();
    match body.get_str("kind") {
        Some("snap") => {
            format!(
                "snapshot [{}]",
                json["events"].as_array().expect("events").iter().map(kind).collect::<Vec<_>>().join(", ")
            )
        }
        _ => kind(&json),
    }
}

fn words(tags: &[FlvTag]) -> Vec<String> {
    tags.iter().map(word).collect()
}

/// The same where times depend on the clock.
fn words_only(tags: &[FlvTag]) -> Vec<String> {
    let words = words(tags);
    words.iter().map(|word| word.split_once(' ').expect("a time").1.to_owned()).collect()
}

fn script_or_null(tag: &FlvTag) -> (String, Value) {
    if tag.kind == TagKind::Script { script(tag) } else { (String::new(), Value::Null) }
}

/// Name and properties of a script tag.
fn script(tag: &FlvTag) -> (String, Value) {
    assert_eq!(tag.kind, TagKind::Script);
    let mut values = amf0::decode_all(&tag.body, &amf0::Limits::AUTHORISED).expect("AMF0").into_iter();
    let Some(Value::String(name)) = values.next() else { panic!("a name first") };
    (name, values.next().unwrap_or(Value::Null))
}

fn number(properties: &Value, key: &str) -> Option<f64> {
    properties.properties().iter().find(|(known, _)| known == key).and_then(|(_, value)| value.as_number())
}

#[tokio::test(start_paused = true)]
async fn an_event_stands_before_its_picture_with_that_pictures_times() {
    let mut room = room(Duration::MAX);
    room.publisher.set_tracks(tracks(Codec::Avc, Codec::Aac)).expect("current");
    room.push([video(9_000, 9_080, true)]);
    let mut viewer = room.join();
    let prologue = words(&viewer.tags().await);
    assert_eq!(prologue, ["0 onMetaData", "0 h264 config", "0 aac config", "0 h264 key +80"]);
    room.push([audio(9_030)]);
    // Decoded second, shown last: the event's time is when it is shown.
    let event = room.push_with_event(video(9_040, 9_200, false)).await;
    room.push([audio(9_050), video(9_080, 9_120, false)]);
    let tags = viewer.tags().await;
    assert_eq!(words(&tags), ["30 aac", "40 clock", "40 card.show", "40 h264 +160", "50 aac", "80 h264 +40"]);
    let (_, body) = script(&tags[2]);
    assert_eq!(number(&body, "ts"), Some(200.0));
    assert_eq!(number(&body, "v"), Some(1.0));
    assert_eq!(body.get_str("kind"), Some("ev"));
    assert_eq!(body.get_str("json").map(str::as_bytes), Some(event.json.as_ref()), "the same bytes on every carriage");
    assert!(body.properties().contains(&("rp".to_owned(), Value::Bool(false))));
    assert_eq!(viewer.session.counters().events, 2);
}

#[tokio::test(start_paused = true)]
async fn who_joins_at_a_keyframe_gets_the_event_beside_it() {
    let mut room = room(Duration::MAX);
    room.publisher.set_tracks(tracks(Codec::Avc, Codec::Aac)).expect("current");
    room.push([video(0, 0, true)]);
    let mut first = room.join();
    first.tags().await;
    room.push_with_event(video(1_000, 1_000, true)).await;
    first.tags().await;
    let tags = room.join().tags().await;
    let configs = ["0 onMetaData", "1000 h264 config", "1000 aac config"];
    assert_eq!(words(&tags)[..3], configs);
    assert_eq!(words(&tags)[3..], ["1000 clock", "1000 card.show", "1000 h264 key +0"]);
    assert_eq!(number(&script(&tags[0]).1, "firstTs"), Some(1000.0));
    assert_eq!(number(&script(&tags[4]).1, "ts"), Some(1000.0));
    // A second later both are history.
    room.push([video(2_000, 2_000, true)]);
    // Who has seen them happen needs no snapshot.
    assert_eq!(words(&first.tags().await), ["2000 h264 key +0"]);
    let mut late = room.join();
    let tags = late.tags().await;
    assert_eq!(words(&tags)[3..], ["2000 snapshot [clock, card.show]", "2000 h264 key +0"]);
    let (_, body) = script(&tags[3]);
    assert!(body.properties().contains(&("rp".to_owned(), Value::Bool(true))));
    assert_eq!((number(&body, "ts"), body.get("part")), (Some(2_000.0), None));
    assert_eq!((late.session.counters().events, late.session.counters().events_replayed), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_in_the_snapshot_or_behind_it_wherever_the_head_changes() {
    let mut room = room(Duration::MAX);
    room.publisher.set_tracks(tracks(Codec::Avc, Codec::Aac)).expect("current");
    room.push([video(0, 0, true)]);
    let mut first = room.join();
    first.tags().await;
    // What comes while nobody publishes stands before the head of him who comes back.
    let Room { hub, egress, publisher } = room;
    drop(publisher);
    hub.publish_event(&name(), card(), Some(At::Asap)).await.expect("accepted");
    let publisher = hub.publish(&name()).expect("slot");
    let mut room = Room { hub, egress, publisher };
    room.publisher.set_tracks(tracks(Codec::Avc, Codec::Aac)).expect("current");
    room.push([video(0, 0, true)]);
    let seen = words_only(&first.tags().await);
    assert_eq!(seen, ["card.show", "clock", "h264 key +0"]);
    let joined = words_only(&room.join().tags().await);
    assert_eq!(joined, ["onMetaData", "h264 config", "aac config", "card.show", "clock", "h264 key +0"]);
    room.push([video(40, 40, true)]);
    assert_eq!(words_only(&first.tags().await), ["h264 key +0"]);
    let late = words_only(&room.join().tags().await);
    let configs = ["onMetaData", "h264 config", "aac config"];
    assert_eq!(late[..3], configs);
    assert_eq!(late[3..], ["snapshot [clock, card.show]", "h264 key +0"]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_became_another_is_told_again() {
    let mut room = room(Duration::MAX);
    let head = |cards: &[&str]| {
        let mut state = RoomState::default();
        cards.iter().zip(1..).for_each(|(slot, seq)| state.apply(&stamped(seq, slot)));
        Item::Head(Head { room: state.into(), ..Head::clone(&Head::of(tracks(Codec::Avc, Codec::Aac).into())) }.into())
    };
    room.publisher.relay(head(&["left", "right"]), 1).expect("current");
    room.publisher.relay(Item::Frame(video(0, 0, true)), 1).expect("current");
    let mut viewer = room.join();
    let tags = viewer.tags().await;
    assert_eq!(words(&tags)[3..], ["0 snapshot [card.show, card.show]", "0 h264 key +0"]);
    room.publisher.relay(head(&["left", "right"]), 2).expect("current");
    room.publisher.relay(Item::Frame(video(1_000, 1_000, true)), 2).expect("current");
    assert_eq!(words(&viewer.tags().await), ["1000 h264 key +0"], "nothing new");
    room.publisher.relay(head(&["left"]), 3).expect("current");
    room.publisher.relay(Item::Frame(video(2_000, 2_000, true)), 3).expect("current");
    assert_eq!(words(&viewer.tags().await), ["2000 snapshot [card.show]", "2000 h264 key +0"]);
    assert_eq!(viewer.session.counters().events_replayed, 3);
}

#[tokio::test(start_paused = true)]
async fn a_large_room_is_told_in_parts() {
    let mut room = room(Duration::MAX);
    let mut state = RoomState::default();
    (1..=64).for_each(|seq| state.apply(&stamped(seq, &format!("{seq:02}{}", "x".repeat(50)))));
    let tracks = Arc::new(tracks(Codec::Avc, Codec::Aac));
    let head = Head { tracks, room: state.clone().into(), ..Head::default() };
    room.publisher.relay(Item::Head(head.into()), 1).expect("current");
    room.publisher.relay(Item::Frame(video(0, 0, true)), 1).expect("current");
    let tags = room.join().tags().await;
    let parts: Vec<_> = tags.iter().map(script_or_null).filter(|(name, _)| name == "onLiveEvent").collect();
    let (mut together, mut more) = (RoomState::default(), Vec::new());
    for (index, (_, body)) in parts.iter().enumerate() {
        let place = [index, parts.len()].map(|number| Value::Number(number as f64));
        assert_eq!(body.get("part"), Some(&Value::StrictArray(place.into())));
        let json = body.get_str("json").expect("JSON");
        assert!(json.len() <= 60_000, "{}", json.len());
        let (part, at) = RoomState::from_json(json.as_bytes(), &mut more).expect("a snapshot");
        part.replay(at).iter().for_each(|event| together.apply(event));
    }
    assert!(parts.len() > 1 && more.is_empty());
    assert!(together.is_same(&state), "the parts are the whole");
}

#[tokio::test(start_paused = true)]
async fn metadata_is_told_once_and_a_configuration_whenever_it_changes() {
    let mut room = room(Duration::MAX);
    let (number_of, text) = (|n| Scalar::Number(n), |s: &str| Scalar::String(s.into()));
    let metadata = [("encoder", text("OBS")), ("duration", number_of(9.0)), ("width", number_of(1.0))];
    let metadata: Vec<_> = metadata.map(|(key, value)| (key.to_owned(), value)).into();
    let mut now = Tracks { metadata, ..tracks(Codec::Avc, Codec::Aac) };
    room.publisher.set_tracks(now.clone()).expect("current");
    room.push([video(0, 0, true)]);
    let mut viewer = room.join();
    let tags = viewer.tags().await;
    let (_, told) = script(&tags[0]);
    assert_eq!(told.get_str("encoder"), Some("OBS"));
    assert_eq!(told.get_str("eventKeys"), Some("/.well-known/hawker-keys.json"));
    assert_eq!(number(&told, "duration"), None, "a live stream has none");
    let known = ["width", "height", "videocodecid", "audiocodecid"].map(|key| number(&told, key));
    assert_eq!(known, [320.0, 180.0, 7.0, 10.0].map(Some), "what the configuration says wins");

    now.metadata.clear();
    room.publisher.set_tracks(now.clone()).expect("current");
    room.push([video(40, 40, false)]);
    assert_eq!(words(&viewer.tags().await), ["40 clock", "40 h264 +0"]);
    if let Some(video) = &mut now.video {
        video.description = Bytes::from_static(b"another record");
    }
    room.publisher.set_tracks(now).expect("current");
    room.push([video(80, 80, true)]);
    assert_eq!(words(&viewer.tags().await), ["80 h264 config", "80 h264 key +0"]);
}

#[tokio::test(start_paused = true)]
async fn new_codecs_travel_as_enhanced_tags_with_their_offsets() {
    for (codec, offset) in [(Codec::Hevc, 80), (Codec::Hevc, 0), (Codec::Av1, 0), (Codec::Vp9, 0)] {
        let mut room = room(Duration::MAX);
        room.publisher.set_tracks(tracks(codec, Codec::Opus)).expect("current");
        room.push([video(0, offset, true), audio(10)]);
        let tags = room.join().tags().await;
        let codec = codec.as_str();
        let expected = [
            "0 onMetaData".to_owned(),
            format!("0 {codec} config"),
            "0 opus config".to_owned(),
            format!("0 {codec} key +{offset}"),
            "10 opus".to_owned(),
        ];
        assert_eq!(words(&tags), expected);
        let four_cc = number(&script(&tags[0]).1, "audiocodecid");
        assert_eq!(four_cc, Some(f64::from(u32::from_be_bytes(*b"Opus"))));
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_it_gets_events_as_text_and_in_the_picture() {
    let mut room = room(Duration::MAX);
    let mut now = tracks(Codec::Avc, Codec::Aac);
    // avcC: lengths of four bytes.
    now.video.as_mut().expect("a picture").description = Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0]);
    room.publisher.set_tracks(now).expect("current");
    let slice = |kind: u8, ms: i64| Frame { data: vec![0, 0, 0, 2, kind, 0x88].into(), ..video(ms, ms, kind == 0x65) };
    room.push([slice(0x65, 0)]);
    let [mut plain, mut text, mut sei] =
        [(false, false), (true, false), (false, true)].map(|(text, sei)| room.join_with(Extras { text, sei }));
    for viewer in [&mut plain, &mut text, &mut sei] {
        viewer.tags().await;
    }
    let event = room.hub.publish_event(&name(), card(), Some(At::Asap)).await.expect("accepted").event;
    room.push([slice(0x41, 40)]);
    let plain = plain.tags().await;
    assert_eq!(words(&plain), ["40 clock", "40 card.show", "40 h264 +0"]);
    let text = {
        let tags = text.tags().await;
        assert_eq!(text.session.counters().events, 2, "told twice, and counted once");
        tags
    };
    assert_eq!(words(&text), ["40 clock", "40 onTextData", "40 card.show", "40 onTextData", "40 h264 +0"]);
    let (_, body) = script(&text[3]);
    assert_eq!((body.get_str("type"), body.get_str("text").map(str::as_bytes)), (Some("Text"), Some(&event.json[..])));
    let sei = sei.tags().await;
    assert_eq!(words(&sei), words(&plain));
    let frame = &sei[2].body[5..];
    let format = NalFormat::of(room.publisher.stream().tracks().expect("told").video.as_ref().expect("a picture"));
    let found = format.expect("H.264").user_data(frame);
    let kinds: Vec<_> =
        found.iter().map(|found| (found.uuid, Event::from_json(&found.payload).expect("an event").head.kind)).collect();
    assert_eq!(kinds, [(LIVE_EVENT, "clock".to_owned()), (LIVE_EVENT, "card.show".to_owned())]);
    assert!(frame.ends_with(&[0, 0, 0, 2, 0x41, 0x88]) && plain[2].body[5..] == [0, 0, 0, 2, 0x41, 0x88]);
}

#[tokio::test(start_paused = true)]
async fn sound_from_before_the_first_picture_is_left_out() {
    let mut room = room(Duration::MAX);
    room.publisher.set_tracks(tracks(Codec::Avc, Codec::Aac)).expect("current");
    room.push([video(1_000, 1_000, true), audio(990), audio(1_013)]);
    let tags = room.join().tags().await;
    assert_eq!(words(&tags)[3..], ["0 h264 key +0", "13 aac"]);
}

#[tokio::test(start_paused = true)]
async fn data_messages_pass_as_they_came_but_never_before_the_header() {
    let mut room = room(Duration::MAX);
    let mut amf0 = bytes::BytesMut::new();
    amf0::encode_all(&[Value::string("onTextData"), Value::object([("text", Value::string("hi"))])], &mut amf0);
    let amf0 = amf0.freeze();
    let data = |dts_us| Item::Data(Data { dts_us, amf0: amf0.clone() });
    room.publisher.relay(data(0), 1).expect("current");
    room.publisher.relay(Item::Head(Head::of(tracks(Codec::Avc, Codec::Aac).into())), 1).expect("current");
    room.publisher.relay(Item::Frame(video(40, 40, true)), 1).expect("current");
    let mut viewer = room.join();
    assert_eq!(words(&viewer.tags().await)[..2], ["0 onMetaData", "0 h264 config"]);
    room.publisher.relay(data(60_000), 1).expect("current");
    let tags = viewer.tags().await;
    assert_eq!(words(&tags), ["20 onTextData"]);
    assert_eq!(viewer.session.counters().events, 0, "an encoder's data is no event");
    assert_eq!(tags[0].body, amf0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_viewer_loses_frames_which_are_counted_and_no_event() {
    let mut room = room(Duration::from_millis(200));
    room.publisher.set_tracks(tracks(Codec::Avc, Codec::Aac)).expect("current");
    room.push([video(0, 0, true)]);
    let mut viewer = room.join();
    viewer.tags().await;
    for ms in (40..=4_000).step_by(40) {
        let frame = video(ms, ms, ms % 1_000 == 0);
        if ms % 1_000 == 520 {
            room.push_with_event(frame).await;
        } else {
            room.push([frame]);
        }
        tokio::task::yield_now().await;
    }
    let tags = words(&viewer.tags().await);
    assert_eq!(
        tags,
        ["40 clock", "520 card.show", "1520 card.show", "2520 card.show", "3520 card.show", "4000 h264 key +0"]
    );
    let counters = viewer.session.counters();
    assert_eq!((counters.frames, counters.frames_skipped, counters.events), (2, 99, 5));
}

#[tokio::test(start_paused = true)]
async fn a_write_is_bounded_and_ready_tags_share_it() {
    let mut room = room(Duration::MAX);
    room.publisher.set_tracks(tracks(Codec::Avc, Codec::Aac)).expect("current");
    let bulky = |ms: i64| Frame { data: vec![7; 20_000].into(), ..video(ms, ms, ms == 0) };
    room.push((0..50).map(|i| bulky(i * 40)));
    let mut viewer = room.join();
    let batches = viewer.batches().await;
    let bytes: Vec<usize> = batches.iter().map(|batch| batch.iter().map(Bytes::len).sum()).collect();
    assert!(bytes.iter().all(|bytes| *bytes < 64 * 1024 + 20_100), "{bytes:?}");
    assert!(bytes.len() <= 14, "several tags a write: {bytes:?}");
    assert_eq!(viewer.session.counters().bytes, bytes.iter().sum::<usize>() as u64);

    room.push((0..1_000).map(|i| audio(2_000 + i)));
    let batches = viewer.batches().await;
    let slices: Vec<usize> = batches.iter().map(Vec::len).collect();
    assert!(slices.iter().all(|slices| *slices <= 32 * 3) && slices.iter().sum::<usize>() == 3_000, "{slices:?}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_comes_after_its_last_tag() {
    let mut room = room(Duration::MAX);
    room.publisher.set_tracks(tracks(Codec::Avc, Codec::Aac)).expect("current");
    room.push([video(0, 0, true)]);
    let mut viewer = room.join();
    room.push([video(40, 40, false)]);
    room.publisher.end();
    let end = loop {
        match viewer.batch().await {
            Ok(batch) => batch.iter().for_each(|slice| viewer.reader.handle_bytes(slice).expect("FLV")),
            Err(end) => break end,
        }
    };
    assert_eq!(end, End::Closed);
    let last = std::iter::from_fn(|| viewer.reader.poll_tag()).last();
    assert_eq!(last.map(|tag| word(&tag)), Some("40 h264 +0".to_owned()));
}

#[test]
fn without_pictures_only_so_much_waits_for_them() {
    let settings = Settings::default();
    let out = Ring::new(Bounds { bytes_max: settings.ring_bytes_max, groups_max: settings.gops_max });
    let mut mux = TagMux::new(name(), Carriage::Flv, Extras::default());
    let head = || Item::Head(Head::of(tracks(Codec::Avc, Codec::Aac).into()));
    let mut feed = |item| mux.handle_item(item, 1, &Out::new(&out, clock::now()));
    feed(head());
    (1..=10).for_each(|seq| feed(Item::Event(stamped(seq, "a"))));
    feed(head());
    let events = limits::EVENTS_PENDING_MAX as u64;
    (11..=10 + 2 * events).for_each(|seq| feed(Item::Event(stamped(seq, "a"))));
    feed(Item::Frame(video(40, 40, true)));
    let mut cursor = out.cursor(None);
    let entries: Vec<_> = std::iter::from_fn(|| cursor.try_recv().expect("open")).collect();
    assert!(matches!(entries[0], Read::Entry { entry: TagEntry::Head(_), .. }));
    assert_eq!(entries.len() as u64, 1 + (events - 1) + 1, "the head, the newest events, the picture");
}
