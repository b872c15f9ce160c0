//! Streams of x264, x265, libvpx, libaom and libopus, and their packets as ffmpeg's RTP muxer wrote them.
//!
//! `tests/data/rtp`: eight pictures of `testsrc2` at 128x80, keyframes every four, encoded by ffmpeg 9 (x264 with two
//! slices; x264 and x265 with two B-frames, and by way of MP4), then `-c copy -f rtp rtp://…?pkt_size=300`. In `.rtp`
//! each packet has a length of two bytes before it.

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{
    limits,
    media::{Codec, VideoConfig, codec::parameter_sets::parameter_sets},
};

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

#[test]
fn packets_of_a_frame_are_of_equal_size() {
    for codec in VIDEO {
        // One picture in one piece, longer than any fixture's: what is behind its head is not looked at.
        let mut frame = frames(codec)[4].clone();
        let mut parameter_sets = 0;
        match codec {
            Codec::Avc | Codec::Hevc => {
                let header: &[u8] = if codec == Codec::Avc { &[0x65, 0x80] } else { &[19 << 1, 1, 0x80] };
                let unit = [header, &[7; 10_000]].concat();
                frame = [&(unit.len() as u32).to_be_bytes(), unit.as_slice()].concat();
                parameter_sets = 1;
            }
            // A frame OBU of its own, without a sequence header: that comes out of the configuration.
            Codec::Av1 => frame = [&[6 << 3, 0x10][..], &[7; 10_000]].concat(),
            Codec::Vp8 | Codec::Vp9 => frame.extend([7; 10_000]),
            _ => unreachable!(),
        }
        let packets = Packetiser::new(codec, 1200).packetise(&config(codec), true, &frame);
        let sizes: Vec<_> = packets.iter().map(<[u8]>::len).skip(parameter_sets).collect();
        assert_eq!(sizes.len(), frame.len().div_ceil(1190), "{codec:?}");
        let (last, others) = sizes.split_last().unwrap();
        assert!(others.iter().all(|size| size == &sizes[0] && size >= last && *size <= 1200), "{codec:?} {sizes:?}");
        assert!(sizes[0] - last < sizes.len() + 2, "{codec:?} {sizes:?}");
    }
}

#[test]
fn what_a_decoder_must_know_goes_before_keyframes() {
    let first = |codec, keyframe| {
        let packets = Packetiser::new(codec, 1200).packetise(&config(codec), keyframe, &frames(codec)[4]);
        packets.iter().next().unwrap().to_vec()
    };
    let sets = parameter_sets(&config(Codec::Avc)).concat().len();
    // STAP-A as important as its units, the SPS first (RFC 6184 §5.7.1).
    let [header, 0, sps_bytes, sps, ..] = first(Codec::Avc, true)[..] else { panic!() };
    assert_eq!((header, sps), (0x60 | 24, 0x67));
    assert!(usize::from(sps_bytes) < sets);
    assert!(matches!(first(Codec::Avc, false)[..], [0x65 | 0x78, ..]));
    // AP, the VPS first (RFC 7798 §4.4.2).
    assert!(matches!(first(Codec::Hevc, true)[..], [0x60, 1, 0, _, 0x40, 1, ..]));
    // Two elements and N; the sequence header has no size (AV1 §4.4, §4.5 of its payload format).
    assert!(matches!(first(Codec::Av1, true)[..], [header, 11, 0x08, ..] if header & 0xb8 == 0x28));
    let whole = &frames(Codec::Av1)[4];
    let packetise = |frame: &[u8]| Packetiser::new(Codec::Av1, 1200).packetise(&config(Codec::Av1), true, frame);
    assert_eq!(packetise(&whole[12..]), packetise(whole), "out of the configuration if it is not in the frame");
    // I, B, V; one layer of 128x80 (RFC 9628 §4.2).
    assert!(matches!(first(Codec::Vp9, true)[..], [header, 0x80, 0, 0x10, 0, 128, 0, 80, ..] if header & 0xfa == 0x8a));
}

#[test]
fn parameter_sets_that_a_frame_repeats_are_sent_once() {
    let sets = parameter_sets(&config(Codec::Avc)).iter().flat_map(|unit| sized(unit)).collect::<Vec<_>>();
    let picture = sized(&[0x65, 0x80, 1, 2, 3]);
    let delimiter = sized(&[9, 0xf0]);
    let whole = [delimiter, sets, picture.clone()].concat();
    let mut packetiser = Packetiser::new(Codec::Avc, 1200);
    let expected = packetiser.packetise(&config(Codec::Avc), true, &picture);
    assert_eq!(packetiser.packetise(&config(Codec::Avc), true, &whole), expected);
    assert_eq!(expected.len(), 1);
}

