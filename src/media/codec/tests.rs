//! Records written by x264, x265, SVT-AV1, libvpx and ffmpeg's AAC encoder; sizes and rates as asked of them.

use proptest::prelude::*;

use super::{
    parameter_sets::{ParameterSets, parameter_sets},
    *,
};
use crate::limits;

fn hex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

const HVCC: &str = concat!(
    "0101600000009000000000005df000fcfdf8f800000f03",
    "200001001840010c01ffff01600000030090000003000003005d95940921",
    "0001002c42010101600000030090000003000003005da00280802d1f5965654a4c2f016808000003000800000300f040",
    "22000100064401c073c189"
);

#[test]
fn video_records_give_size_and_codec_string() {
    for (codec, record, size, string) in [
        (
            Codec::Avc,
            "0142c01fffe100196742c01fda014016feb0110000030001000003003c0f1832a001000468ce0fc8",
            (1280, 718),
            "avc1.42c01f",
        ),
        // Interlaced, 4:2:2, 10 bit.
        (
            Codec::Avc,
            "017a0020ffe1001a677a0020b6cd940500bbf1380880000003008000000f0f8b16cb01000668fba3cb22c0fefafa00",
            (1280, 720),
            "avc1.7a0020",
        ),
        (Codec::Hevc, HVCC, (1280, 718), "hev1.1.6.L93.90"),
        (Codec::Av1, "81054c000a0b0000002d4cffb3402f8404", (1280, 718), "av01.0.05M.10"),
        (Codec::Vp9, "01000000001f820202020000", (0, 0), "vp09.00.31.08"),
        (Codec::Vp9, "001f820202020000", (0, 0), "vp09.00.31.08"),
        (Codec::Vp8, "", (0, 0), "vp8"),
        (Codec::Avc, "", (0, 0), "avc1"),
        (Codec::Hevc, "01", (0, 0), "hev1"),
    ] {
        let config = VideoConfig::from_description(codec, hex(record));
        assert_eq!((config.width, config.height), size, "{record}");
        assert_eq!(config.codec_string(), string);
    }
}

#[test]
fn audio_records_give_rate_channels_and_codec_string() {
    for (codec, record, rate, channels, string) in [
        (Codec::Aac, "118856e500", 48_000, 1, "mp4a.40.2"),
        (Codec::Aac, "1210", 44_100, 2, "mp4a.40.2"),
        // HE-AAC: core 24 kHz, signalled output 48 kHz.
        (Codec::Aac, "2b118800", 48_000, 2, "mp4a.40.5"),
        // Escaped rate index: 24 explicit bits.
        (Codec::Aac, "1780157c10", 11_000, 2, "mp4a.40.2"),
        (Codec::Aac, "", 44_100, 2, "mp4a.40.2"),
        (Codec::Opus, "4f707573486561640106380180bb0000000000", 48_000, 6, "opus"),
        (Codec::Opus, "", 48_000, 2, "opus"),
    ] {
        let config = AudioConfig::from_description(codec, hex(record));
        assert_eq!((config.sample_rate, config.channels), (rate, channels), "{record}");
        assert_eq!(config.codec_string(), string);
    }
}

/// Records that ffmpeg 9 wrote for x264 and x265, in several formats and with two temporal layers.
#[test]
fn parameter_sets_make_the_record_they_came_from() {
    for (codec, text) in [
        (Codec::Avc, "0142c01fffe100196742c01fda014016feb0110000030001000003003c0f1832a001000468ce0fc8"),
        (Codec::Avc, "017a000affe10018677a000ab6cd94426c0440000003004000000c83c489658001000668ebe3cb22c0fefafa00"),
        (Codec::Avc, "01f4000affe1001767f4000a919b2884d808800000030080000019078912cb01000668ebe3c44844fff8f800"),
        (
            Codec::Hevc,
            concat!(
                "0104080000009d08000000001ef000fcfefafa0000130320",
                "0001001b40010c02ffff0408000003009d0800000300001e00009598acc04821",
                "0001002b4201020408000003009d0800000300001e0000b0208104d965662b349265780b4040000003004000000642",
                "22000100074401c172b42240"
            ),
        ),
    ] {
        let config = VideoConfig::from_description(codec, hex(text));
        let units = parameter_sets(&config);
        let mut sets = ParameterSets::new(codec);
        for unit in &units {
            assert_eq!(sets.config(), None, "not before all are there");
            assert_eq!(sets.insert(unit), Some(true));
        }
        assert_eq!(sets.config(), Some(config.clone()), "{text}");
        assert_eq!(sets.insert(units[0]), Some(false), "known");
    }
}

