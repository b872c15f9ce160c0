//! Muxers: lines in, frames out.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    clock,
    hub::{Cursor, Read},
    media::{AudioConfig, Codec, Data, Room, Tracks, VideoConfig, event::Moment},
    proto::moq::{
        container::read_legacy,
        line::{LineItem, decode_item},
        lite05::{DataEvent, DataStream, GroupHeader},
    },
};

/// Runs a muxer over a line that is given item by item, each with its group.
struct Rig<M> {
    mux: M,
    ring: Arc<Ring<Chunk>>,
    cursor: Cursor<Chunk>,
}

impl<M: Mux<Out = Chunk>> Rig<M> {
    fn new(mux: M) -> Self {
        let ring = Ring::new(Bounds { bytes_max: 1 << 20, groups_max: 8 });
        let cursor = ring.cursor(None);
        Self { mux, ring, cursor }
    }

    /// The lite frames that come out, as a subscriber reads them: group, timestamp, payload.
    fn feed(&mut self, items: impl IntoIterator<Item = (Item, u64)>) -> Vec<(u64, i64, Bytes)> {
        let mut out = Vec::new();
        let mut stream: Option<(u64, DataStream)> = None;
        for (item, group) in items {
            self.mux.handle_item(item, group, &Out::new(&self.ring, clock::now()));
            while let Ok(Some(Read::Entry { entry, group })) = self.cursor.try_recv() {
                let (_, reader) = match stream.take() {
                    Some((current, reader)) if current == group => stream.insert((group, reader)),
                    _ => stream.insert((group, opened(group))),
                };
                reader.handle_chunk(&entry.head);
                reader.handle_chunk(&entry.payload);
                while let Some(DataEvent::Frame { timestamp, payload }) = reader.poll_event().expect("frames") {
                    out.push((group, timestamp, payload));
                }
                assert!(reader.is_at_boundary(), "an entry holds whole frames");
            }
        }
        out
    }
}

fn opened(group: u64) -> DataStream {
    let mut reader = DataStream::default();
    reader.handle_chunk(&GroupHeader { subscribe: 0, sequence: group }.to_stream());
    assert!(matches!(reader.poll_event(), Ok(Some(DataEvent::Group(_)))));
    reader
}

fn tracks(video: bool) -> Arc<Head> {
    let video = video.then(|| VideoConfig {
        codec: Codec::Avc,
        description: Bytes::from_static(&[1, 0x42, 0xc0, 0x1f, 0xff]),
        width: 640,
        height: 360,
    });
    let audio = AudioConfig {
        codec: Codec::Aac,
        description: Bytes::from_static(&[0x11, 0x90]),
        sample_rate: 48_000,
        channels: 2,
    };
    Head::of(Arc::new(Tracks { video, audio: Some(audio), ..Tracks::default() }))
}

fn frame(track: TrackKind, dts_ms: i64, pts_ms: i64, keyframe: bool) -> Item {
    let data = Bytes::from(format!("{dts_ms}"));
    Item::Frame(Frame { track, dts_us: dts_ms * 1000, pts_us: pts_ms * 1000, keyframe, data })
}

fn video(dts_ms: i64, keyframe: bool) -> Item {
    frame(TrackKind::Video, dts_ms, dts_ms, keyframe)
}

fn audio(dts_ms: i64) -> Item {
    frame(TrackKind::Audio, dts_ms, dts_ms, false)
}

/// A one-shot.
fn event(seq: u64, time: &str) -> Arc<Event> {
    let json = format!(
        r#"{{"data":{{}},"id":"01ARZ3NDEKTSV4RRFFQ69G{seq:04}","op":"fire","seq":{seq},"source":"live/a","time":{time},"type":"card.show","v":1}}"#
    );
    Arc::new(Event::from_json(json.as_bytes()).expect("a valid event"))
}