fn sized(unit: &[u8]) -> Vec<u8> {
    [&(unit.len() as u32).to_be_bytes(), unit].concat()
}

#[test]
fn a_lost_packet_costs_nothing_but_frames_up_to_the_next_keyframe() {
    for codec in VIDEO {
        let packets = packets(codec);
        let truth = depacketise(codec, &packets);
        let index_of = |timestamp| truth.iter().position(|unit| unit.timestamp == timestamp).unwrap();
        for lost in 0..packets.len() {
            let mut depacketiser = Depacketiser::new(codec);
            for (place, packet) in packets.iter().enumerate() {
                if place == lost {
                    depacketiser.handle_loss();
                    assert!(depacketiser.wants_keyframe());
                    continue;
                }
                let _an_end_may_be_missing =
                    depacketiser.handle_packet(packet.timestamp, packet.marker, &packet.payload);
            }
            let hurt = index_of(packets[lost].timestamp);
            let next_key = if hurt < 4 { 4 } else { 8 };
            // All of the frame may be there but parameter sets or a message that came before.
            let given: Vec<_> = drain(&mut depacketiser)
                .into_iter()
                .map(|unit| (index_of(unit.timestamp), unit.data))
                .filter(|(index, _)| *index != hurt || hurt % 4 != 0)
                .collect();
            let whole: Vec<_> = (0..hurt).chain(next_key..8).map(|index| (index, truth[index].data.clone())).collect();
            if hurt % 4 != 0 {
                assert_eq!(given, whole, "{codec:?} without {lost}");
                assert_eq!(depacketiser.wants_keyframe(), next_key == 8, "{codec:?} without {lost}");
            } else {
                assert!(given.iter().all(|frame| truth[frame.0].data == frame.1), "{codec:?} without {lost}");
                assert!(whole.iter().all(|frame| given.contains(frame)), "{codec:?} without {lost}");
            }
        }
    }
}

#[test]
fn a_keyframe_whose_beginning_is_lost_is_none() {
    let cases: [(Codec, &[u8]); 6] = [
        // The second slice, alone, in an aggregate and in a fragment.
        (Codec::Avc, &[0x65, 0x40, 1]),
        (Codec::Avc, &[0x78, 0, 3, 0x65, 0x40, 1]),
        (Codec::Avc, &[0x7c, 0xc5, 0x40, 1]),
        (Codec::Hevc, &[0x26, 1, 0x40, 1]),
        (Codec::Av1, &[0x10, 0x20, 1]),
        (Codec::Vp9, &[0x04, 0x82, 0x49, 0x83, 0x42, 0, 0, 0, 0, 0, 0]),
    ];
    for (codec, rest) in cases {
        let mut depacketiser = Depacketiser::new(codec);
        let whole = Packetiser::new(codec, 1200).packetise(&config(codec), true, &frames(codec)[0]);
        whole.iter().for_each(|payload| depacketiser.handle_packet(0, false, payload).unwrap());
        depacketiser.handle_loss();
        depacketiser.handle_packet(2, true, rest).unwrap();
        assert_eq!(depacketiser.poll_unit(), None, "{codec:?} {rest:?}");
    }
}

#[test]
fn behind_a_malformed_frame_there_is_nothing_before_a_keyframe() {
    let mut depacketiser = Depacketiser::new(Codec::Avc).with_parameter_sets(parameter_sets(&config(Codec::Avc)));
    let (key, inter, bad) = ([0x65, 0x80], [0x41, 0x80], [0x7c, 0x05, 1]);
    for (timestamp, (payload, is_given)) in
        [(&key[..], true), (&inter, true), (&bad, false), (&inter, false), (&key, true), (&inter, true)]
            .into_iter()
            .enumerate()
    {
        let taken = depacketiser.handle_packet(timestamp as u32, true, payload);
        assert_eq!(taken.is_err(), payload == bad, "{timestamp}");
        assert_eq!(depacketiser.poll_unit().is_some(), is_given, "{timestamp}");
    }
}

#[test]
fn without_markers_the_next_timestamp_ends_a_frame() {
    for codec in VIDEO {
        let mut packets = packets(codec);
        let truth = depacketise(codec, &packets);
        packets.iter_mut().for_each(|packet| packet.marker = false);
        assert_eq!(depacketise(codec, &packets), truth[..7], "{codec:?}");
    }
}

