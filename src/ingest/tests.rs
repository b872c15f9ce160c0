//! What comes out of the line for what an encoder sends.

use bytes::Bytes;

use super::rtmp::{AnchorAt, TagIngest};
use crate::{
    hub::{At, Cursor, Hub, Read, Settings},
    media::{
        Anchor, AudioConfig, Codec, Item, Scalar, TrackKind, VideoConfig,
        codec::sei::{self, NalFormat, Uuid},
    },
    proto::flv::{
        MediaTag,
        script::{LiveEvent, LiveEventKind},
    },
};

fn start() -> (TagIngest, Cursor<Item>) {
    let publisher = Hub::new(Settings::default(), None).publish(&"live/room".parse().expect("name")).expect("slot");
    let cursor = publisher.stream().ring().cursor(None);
    (TagIngest::new(publisher, true), cursor)
}

fn config(codec: Codec, description: &'static [u8]) -> MediaTag {
    let description = Bytes::from_static(description);
    match codec.kind() {
        TrackKind::Video => MediaTag::VideoConfig(VideoConfig { codec, description, width: 0, height: 0 }),
        TrackKind::Audio => MediaTag::AudioConfig(AudioConfig { codec, description, sample_rate: 48_000, channels: 2 }),
    }
}

fn frame(codec: Codec, keyframe: bool) -> MediaTag {
    MediaTag::Frame { codec, keyframe, cts_us: 0, data: Bytes::from_static(b"frame") }
}

/// What the cursor has ready, in words; frames with the milliseconds since the frame before.
fn line(cursor: &mut Cursor<Item>) -> Vec<String> {
    let mut before = None;
    let items = std::iter::from_fn(|| cursor.try_recv().expect("open")).filter_map(|read| match read {
        Read::Entry { entry, .. } => Some(entry),
        Read::Skipped { .. } => None,
    });
    items
        .map(|item| match item {
            Item::Head(head) => {
                let tracks = head.tracks.clone();
                let video = tracks.video.as_ref().map(|video| (video.codec.as_str(), video.description.clone()));
                let audio = tracks.audio.as_ref().map(|audio| audio.codec.as_str());
                format!("{video:?} {audio:?} {}", tracks.metadata.len())
            }
            Item::Frame(frame) => {
                let step = before.replace(frame.dts_us).map_or(0, |before| frame.dts_us - before);
                format!("{:?} +{}", frame.track, step / 1000)
            }
            Item::Data(_) => "data".into(),
            Item::Event(_) => "event".into(),
        })
        .collect()
}

#[test]
fn opus_describes_itself_where_the_encoder_does_not() {
    let (mut ingest, mut cursor) = start();
    // Sound alone has a start point each second: a reader who joins between these two would see one.
    let mut seen = Vec::new();
    for ms in [0, 20] {
        ingest.handle_tag(ms, frame(Codec::Opus, true)).expect("current");
        seen.extend(line(&mut cursor));
    }
    assert_eq!(seen, ["None Some(\"opus\") 0", "Audio +0", "Audio +0"]);
    assert_eq!((ingest.codecs().as_str(), ingest.counters().audio_frames), ("opus", 2));
}

#[test]
fn frames_of_a_track_that_is_not_described_are_left_out_and_counted() {
    let (mut ingest, mut cursor) = start();
    ingest.handle_tag(0, frame(Codec::Avc, true)).expect("current");
    ingest.handle_tag(0, frame(Codec::Aac, true)).expect("current");
    ingest.handle_tag(0, config(Codec::Avc, b"avcC")).expect("current");
    ingest.handle_tag(40, frame(Codec::Hevc, true)).expect("current");
    ingest.handle_tag(80, frame(Codec::Avc, true)).expect("current");
    assert_eq!(line(&mut cursor), ["Some((\"h264\", b\"avcC\")) None 0", "Video +0"]);
    assert_eq!((ingest.counters().undescribed, ingest.counters().video_frames), (3, 1));
}

