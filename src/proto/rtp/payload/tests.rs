//! Streams of x264, x265, libvpx, libaom and libopus, and their packets as ffmpeg's RTP muxer wrote them.
//!
//! `tests/data/rtp`: eight pictures of `testsrc2` at 128x80, keyframes every four, encoded by ffmpeg 9 (x264 with two
//! slices, x264 and x265 with two B-frames), then `-c copy -f rtp rtp://…?pkt_size=300`. In `.rtp` each packet has a
//! length of two bytes before it.

use proptest::prelude::*;

use super::*;
use crate::media::{Codec, VideoConfig, codec::record};

const VIDEO: [Codec; 5] = [Codec::Avc, Codec::Hevc, Codec::Av1, Codec::Vp8, Codec::Vp9];

struct Packet {
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// What ffmpeg sent.
fn packets(codec: Codec) -> Vec<Packet> {
    let mut rest: &[u8] = match codec {
        Codec::Avc => include_bytes!("../../../../tests/data/rtp/h264.rtp"),
        Codec::Hevc => include_bytes!("../../../../tests/data/rtp/h265.rtp"),
        Codec::Av1 => include_bytes!("../../../../tests/data/rtp/av1.rtp"),
        Codec::Vp8 => include_bytes!("../../../../tests/data/rtp/vp8.rtp"),
        Codec::Vp9 => include_bytes!("../../../../tests/data/rtp/vp9.rtp"),
        _ => include_bytes!("../../../../tests/data/rtp/opus.rtp"),
    };
    let mut packets = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (packet, after) = after.split_at(u16::from_be_bytes(*length).into());
        rest = after;
        // No CSRCs, no extensions (RFC 3550 §5.1).
        assert_eq!(packet[0], 0x80);
        let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        packets.push(Packet { timestamp, marker: packet[1] & 0x80 != 0, payload: packet[12..].to_vec() });
    }
    packets
}

/// What the encoder wrote, in the hub's form.
fn frames(codec: Codec) -> Vec<Vec<u8>> {
    match codec {
        Codec::Avc => {
            access_units(include_bytes!("../../../../tests/data/rtp/h264.h264"), |unit| match unit[0] & 0x1f {
                1 | 5 => Some(unit[1] & 0x80 != 0),
                _ => None,
            })
        }
        Codec::Hevc => {
            access_units(include_bytes!("../../../../tests/data/rtp/h265.h265"), |unit| match unit[0] >> 1 {
                0..=31 => Some(unit[2] & 0x80 != 0),
                _ => None,
            })
        }
        Codec::Av1 => ivf(include_bytes!("../../../../tests/data/rtp/av1.ivf"))
            .into_iter()
            .map(|unit| unit.strip_prefix(&[0x12, 0]).unwrap().to_vec())
            .collect(),
        Codec::Vp8 => ivf(include_bytes!("../../../../tests/data/rtp/vp8.ivf")),
        _ => ivf(include_bytes!("../../../../tests/data/rtp/vp9.ivf")),
    }
}

fn ivf(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &file[32..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        frames.push(rest[12..12 + length].to_vec());
        rest = &rest[12 + length..];
    }
    frames
}

/// Pictures and SEI of a stream with start codes. `picture` says of a slice whether it is a picture's first.
fn access_units(stream: &[u8], picture: impl Fn(&[u8]) -> Option<bool>) -> Vec<Vec<u8>> {
    let text: Vec<u8> = stream.to_vec();
    let starts: Vec<_> = (0..text.len() - 2).filter(|at| text[*at..*at + 3] == [0, 0, 1]).map(|at| at + 3).collect();
    let ends = starts.iter().skip(1).map(|next| next - 3).chain([text.len()]);
    let mut units = Vec::new();
    let mut sei = Vec::new();
    for (start, end) in starts.iter().zip(ends) {
        let mut unit = &text[*start..end];
        while let Some(shorter) = unit.strip_suffix(&[0]) {
            unit = shorter;
        }
        let sized = [&(unit.len() as u32).to_be_bytes(), unit].concat();
        match picture(unit) {
            Some(true) => units.push([std::mem::take(&mut sei), sized].concat()),
            Some(false) => units.last_mut().unwrap().extend(sized),
            None if matches!(unit[0], 6 | 0x4e) => sei.extend(sized),
            None => {}
        }
    }
    units
}