#[test]
fn of_parameter_sets_the_newest_are_kept() {
    let (sps, pps) = (hex("6742c01fda014016feb011"), hex("68ce0fc8"));
    let mut sets = ParameterSets::new(Codec::Avc);
    // An encoder that takes another id for each.
    for count in 0..100u8 {
        sets.insert(&sps);
        let id = if count % 2 == 0 { vec![0x68, 0x40 | (count / 2)] } else { pps.to_vec() };
        sets.insert(&id);
    }
    let config = sets.config().expect("SPS and PPS");
    assert!(parameter_sets(&config).len() <= limits::PARAMETER_SETS_MAX);
    sets.insert(parameter_sets(&config)[1]);
    assert_eq!(sets.config(), Some(config), "in whatever order they come");
    assert_eq!(sets.insert(&[0x65, 1]), None, "no parameter set");
    assert_eq!(sets.insert(&[0x67; limits::PARAMETER_SET_BYTES_MAX + 1]), None, "too long");
}

/// The records beside the keyframes are what ffmpeg 9 wrote for libvpx, libaom and SVT-AV1.
#[test]
fn keyframes_and_sequence_headers_make_records() {
    for (frame, text, size) in [
        ("a24983420004fe02cec3870483833802", "010000000115860202020000", (640, 360)),
        ("924983420001f801fb021c120e0c2900", "01000000020aa20202020000", (64, 64)),
        ("b124c1a102001f801fb021c120e0c290", "01000000030aa40202020000", (64, 64)),
        ("a2498342e003f003f60638241c184200", "01000000010a870202000000", (64, 64)),
        ("924983428001f801fb011c120e0c2900", "01000000020ac20202020000", (64, 64)),
    ] {
        let config = record::vp9(&hex(frame)).expect("a keyframe");
        assert_eq!((config.description, config.width, config.height), (hex(text), size.0, size.1));
    }
    assert_eq!(record::vp9(&hex("8649834200")), None, "an inter frame");
    for text in [
        "812000000a0a20000002afff9b5f2040",
        "81004c000a0a00000002afff9b5f2808",
        "814048000a0a40000002afff9b5f2810",
        "81001c000a0a00000002afff9b5f2540",
        "812000000a0d20000002afff9b5f2404340080",
        "81000c000a0b02000005157ffc6af98040",
        "81000c000a0618157ffda008",
        "81406c000a0a40000002afff9b5f2c61",
        "81054c000a0b0000002d4cffb3402f8404",
    ] {
        let written = VideoConfig::from_description(Codec::Av1, hex(text));
        assert_eq!(record::av1(&written.description[6..]), Some(written.clone()), "{text}");
    }
    let vp8 = record::vp8(&hex("d0a1009d012a8042b801")).expect("a keyframe");
    assert_eq!((vp8.width, vp8.height), (640, 440), "without the scaling bits");
    assert_eq!(record::vp8(&hex("d1a1009d012a8042b801")), None, "an inter frame");
}

proptest! {
    #[test]
    fn no_bytes_panic(
        codec in prop::sample::select(vec![Codec::Avc, Codec::Hevc, Codec::Av1, Codec::Vp8, Codec::Vp9, Codec::Aac, Codec::Opus]),
        seed in prop::sample::select(vec![
            "",
            "0142c01fffe100196742c01fda014016feb0110000030001000003003c0f1832a001000468ce0fc8",
            HVCC,
            "81054c000a0b0000002d4cffb3402f8404",
        ]),
        noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        tail in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut record = hex(seed).to_vec();
        record.extend(tail);
        for (index, byte) in noise {
            if !record.is_empty() {
                let at = index.index(record.len());
                record[at] = byte;
            }
        }
        let record = Bytes::from(record);
        let _ = VideoConfig::from_description(codec, record.clone()).codec_string();
        let config = VideoConfig::from_description(codec, record.clone());
        let mut sets = ParameterSets::new(codec);
        for unit in parameter_sets(&config) {
            sets.insert(unit);
        }
        let _ = (sets.config(), record::av1(&record), record::vp9(&record), record::vp8(&record));
        let _ = AudioConfig::from_description(codec, record).codec_string();
    }
}