#[test]
fn a_configuration_enters_the_line_where_it_changes_and_only_there() {
    let (mut ingest, mut cursor) = start();
    ingest.handle_tag(0, config(Codec::Avc, b"one")).expect("current");
    ingest.handle_tag(0, frame(Codec::Avc, true)).expect("current");
    line(&mut cursor);
    ingest.handle_tag(40, config(Codec::Avc, b"one")).expect("current");
    ingest.handle_tag(80, config(Codec::Avc, b"two")).expect("current");
    ingest.handle_tag(80, frame(Codec::Avc, true)).expect("current");
    let expected = ["Some((\"h264\", b\"two\")) None 0", "Video +0"];
    assert_eq!(line(&mut cursor), expected);
    let mut joiner = ingest.stream().ring().cursor(None);
    assert_eq!(line(&mut joiner), expected, "what is in force where he starts");
}

#[test]
fn metadata_is_kept_until_there_is_a_track_and_told_when_it_changes() {
    let (mut ingest, mut cursor) = start();
    let metadata = vec![("encoder".to_owned(), Scalar::String("OBS".into()))];
    ingest.handle_metadata(metadata.clone()).expect("current");
    ingest.handle_tag(0, config(Codec::Avc, b"avcC")).expect("current");
    ingest.handle_tag(0, frame(Codec::Avc, true)).expect("current");
    assert_eq!(line(&mut cursor), ["Some((\"h264\", b\"avcC\")) None 1", "Video +0"]);
    ingest.handle_metadata(metadata).expect("current");
    ingest.handle_metadata(Vec::new()).expect("current");
    assert_eq!(line(&mut cursor), ["Some((\"h264\", b\"avcC\")) None 0"]);
}

#[test]
fn clocks_that_wrap_go_on_and_clocks_that_restart_follow_on() {
    let (mut ingest, mut cursor) = start();
    ingest.handle_tag(u32::MAX - 19, config(Codec::Avc, b"avcC")).expect("current");
    let mut push = |ms| ingest.handle_tag(ms, frame(Codec::Avc, true)).expect("current");
    push(u32::MAX - 19);
    line(&mut cursor);
    push(20);
    assert_eq!(line(&mut cursor), ["Video +0"], "no new epoch at the wrap");
    let newest = |ingest: &TagIngest| ingest.stream().tracks().expect("tracks").epoch;
    assert_eq!(newest(&ingest), 0);

    let (mut ingest, mut cursor) = start();
    ingest.handle_tag(90_000, config(Codec::Avc, b"avcC")).expect("current");
    ingest.handle_tag(90_000, frame(Codec::Avc, false)).expect("current");
    ingest.handle_tag(90_040, frame(Codec::Avc, true)).expect("current");
    // Many encoders give data messages no time of their own.
    ingest.handle_data(Bytes::from_static(b"\x02\0\x07onClock\x05")).expect("current");
    ingest.handle_tag(90_080, frame(Codec::Avc, false)).expect("current");
    let config = "Some((\"h264\", b\"avcC\")) None 0";
    assert_eq!(line(&mut cursor), [config, "Video +0", "data", "Video +40"]);
    assert_eq!(newest(&ingest), 0);
    ingest.handle_tag(0, frame(Codec::Avc, true)).expect("current");
    assert_eq!(line(&mut cursor), [config, "Video +0"], "the new epoch first");
    assert_eq!((newest(&ingest), ingest.counters().data), (1, 1));
}

/// H.264 with lengths of 4 bytes.
const AVC_RECORD: &[u8] = &[1, 0x64, 0, 0x1f, 0xff];

/// A picture with this user data before it.
fn picture(keyframe: bool, cts_us: i64, uuid: Uuid, payload: &[u8]) -> MediaTag {
    let config = VideoConfig { codec: Codec::Avc, description: AVC_RECORD.into(), width: 0, height: 0 };
    let nal_format = NalFormat::of(&config).expect("H.264");
    let parts =
        nal_format.insert_user_data(&Bytes::from_static(b"\0\0\0\x02\x65\x88"), uuid, payload).expect("a picture");
    MediaTag::Frame { codec: Codec::Avc, keyframe, cts_us, data: parts.concat().into() }
}