/// The configuration record that ffmpeg's MP4 muxer wrote for the stream.
fn record_of(codec: Codec) -> Vec<u8> {
    let text = match codec {
        Codec::Avc => AVCC,
        Codec::Hevc => HVCC,
        Codec::Av1 => AV1C,
        Codec::Vp9 => VPCC,
        _ => "",
    };
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn config(codec: Codec) -> VideoConfig {
    VideoConfig { width: 128, height: 80, ..VideoConfig::from_description(codec, record_of(codec).into()) }
}

fn drain(depacketiser: &mut Depacketiser) -> Vec<Unit> {
    std::iter::from_fn(|| depacketiser.poll_unit()).collect()
}

fn depacketise(codec: Codec, packets: &[Packet]) -> Vec<Unit> {
    let mut depacketiser = Depacketiser::new(codec);
    for packet in packets {
        depacketiser.handle_packet(packet.timestamp, packet.marker, &packet.payload).unwrap();
    }
    drain(&mut depacketiser)
}

#[test]
fn packets_of_ffmpeg_become_the_frames_of_the_encoder() {
    for codec in VIDEO {
        let units = depacketise(codec, &packets(codec));
        let frames = frames(codec);
        assert_eq!(units.len(), 8, "{codec:?}");
        for (place, (unit, frame)) in units.iter().zip(&frames).enumerate() {
            assert_eq!(unit.data, frame, "{codec:?} {place}");
            assert_eq!(unit.keyframe, place % 4 == 0, "{codec:?} {place}");
            assert_eq!(unit.config.is_some(), place == 0, "{codec:?} {place}");
        }
        assert_eq!(units[0].config, Some(config(codec)), "{codec:?}");
    }
}

#[test]
fn a_packet_of_sound_is_a_frame() {
    let packets = packets(Codec::Opus);
    let ogg = include_bytes!("../../../../tests/data/rtp/opus.ogg");
    let units = depacketise(Codec::Opus, &packets);
    assert!(packets.len() >= 10);
    assert_eq!(units.len(), packets.len());
    for unit in units {
        assert!(unit.keyframe && ogg.windows(unit.data.len()).any(|window| window == unit.data));
        assert_eq!(Packetiser::audio(unit.data.clone()).iter().collect::<Vec<_>>(), [unit.data]);
    }
}

#[test]
fn what_is_packetised_is_depacketised() {
    for (codec, room) in VIDEO.into_iter().flat_map(|codec| [64, 100, 333, 1200].map(|room| (codec, room))) {
        let mut packetiser = Packetiser::new(codec, room);
        let mut depacketiser = Depacketiser::new(codec);
        for (place, frame) in frames(codec).iter().enumerate() {
            let packets = packetiser.packetise(&config(codec), place % 4 == 0, frame);
            assert!(packets.iter().all(|payload| payload.len() <= room), "{codec:?} {room}");
            assert_eq!(packets.iter().map(<[u8]>::len).sum::<usize>(), packets.bytes().len());
            for (index, payload) in packets.iter().enumerate() {
                let marker = index + 1 == packets.len();
                depacketiser.handle_packet(place as u32, marker, payload).unwrap();
            }
            let unit = depacketiser.poll_unit().unwrap();
            let expected = Unit {
                timestamp: place as u32,
                keyframe: place % 4 == 0,
                config: (place == 0).then(|| config(codec)),
                data: frame.clone().into(),
            };
            assert_eq!(unit, expected, "{codec:?} {room} {place}");
        }
    }
}

const AVCC: &str = "0164000affe100186764000aacd9420bb011000003000100000300320f12259601000668ebe0c4b22cfdf8f800";
const HVCC: &str = concat!(
    "0101600000009000000000001ef000fcfdf8f800000f03200001001840010c01ffff01600000030090000003000003001e95",
    "9009210001002942010101600000030090000003000003001ea01020516595924932bc05a020000003002000000303212200",
    "0100074401c172b42240"
);
const AV1C: &str = "81000c000a0a0000000337f9e6d7c802";
const VPCC: &str = "01000000000a820202020000";