#[test]
fn parameter_sets_may_come_with_sdp() {
    for codec in [Codec::Avc, Codec::Hevc] {
        let config = config(codec);
        let picture: &[u8] = if codec == Codec::Avc { &[0x65, 0x80, 1] } else { &[19 << 1, 1, 0x80, 1] };
        let mut without = Depacketiser::new(codec);
        without.handle_packet(1, true, picture).unwrap();
        assert_eq!(without.poll_unit(), None);
        assert!(without.wants_keyframe());
        let mut with = Depacketiser::new(codec).with_parameter_sets(parameter_sets(&config));
        with.handle_packet(1, true, picture).unwrap();
        let data = sized(picture).into();
        assert_eq!(with.poll_unit(), Some(Unit { timestamp: 1, keyframe: true, config: Some(config), data }));
    }
}

#[test]
fn another_configuration_is_told_with_its_keyframe() {
    let (one, other) = ([0x67, 0x42, 0xc0, 0x1f, 0xda, 1], [0x67, 0x42, 0xc0, 0x20, 0xda, 1]);
    let mut depacketiser = Depacketiser::new(Codec::Avc);
    for (timestamp, (sps, is_new)) in [(one, true), (one, false), (other, true), (one, true)].into_iter().enumerate() {
        let timestamp = timestamp as u32;
        depacketiser.handle_packet(timestamp, false, &sps).unwrap();
        depacketiser.handle_packet(timestamp, false, &[0x68, 0xce, 0x0f, 0xc8]).unwrap();
        depacketiser.handle_packet(timestamp, true, &[0x65, 0x80]).unwrap();
        let unit = depacketiser.poll_unit().unwrap();
        assert_eq!(unit.config.is_some(), is_new);
        assert!(unit.config.is_none_or(|config| config.description[3] == sps[3]));
    }
}

#[test]
fn what_is_out_of_place_is_malformed() {
    let cases: [(Codec, &[&[u8]]); 17] = [
        // FU-A: without a start, twice begun, another unit between, cut off; STAP-A cut off; MTAP; a bare header.
        (Codec::Avc, &[&[0x65, 0x80], &[0x7c, 0x05, 1]]),
        (Codec::Avc, &[&[0x7c, 0x85, 0x80], &[0x7c, 0x85, 0x80]]),
        (Codec::Avc, &[&[0x7c, 0x85, 0x80], &[0x65, 0x80]]),
        (Codec::Avc, &[&[0x65, 0x80], &[0x7c]]),
        (Codec::Avc, &[&[0x65, 0x80], &[0x78, 0, 5, 0x65]]),
        (Codec::Avc, &[&[0x65, 0x80], &[0x7a, 0, 5, 0x65]]),
        (Codec::Avc, &[&[0x65, 0x80], &[0x65]]),
        // The same of H.265, and PACI.
        (Codec::Hevc, &[&[0x26, 1, 0x80], &[0x62, 1, 0x13, 1]]),
        (Codec::Hevc, &[&[0x26, 1, 0x80], &[0x62, 1]]),
        (Codec::Hevc, &[&[0x26, 1, 0x80], &[0x60, 1, 0, 9, 1]]),
        (Codec::Hevc, &[&[0x26, 1, 0x80], &[0x64, 1, 0, 9, 1]]),
        // AV1: goes on with nothing; begins anew in the middle; an element longer than its packet.
        (Codec::Av1, &[&[0x18, 0x08, 0], &[0x90, 0x30]]),
        (Codec::Av1, &[&[0x58, 0x08, 0], &[0x10, 0x30]]),
        (Codec::Av1, &[&[0x18, 0x08, 0], &[0x20, 9, 0x30]]),
        (Codec::Vp8, &[&[0x10, 0, 0, 0], &[0x10, 0]]),
        (Codec::Vp8, &[&[0x10, 0, 0, 0], &[0x80, 0x80, 0x80]]),
        (Codec::Vp9, &[&[0x08, 0x82, 0x49, 0x83, 0x42, 0, 0, 0, 0, 0, 0], &[0x08, 0]]),
    ];
    for (codec, [good, bad]) in cases.map(|(codec, payloads)| (codec, [payloads[0], payloads[1]])) {
        let mut depacketiser = Depacketiser::new(codec);
        assert_eq!(depacketiser.handle_packet(1, false, good), Ok(()), "{codec:?} {good:?}");
        assert!(depacketiser.handle_packet(1, false, bad).is_err(), "{codec:?} {bad:?}");
        assert_eq!(depacketiser.handle_packet(1, true, good), Ok(()), "the rest of the frame is passed over");
        assert_eq!(depacketiser.poll_unit(), None);
        assert!(depacketiser.wants_keyframe());
    }
}

