//! Muxers: lines in, frames out.

use super::*;
use crate::{
    hub::{Cursor, Read},
    media::{AudioConfig, Codec, Tracks, VideoConfig},
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
            self.mux.handle_item(item, group, &self.ring);
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

#[test]
fn an_events_group_is_rolled_and_begins_with_what_is_still_so() {
    let mut rig = Rig::new(EventsMux::default());
    let mut items = vec![(video(0, true), 7)];
    items.extend((1..=101).map(|seq| (Item::Event(card(seq)), 7)));
    items.push((video(40_000, true), 9));
    items.push((Item::Event(card(102)), 9));
    let frames = rig.feed(items);
    let seqs = |json: &Bytes| -> Vec<u64> {
        let records: Vec<serde_json::Value> = serde_json::from_slice(json).expect("an array");
        records.iter().map(|record| record["data"]["seq"].as_u64().expect("a seq")).collect()
    };
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
fn without_a_picture_the_line_carries_the_sound() {
    let source = Ring::new(Bounds { bytes_max: 1 << 20, groups_max: 8 });
    let mut rig = Rig::new(LineMux::new("live/a".parse().expect("a name"), source.clone()));
    let frames = rig.feed([(Item::Head(tracks(false)), 7), (frame(TrackKind::Audio, 0, 0, true), 8), (audio(20), 8)]);
    assert_eq!(frames.len(), 4, "the configuration twice, then the sound");
}

#[test]
fn priorities_put_catalog_events_and_sound_before_the_picture_and_new_before_old() {
    let order = [Track::Catalog, Track::Events, Track::Audio, Track::Video];
    assert!(order.windows(2).all(|pair| pair[0].priority(0) > pair[1].priority(0x0fff_ffff)));
    assert!(Track::Video.priority(8) > Track::Video.priority(7));
    assert!(Track::Catalog.priority(u64::MAX) < 0, "control streams stay first");
}