/// The PTS of the newest frame; the cursor is past it then.
fn newest_us(cursor: &mut Cursor<Item>) -> i64 {
    let items = std::iter::from_fn(|| cursor.try_recv().expect("open"));
    let times = items.filter_map(|read| match read {
        Read::Entry { entry: Item::Frame(frame), .. } => Some(frame.pts_us),
        _ => None,
    });
    times.last().expect("a frame")
}

fn live_event(ts_ms: f64) -> Bytes {
    LiveEvent { ts_ms, replay: false, kind: LiveEventKind::Event, json: r#"{"type":"gift.send","op":"fire"}"# }.encode()
}

#[test]
fn an_event_inside_the_stream_is_placed_on_its_timeline() {
    let (mut ingest, mut cursor) = start();
    ingest.handle_tag(0, config(Codec::Avc, AVC_RECORD)).expect("current");
    ingest.handle_tag(9_000, picture(true, 0, [7; 16], b"")).expect("current");
    let began_us = newest_us(&mut cursor);
    let at = |ingest: &mut TagIngest| match ingest.poll_draft() {
        Some(Ok((draft, at))) if draft["type"] == "gift.send" => match at {
            At::PtsUs(pts_us) => Ok(pts_us - began_us),
            at => Err(at),
        },
        other => panic!("{other:?}"),
    };
    // Beside a picture: with it, also where it is shown later than it is sent.
    let event = br#"{"type":"gift.send","op":"fire"}"#;
    ingest.handle_tag(9_040, picture(false, 80_000, sei::LIVE_EVENT, event)).expect("current");
    assert_eq!(at(&mut ingest), Ok(120_000));
    // From another hawker: with the picture that it names, if that can be one of this timeline's.
    ingest.handle_data(live_event(9_500.0)).expect("current");
    assert_eq!(at(&mut ingest), Ok(500_000));
    for ts_ms in [9_000.0, 100_000.0, -1.0] {
        ingest.handle_data(live_event(ts_ms)).expect("current");
        assert_eq!(at(&mut ingest), Err(At::Now), "{ts_ms}");
    }
    assert_eq!((ingest.poll_draft(), ingest.counters().events), (None, 5));
    assert!(!line(&mut cursor).contains(&"data".to_owned()), "none of them passes as it is");
}

#[test]
fn without_the_right_events_are_refused_and_times_are_heard() {
    let publisher = Hub::new(Settings::default(), None).publish(&"live/room".parse().expect("name")).expect("slot");
    let mut cursor = publisher.stream().ring().cursor(None);
    let mut ingest = TagIngest::new(publisher, false);
    ingest.handle_tag(0, config(Codec::Avc, AVC_RECORD)).expect("current");
    let time = b"\x00\x01\x012024-05-31T12:26:03.591Z\0";
    let uuid = 0x0aecffe7_5272_4e2f_a62f_d19cd61a93b5_u128.to_be_bytes();
    ingest.handle_tag(9_000, picture(true, 0, uuid, time)).expect("current");
    let pts_us = newest_us(&mut cursor);
    let said = AnchorAt { anchor: Anchor::BpmSei, pts_us, wall_us: 1_717_158_363_591_000 };
    assert_eq!((ingest.poll_anchor(), ingest.poll_anchor()), (Some(said), None));
    ingest.handle_tag(9_040, picture(true, 0, sei::LIVE_EVENT, br#"{"type":"gift.send"}"#)).expect("current");
    ingest.handle_data(live_event(9_500.0)).expect("current");
    ingest.handle_data(Bytes::from_static(b"\x02\0\x07onClock\x05")).expect("current");
    assert!(matches!(ingest.poll_draft(), Some(Err(_))) && matches!(ingest.poll_draft(), Some(Err(_))));
    assert_eq!(ingest.poll_draft(), None);
    assert_eq!(line(&mut cursor), ["Video +0", "data"], "what is no event passes");
}