#[test]
fn video_groups_are_gops_with_times_in_presentation_order() {
    let mut rig = Rig::new(MediaMux::new(TrackKind::Video));
    let frames = rig.feed([
        (video(0, false), 6),
        (video(40, true), 7),
        (audio(45), 7),
        (frame(TrackKind::Video, 80, 160, false), 7),
        (frame(TrackKind::Video, 120, 120, false), 7),
        (video(200, true), 8),
    ]);
    let read: Vec<_> = frames
        .into_iter()
        .map(|(group, timestamp, payload)| {
            let (pts_us, data) = read_legacy(payload).expect("a container");
            assert_eq!(pts_us, timestamp, "both times are the frame's");
            (group, pts_us / 1000, String::from_utf8(data.to_vec()).expect("text"))
        })
        .collect();
    let expected = [(7, 40, "40"), (7, 160, "80"), (7, 120, "120"), (8, 200, "200")];
    assert_eq!(read, expected.map(|(group, pts, data)| (group, pts, data.to_owned())));
}

#[test]
fn audio_groups_are_the_seconds_of_the_timeline() {
    let mut rig = Rig::new(MediaMux::new(TrackKind::Audio));
    let frames = rig.feed([0, 500, 999, 1000, 1990, 2010].map(|dts| (audio(dts), 7)));
    let groups: Vec<_> = frames.iter().map(|(group, timestamp, _)| (*group, timestamp / 1000)).collect();
    assert_eq!(groups, [(0, 0), (0, 500), (0, 999), (1, 1000), (1, 1990), (2, 2010)]);
}

#[test]
fn a_catalog_is_told_once_a_change_each_in_a_group_of_its_own() {
    let mut rig = Rig::new(CatalogMux::default());
    let same = Head::of(Arc::new(Tracks { epoch: 5, ..Tracks::clone(&tracks(true).tracks) }));
    let frames = rig.feed([(Item::Head(tracks(false)), 7), (Item::Head(tracks(true)), 7), (Item::Head(same), 8)]);
    let groups: Vec<_> = frames.iter().map(|(group, ..)| *group).collect();
    assert_eq!(groups, [7, 8]);
    assert!(Catalog::from_json(&frames[1].2).expect("a catalog").video.is_some());
}