#[test]
fn a_frame_has_a_bound() {
    let first: &[u8] = &[0x7c, 0x85, 0x80];
    let next = [&[0x7c, 0x05][..], &[1; 60_000]].concat();
    let mut depacketiser = Depacketiser::new(Codec::Avc);
    depacketiser.handle_packet(1, false, first).unwrap();
    let taken = (0..1000).take_while(|_| depacketiser.handle_packet(1, false, &next).is_ok()).count();
    assert_eq!(taken, limits::RTMP_MESSAGE_BYTES_MAX / 60_000);

    let mut depacketiser = Depacketiser::new(Codec::Avc);
    let taken = (0..1000).take_while(|_| depacketiser.handle_packet(1, false, &[0x65, 0x80]).is_ok()).count();
    assert_eq!(taken, limits::RTP_FRAME_UNITS_MAX);
}

/// Of two B-frames the first is a reference of the second. It is what ffmpeg's MP4 says of the H.265 stream (`sdtp`).
#[test]
fn pictures_that_no_other_needs_are_told() {
    for codec in [Codec::Avc, Codec::Hevc] {
        let told: Vec<_> = frames(codec).iter().map(|frame| is_reference(&config(codec), frame)).collect();
        assert_eq!(told, [true, true, true, false].repeat(2), "{codec:?}");
    }
    assert!(is_reference(&config(Codec::Vp8), &frames(Codec::Vp8)[1]));
    assert!(is_reference(&config(Codec::Avc), &[]), "what can't be told");
}

/// Two spatial layers, in flexible mode with a structure and references.
#[test]
fn spatial_layers_of_vp9_become_one_superframe() {
    let key = frames(Codec::Vp9)[0].clone();
    // I L F B E V, picture 5, layer 0; two layers with their sizes. Then layer 1, predicted from a picture before.
    let base = [&[0xbe, 5, 0x01, 0x30, 0, 64, 0, 40, 0, 128, 0, 80][..], &key].concat();
    let upper = [0xfc, 5, 0x03, 0x03, 0x02, 0x86, 1, 2, 3];
    let mut depacketiser = Depacketiser::new(Codec::Vp9);
    depacketiser.handle_packet(1, false, &base).unwrap();
    depacketiser.handle_packet(1, true, &upper).unwrap();
    let unit = depacketiser.poll_unit().unwrap();
    assert!(unit.keyframe);
    let index = [&[0xd9][..], &(key.len() as u32).to_le_bytes(), &[4, 0, 0, 0, 0xd9]].concat();
    assert_eq!(unit.data, [&key[..], &upper[5..], &index].concat());
}

proptest! {
    #[test]
    fn nothing_that_comes_panics(
        codec in prop::sample::select(VIDEO.to_vec()),
        steps in proptest::collection::vec((any::<Index>(), any::<Index>(), any::<u8>(), 0u8..12, 0u32..3), 1..80),
        noise in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let packets = packets(codec);
        let mut depacketiser = Depacketiser::new(codec);
        for (packet, place, byte, action, timestamp) in steps {
            let packet = packet.get(&packets);
            let mut payload = packet.payload.clone();
            match action {
                0 => depacketiser.handle_loss(),
                1 => payload = noise.clone(),
                2 => payload.extend(&noise),
                // The head of a payload is what is read.
                3 | 4 => payload[place.index(packet.payload.len().min(12))] = byte,
                5 => payload.truncate(place.index(payload.len())),
                _ => {}
            }
            let _malformed = depacketiser.handle_packet(timestamp, packet.marker, &payload);
            while let Some(unit) = depacketiser.poll_unit() {
                prop_assert!(!unit.data.is_empty() && unit.data.len() <= limits::RTMP_MESSAGE_BYTES_MAX);
            }
        }
    }

    #[test]
    fn nothing_that_goes_panics(
        codec in prop::sample::select(VIDEO.to_vec()),
        room in 0usize..200,
        frame in any::<Index>(),
        damages in proptest::collection::vec((any::<Index>(), any::<Index>(), any::<u8>()), 0..8),
        length in any::<Index>(),
    ) {
        let mut frame = frame.get(&frames(codec)).clone();
        let mut record = record_of(codec);
        for (of_frame, of_record, byte) in damages {
            let place = of_frame.index(frame.len().min(40));
            frame[place] = byte;
            if !record.is_empty() {
                let place = of_record.index(record.len());
                record[place] = byte;
            }
        }
        frame.truncate(length.index(frame.len() + 1));
        let config = VideoConfig::from_description(codec, record.into());
        let packets = Packetiser::new(codec, room).packetise(&config, true, &frame);
        prop_assert!(packets.iter().all(|payload| payload.len() <= room.max(64)));
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
