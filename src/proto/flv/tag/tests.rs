use proptest::prelude::*;

use super::*;

fn video(body: &[u8]) -> Result<MediaTag, TagError> {
    parse(TagKind::Video, Bytes::copy_from_slice(body))
}

fn audio(body: &[u8]) -> Result<MediaTag, TagError> {
    parse(TagKind::Audio, Bytes::copy_from_slice(body))
}

fn frame_of(codec: Codec, keyframe: bool, cts_us: i64, data: &'static str) -> Result<MediaTag, TagError> {
    Ok(MediaTag::Frame { codec, keyframe, cts_us, data: data.into() })
}

#[test]
fn classic_bodies() {
    assert_eq!(video(b"\x27\x01\xff\xff\xffnal"), frame_of(Codec::Avc, false, -1000, "nal"));
    assert_eq!(video(b"\x1c\x01\x00\x00\x28nal"), frame_of(Codec::Hevc, true, 40_000, "nal"));
    assert_eq!(audio(b"\xaf\x01raw"), frame_of(Codec::Aac, true, 0, "raw"));
    assert!(matches!(video(b"\x17\x00\x00\x00\x00avcC"), Ok(MediaTag::VideoConfig(c)) if c.description == "avcC"));
    assert!(matches!(audio(b"\xaf\x00\x11\x88"), Ok(MediaTag::AudioConfig(c)) if c.sample_rate == 48_000));
    for ignored in [b"".as_slice(), b"\x57\x00", b"\x17\x02\x00\x00\x00", b"\x17\x01\x00\x00\x00"] {
        assert_eq!(video(ignored), Ok(MediaTag::Ignored), "{ignored:?}");
    }
    assert_eq!(video(b"\x17\x01\x00"), Err(TagError::Truncated));
}

#[test]
fn enhanced_bodies() {
    assert_eq!(video(b"\x91hvc1\x00\x00\x28nal"), frame_of(Codec::Hevc, true, 40_000, "nal"));
    assert_eq!(video(b"\xa3hvc1nal"), frame_of(Codec::Hevc, false, 0, "nal"));
    assert_eq!(video(b"\x91avc1\x00\x00\x28nal"), frame_of(Codec::Avc, true, 40_000, "nal"));
    assert_eq!(video(b"\x91av01\x12\x00obu"), frame_of(Codec::Av1, true, 0, "obu"));
    assert_eq!(video(b"\x91vp08vp8"), frame_of(Codec::Vp8, true, 0, "vp8"));
    assert_eq!(video(b"\x91vp09vp9"), frame_of(Codec::Vp9, true, 0, "vp9"));
    assert_eq!(audio(b"\x91Opuspkt"), frame_of(Codec::Opus, true, 0, "pkt"));
    assert_eq!(audio(b"\x91mp4araw"), frame_of(Codec::Aac, true, 0, "raw"));
    assert!(matches!(audio(b"\x90OpusOpusHead\x01\x02"), Ok(MediaTag::AudioConfig(c)) if c.channels == 2));
    // SequenceEnd, colour metadata, a command.
    for ignored in [b"\x92hvc1".as_slice(), b"\x94hvc1meta", b"\xd0\x00"] {
        assert_eq!(video(ignored), Ok(MediaTag::Ignored), "{ignored:?}");
    }
}

#[test]
fn mod_ex_adds_nanoseconds() {
    // 600,000 ns, then a modifier of an unknown type, then CodedFramesX.
    let body = b"\x97\x02\x09\x27\xc0\x07\x00\xff\x13hvc1nal";
    assert_eq!(video(body), frame_of(Codec::Hevc, true, 600, "nal"));
    assert_eq!(video(b"\x97\xff\xff\xff\x00"), Err(TagError::Truncated));
}

#[test]
fn the_first_of_several_tracks_is_taken() {
    let one = b"\x96\x03hvc1\x00nal";
    let many = b"\x96\x13hvc1\x01\x00\x00\x01x\x00\x00\x00\x03nal";
    let many_codecs = b"\x96\x23av01\x01\x00\x00\x01xhvc1\x00\x00\x00\x03nal";
    for body in [one.as_slice(), many, many_codecs] {
        assert_eq!(video(body), frame_of(Codec::Hevc, true, 0, "nal"), "{body:?}");
    }
    assert_eq!(video(b"\x96\x03hvc1\x01nal"), Ok(MediaTag::Ignored));
    assert_eq!(video(b"\x96\x13hvc1\x01\xff\xff\xffx"), Err(TagError::Truncated));
    assert_eq!(audio(b"\x95\x01Opus\x00pkt"), frame_of(Codec::Opus, true, 0, "pkt"));
}

#[test]
fn unsupported_codecs_are_named() {
    let named = |result: Result<MediaTag, TagError>| result.expect_err("unsupported").to_string();
    assert!(named(video(b"\x14\x01")).contains("VP6"));
    assert!(named(audio(b"\x2f\x01")).contains("MP3"));
    assert!(named(audio(b"\xb2\x01")).contains("Speex"));
    assert!(named(video(b"\x91vvc1x")).contains("vvc1"));
    assert!(named(audio(b"\x91\xff\x00\r\nx")).contains(r"\xff\x00\r\n"));
}

#[test]
fn players_get_classic_tags_where_those_exist() {
    let data = || Bytes::from_static(b"nal");
    for (body, expected) in [
        (TagBody::video_frame(Codec::Avc, true, 40, data()), b"\x17\x01\x00\x00\x28".as_slice()),
        (TagBody::video_frame(Codec::Hevc, false, 0, data()), b"\xa3hvc1"),
        (TagBody::video_frame(Codec::Hevc, true, 40, data()), b"\x91hvc1\x00\x00\x28"),
        (TagBody::video_frame(Codec::Av1, true, 0, data()), b"\x91av01"),
        (TagBody::video_config(&VideoConfig::from_description(Codec::Vp9, data())), b"\x90vp09"),
        (TagBody::video_config(&VideoConfig::from_description(Codec::Avc, data())), b"\x17\x00\x00\x00\x00"),
        (TagBody::audio_frame(Codec::Aac, data()), b"\xaf\x01"),
        (TagBody::audio_frame(Codec::Opus, data()), b"\x91Opus"),
        (TagBody::audio_config(&AudioConfig::from_description(Codec::Opus, data())), b"\x90Opus"),
    ] {
        assert_eq!(body.header, expected);
    }
}

proptest! {
    #[test]
    fn frames_survive_a_round_trip(
        codec in prop::sample::select(vec![Codec::Avc, Codec::Hevc, Codec::Av1, Codec::Vp8, Codec::Vp9]),
        keyframe in any::<bool>(),
        cts_ms in -0x80_0000i32..0x80_0000,
        data in proptest::collection::vec(1u8.., 1..64),
    ) {
        let has_cts = matches!(codec, Codec::Avc | Codec::Hevc);
        let body = TagBody::video_frame(codec, keyframe, cts_ms, data.clone().into());
        let cts_us = if has_cts { i64::from(cts_ms) * 1000 } else { 0 };
        prop_assert_eq!(
            video(&[body.header, body.payload].concat()),
            Ok(MediaTag::Frame { codec, keyframe, cts_us, data: data.into() })
        );
    }

    #[test]
    fn no_bytes_panic(first in any::<u8>(), data in proptest::collection::vec(any::<u8>(), 0..64)) {
        let body = [&[first], data.as_slice()].concat();
        let _ = (video(&body), audio(&body));
    }
}