#[test]
fn an_event_record_has_the_time_that_triggers_it_and_the_event_unchanged() {
    let mut rig = Rig::new(EventsMux::default());
    let at_pts = event(1, r#"{"epoch":0,"mode":"pts","pts_us":1234999,"wall_ms":5}"#);
    let at_wall = event(2, r#"{"mode":"wall","wall_ms":99}"#);
    let frames =
        rig.feed([(video(1200, true), 7), (Item::Event(at_pts.clone()), 7), (Item::Event(at_wall.clone()), 7)]);
    let texts: Vec<_> = frames.iter().map(|(.., json)| std::str::from_utf8(json).expect("text")).collect();
    let (pts_json, wall_json) =
        (std::str::from_utf8(&at_pts.json).expect("text"), std::str::from_utf8(&at_wall.json).expect("text"));
    assert_eq!(
        texts,
        [
            "[]".to_owned(),
            format!(r#"[{{"M":1234,"data":{pts_json}}}]"#),
            format!(r#"[{{"T":99,"data":{wall_json}}}]"#)
        ]
    );
}

/// One of three cards.
fn card(seq: u64) -> Arc<Event> {
    let one_shot = String::from_utf8(event(seq, r#"{"mode":"asap"}"#).json.to_vec()).expect("text");
    let key = format!(r#""key":"card:{}","op":"set""#, seq % 3);
    Arc::new(Event::from_json(one_shot.replace(r#""op":"fire""#, &key).as_bytes()).expect("a valid event"))
}

/// Of the events in an array of records.
fn seqs(json: &Bytes) -> Vec<u64> {
    let records: Vec<Json> = serde_json::from_slice(json).expect("an array");
    records.iter().map(|record| record["data"]["seq"].as_u64().expect("a seq")).collect()
}

#[test]
fn an_events_group_is_rolled_and_begins_with_what_is_still_so() {
    let mut rig = Rig::new(EventsMux::default());
    let mut items = vec![(video(0, true), 7)];
    items.extend((1..=101).map(|seq| (Item::Event(card(seq)), 7)));
    items.push((video(40_000, true), 9));
    items.push((Item::Event(card(102)), 9));
    let frames = rig.feed(items);
    let groups: std::collections::BTreeSet<_> = frames.iter().map(|(group, ..)| *group).collect();
    let group = |at: usize| -> Vec<Vec<u64>> {
        let group = groups.iter().nth(at).expect("a group");
        frames.iter().filter(|(g, ..)| g == group).map(|(.., json)| seqs(json)).collect()
    };
    assert_eq!(groups.len(), 3, "one roll by count, one by age: {groups:?}");
    assert_eq!(group(0)[..2], [vec![], vec![1]]);
    assert_eq!(group(1), [vec![98, 99, 100], vec![101]]);
    assert_eq!(group(2), [vec![99, 100, 101], vec![102]]);
}

#[test]
fn a_record_is_told_with_the_first_picture_and_a_long_past_in_several_objects() {
    let mut rig = Rig::new(EventsMux::default());
    let long = |seq: u64| {
        let data: String = (0..7).map(|at| format!(r#""f{at}":"{}","#, "x".repeat(500))).collect();
        let json = String::from_utf8(event(seq, r#"{"mode":"asap"}"#).json.to_vec()).expect("text");
        let json = json.replace(r#""data":{}"#, &format!(r#""data":{{{}}}"#, data.trim_end_matches(',')));
        let key = format!(r#""key":"card:{seq}","op":"set""#);
        Arc::new(Event::from_json(json.replace(r#""op":"fire""#, &key).as_bytes()).expect("a valid event"))
    };
    let mut room = Room::default();
    (1..=40).for_each(|seq| room.apply(&long(seq)));
    let head = Arc::new(Head { room: room.into(), ..Head::clone(&tracks(true)) });
    let frames = rig.feed([(Item::Head(head), 7), (Item::Event(long(41)), 7), (audio(30), 7), (video(40, true), 7)]);
    let seqs: Vec<Vec<u64>> = frames.iter().map(|(.., json)| seqs(json)).collect();
    let heads: Vec<_> = frames.iter().map(|(group, timestamp, json)| (*group, *timestamp, json.len())).collect();
    assert!(heads.iter().all(|(group, at_us, bytes)| (*group, *at_us) == (7, 40_000) && *bytes < 65_536), "{heads:?}");
    assert!(seqs.len() > 2 && seqs[..seqs.len() - 1].concat() == (1..=40).collect::<Vec<_>>(), "{seqs:?}");
    assert_eq!(seqs.last(), Some(&vec![41]));
}

#[test]
fn of_too_much_before_the_first_picture_the_newest_is_told_and_the_rest_as_state() {
    let mut rig = Rig::new(EventsMux::default());
    let mut items = vec![(Item::Head(tracks(true)), 7)];
    items.extend((1..=3).map(|seq| (Item::Event(card(seq)), 7)));
    items.extend((4..=200).map(|seq| (Item::Event(event(seq, r#"{"mode":"asap"}"#)), 7)));
    items.push((audio(30), 7));
    items.push((video(40, true), 7));
    let told: Vec<Vec<u64>> = rig.feed(items).iter().map(|(.., json)| seqs(json)).collect();
    assert_eq!(told[0], [1, 2, 3]);
    let one_shots: Vec<_> = told.concat().into_iter().filter(|seq| *seq > 3).collect();
    assert_eq!(one_shots, (101..=200).collect::<Vec<_>>(), "a group of them");
}

/// A step of a room: what happens to which key, when relative to the next picture, and whether a keyframe comes.
fn step() -> impl Strategy<Value = (u8, u8, i64, bool)> {
    (0u8..4, 0u8..4, -2i64..4, prop::bool::weighted(0.3))
}

fn happening(seq: u64, what: u8, key: u8, at_us: i64) -> Event {
    let (kind, op) =
        [("card.show", "set"), ("card.hide", "delete"), ("rain.start", "fire"), ("cancel", "fire")][usize::from(what)];
    let mut time = json!({"mode": "pts", "epoch": 0, "pts_us": at_us, "wall_ms": clock::unix_ms()});
    if kind == "rain.start" {
        time["duration_ms"] = 3_600_000.into();
    }
    let id = |seq: u64| ulid::Ulid::from_parts(seq, 0).to_string();
    let mut event = json!({"v": 1, "id": id(seq), "source": "live/a", "seq": seq, "type": kind, "op": op, "time": time,
        "data": {"ref": id(seq.saturating_sub(2)), "of": {key.to_string(): seq}}});
    if op != "fire" {
        event["key"] = format!("card:{key}").into();
    }
    Event::from_object(event.as_object().expect("an object").clone()).expect("a valid event")
}

/// RFC 7396 §2.
fn merge(target: &mut Json, patch: Json) {
    let Json::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("an object").remove(&key);
        } else {
            merge(&mut target[&key], value);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn who_merges_the_patches_has_the_state(steps in vec(step(), 1..150)) {
        let mut rig = Rig::new(StateMux::default());
        let (mut room, mut reader, mut group) = (Room::default(), (0, Json::Null), 7);
        for (seq, (what, key, ahead, keyframe)) in (1..).zip(steps) {
            let at_us = i64::try_from(seq).expect("small") * 400_000;
            let now = Moment { pts_us: at_us, wall_ms: clock::unix_ms() };
            let mut items = Vec::new();
            if keyframe || seq == 1 {
                group += 1;
                room.advance(now);
                items.push(Item::Head(Head { room: room.clone().into(), at: now, ..Head::clone(&tracks(true)) }.into()));
            }
            let event = Arc::new(happening(seq, what, key, at_us + ahead * 400_000));
            room.apply(&event);
            items.push(Item::Event(event));
            items.push(video(at_us / 1000, keyframe || seq == 1));
            for (number, _, json) in rig.feed(items.into_iter().map(|item| (item, group))) {
                let value: Json = serde_json::from_slice(&json).expect("JSON");
                if number == reader.0 {
                    merge(&mut reader.1, value);
                } else {
                    prop_assert!(number > reader.0 && value["keys"].is_object(), "a group begins with all of it");
                    reader = (number, value);
                }
            }
            prop_assert_eq!(&reader.1, &Json::from(room.to_state(now)));
        }
    }
}

#[test]
fn the_state_is_rolled_and_begun_anew_when_readers_missed_something() {
    let mut rig = Rig::new(StateMux::default());
    let head = |resync| Item::Head(Arc::new(Head { resync, ..Head::clone(&tracks(true)) }));
    let mut items = vec![(head(0), 7), (video(0, true), 7)];
    for seq in 1..=101 {
        items.extend([(Item::Event(card(seq)), 7), (video(i64::try_from(seq).expect("small") * 40, false), 7)]);
    }
    items.extend([(head(0), 8), (video(5_000, true), 8), (head(1), 9), (video(6_000, true), 9)]);
    items.extend([(Item::Event(card(102)), 9), (video(40_000, false), 9)]);
    let groups: Vec<u64> = rig.feed(items).into_iter().map(|(group, ..)| group).collect();
    let count = |group: u64| groups.iter().filter(|number| **number == group).count();
    assert_eq!((count(7), count(8), count(9), count(10)), (101, 2, 1, 1), "by count, by resync, by age");
}

#[test]
fn each_group_of_the_line_can_be_read_alone_and_keeps_the_order() {
    let source = Ring::new(Bounds { bytes_max: 1 << 20, groups_max: 8 });
    let mut rig = Rig::new(LineMux::new("live/a".parse().expect("a name"), source.clone()));
    let shown = event(1, r#"{"epoch":0,"mode":"pts","pts_us":80000,"wall_ms":5}"#);
    let items = [
        (Item::Head(tracks(true)), 7),
        (video(40, true), 7),
        (audio(45), 7),
        (Item::Event(shown.clone()), 7),
        (video(80, false), 7),
        (video(120, true), 8),
    ];
    source.push(Item::Event(shown.clone()), 7);
    let later = event(2, r#"{"epoch":0,"mode":"pts","pts_us":120000,"wall_ms":5}"#);
    source.push(Item::Event(later), 8);
    let frames = rig.feed(items);
    let read: Vec<_> =
        frames.into_iter().map(|(group, _, payload)| (group, decode_item(&payload).expect("an item"))).collect();
    let item = LineItem::Item;
    let config = || item(Item::Head(tracks(true)));
    let expected = [
        (7, config()),
        (7, config()),
        (7, item(video(40, true))),
        (7, item(Item::Event(shown.clone()))),
        (7, item(video(80, false))),
        (8, config()),
        (8, LineItem::Recap(shown)),
        (8, item(video(120, true))),
    ];
    assert_eq!(read, expected);
}

#[test]
fn a_recap_has_all_of_the_last_seconds_up_to_its_bound_in_bytes() {
    let source = Ring::new(Bounds { bytes_max: 1 << 20, groups_max: 8 });
    let mux = LineMux::new("live/a".parse().expect("name"), source.clone());
    let Item::Frame(keyframe) = video(20_000, true) else { unreachable!() };
    source.push(video(4_000, true), 1);
    source.push(Item::Event(event(1, r#"{"mode":"asap"}"#)), 1);
    source.push(video(6_000, true), 2);
    // An encoder's data takes no event's place.
    let data = |dts_us| Item::Data(Data { dts_us, amf0: Bytes::from_static(b"onClock") });
    for seq in 2..=500 {
        source.push(Item::Event(event(seq, r#"{"mode":"asap"}"#)), 2);
        source.push(data(6_000_000), 2);
    }
    let seqs = |events: Vec<Arc<Event>>| events.iter().map(|event| event.head.seq).collect::<Vec<_>>();
    assert_eq!(seqs(mux.recap(&keyframe, 3)), (2..=500).collect::<Vec<_>>());
    let large = |seq| {
        let small = String::from_utf8(card(seq).json.to_vec()).expect("text");
        let large = small.replace(r#""data":{}"#, &format!(r#""data":{{"text":"{}"}}"#, "x".repeat(500)));
        Arc::new(Event::from_json(large.as_bytes()).expect("a valid event"))
    };
    (501..=1000).for_each(|seq| source.push(Item::Event(large(seq)), 2));
    let recap = mux.recap(&keyframe, 3);
    let bytes: usize = recap.iter().map(|event| event.json.len()).sum();
    let of_each = large(1000).json.len();
    assert!((MOQ_EVENTS_RECENT_BYTES_MAX - of_each..=MOQ_EVENTS_RECENT_BYTES_MAX).contains(&bytes), "{bytes}");
    assert_eq!(recap.last().map(|event| event.head.seq), Some(1000));
}

#[test]
fn without_a_picture_the_line_carries_the_sound() {
    let source = Ring::new(Bounds { bytes_max: 1 << 20, groups_max: 8 });
    let mut rig = Rig::new(LineMux::new("live/a".parse().expect("a name"), source.clone()));
    let frames = rig.feed([(Item::Head(tracks(false)), 7), (frame(TrackKind::Audio, 0, 0, true), 8), (audio(20), 8)]);
    assert_eq!(frames.len(), 4, "the configuration twice, then the sound");
}

#[test]
fn priorities_put_catalog_events_and_sound_before_the_picture_and_new_before_old() {
    let order = [Track::Catalog, Track::Events, Track::Audio, Track::Video];
    assert_eq!(Track::Events.priority(7), Track::State.priority(7));
    assert!(order.windows(2).all(|pair| pair[0].priority(0) > pair[1].priority(0x0fff_ffff)));
    assert!(Track::Video.priority(8) > Track::Video.priority(7));
    assert!(Track::Catalog.priority(u64::MAX) < 0, "control streams stay first");
}
