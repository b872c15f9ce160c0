//! Records written by x264, x265, SVT-AV1, libvpx and ffmpeg's AAC encoder; sizes and rates as asked of them.

use proptest::prelude::*;

use super::*;

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
        let _ = AudioConfig::from_description(codec, record).codec_string();
    }
}
