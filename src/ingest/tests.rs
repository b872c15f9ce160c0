//! What comes out of the line for what an encoder sends.

use bytes::Bytes;

use super::rtmp::TagIngest;
use crate::{
    hub::{Cursor, Hub, Read, Settings},
    media::{AudioConfig, Codec, Item, Scalar, TrackKind, VideoConfig},
    proto::flv::MediaTag,
};

fn start() -> (TagIngest, Cursor<Item>) {
    let publisher = Hub::new(Settings::default(), None).publish(&"live/room".parse().expect("name")).expect("slot");
    let cursor = publisher.stream().ring().cursor(None);
    (TagIngest::new(publisher), cursor)
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
    for ms in [0, 20] {
        ingest.handle_tag(ms, frame(Codec::Opus, true)).expect("current");
    }
    assert_eq!(line(&mut cursor), ["None Some(\"opus\") 0", "Audio +0", "Audio +20"]);
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
    ingest.handle_data(Bytes::from_static(b"data")).expect("current");
    ingest.handle_tag(90_080, frame(Codec::Avc, false)).expect("current");
    let config = "Some((\"h264\", b\"avcC\")) None 0";
    assert_eq!(line(&mut cursor), [config, "Video +0", "data", "Video +40"]);
    assert_eq!(newest(&ingest), 0);
    ingest.handle_tag(0, frame(Codec::Avc, true)).expect("current");
    assert_eq!(line(&mut cursor), [config, "Video +0"], "the new epoch first");
    assert_eq!((newest(&ingest), ingest.counters().data), (1, 1));
}
