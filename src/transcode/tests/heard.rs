//! What foreign decoders hear of a tone, and where they hear its beeps.

use std::{
    f64::consts::TAU,
    io::Write,
    process::{Command, Stdio},
    thread,
};

use bytes::Bytes;

use super::super::{
    codec,
    convert::{Coded, Converter},
};
use crate::media::{AudioConfig, Codec};

/// A tone of 440 Hz at half of full scale, and from 0.5 s of each second on a beep of 3 kHz, 10 ms long.
const TONE: &str = "0.5*sin(2*PI*440*t)+0.4*sin(2*PI*3000*t)*between(mod(t,1),0.5,0.51)";
const SECONDS: usize = 6;

/// What ffmpeg makes of `input` by these arguments.
fn ffmpeg(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-xerror"]).args(args).arg("pipe:1");
    let input = input.to_vec();
    let mut ffmpeg = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ffmpeg is installed");
    let mut stdin = ffmpeg.stdin.take().expect("piped");
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = ffmpeg.wait_with_output().expect("runs");
    writer.join().expect("written");
    assert!(output.status.success());
    output.stdout
}

/// The tone, coded by ffmpeg.
fn coded_tone(rate: u32, channels: u8, args: &[&str]) -> Vec<u8> {
    let source = format!("aevalsrc='{}':s={rate}:d={SECONDS}", vec![TONE; channels.into()].join("|"));
    ffmpeg(&[&["-f", "lavfi", "-i", &source], args].concat(), &[])
}

/// AAC frames out of ADTS (ISO/IEC 13818-7 §6.2), and the configuration that its headers tell.
fn adts_frames(mut adts: &[u8]) -> (AudioConfig, Vec<Bytes>) {
    let header = u64::from_be_bytes(adts[..8].try_into().expect("a header")) >> 8;
    let (rate_index, channels) = (header >> 34 & 15, header >> 30 & 7);
    let description = u16::try_from(2 << 11 | rate_index << 7 | channels << 3).expect("two bytes");
    let mut frames = Vec::new();
    while let Some(header) = adts.first_chunk::<7>() {
        let length = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        frames.push(Bytes::copy_from_slice(&adts[7..length]));
        adts = &adts[length..];
    }
    (AudioConfig::from_description(Codec::Aac, Bytes::copy_from_slice(&description.to_be_bytes())), frames)
}

/// The same back.
fn adts(config: &AudioConfig, frames: &[Coded]) -> Vec<u8> {
    let description = u16::from_be_bytes(config.description[..2].try_into().expect("two bytes"));
    let (rate_index, channels) = (u64::from(description >> 7 & 15), u64::from(description >> 3 & 15));
    let adts = frames.iter().flat_map(|frame| {
        let length = frame.data.len() as u64 + 7;
        let header = 0xfff1 << 40 | 1 << 38 | rate_index << 34 | channels << 30 | length << 13 | 0x7ff << 2;
        let header: [u8; 8] = u64::to_be_bytes(header);
        [&header[1..], &frame.data].concat()
    });
    adts.collect()
}

/// Ogg pages (RFC 3533 §6) of one packet each.
fn ogg(config: &AudioConfig, frames: &[Coded]) -> Vec<u8> {
    let tags = b"OpusTags\0\0\0\0\0\0\0\0".as_slice();
    let packets = [config.description.as_ref(), tags].into_iter().chain(frames.iter().map(|frame| &frame.data[..]));
    let mut ogg = Vec::new();
    for (nth, packet) in (0u32..).zip(packets) {
        let granule = 960 * u64::from(nth.saturating_sub(1));
        let mut page = [b"OggS\0".as_slice(), &[u8::from(nth == 0) << 1], &granule.to_le_bytes(), &[1; 4]].concat();
        page.extend(nth.to_le_bytes());
        page.extend([0; 4]);
        page.push(u8::try_from(packet.len() / 255 + 1).expect("a short packet"));
        page.extend(vec![255; packet.len() / 255]);
        page.push(u8::try_from(packet.len() % 255).expect("a remainder"));
        page.extend(packet);
        let crc = page.iter().fold(0u32, |crc, byte| {
            (0..8).fold(crc ^ (u32::from(*byte) << 24), |crc, _| (crc << 1) ^ ((crc >> 31) * 0x04c1_1db7))
        });
        page[22..26].copy_from_slice(&crc.to_le_bytes());
        ogg.extend(page);
    }
    ogg
}

/// The packets of an Ogg file, its two headers first.
fn ogg_packets(mut ogg: &[u8]) -> Vec<Bytes> {
    let (mut packets, mut packet) = (Vec::new(), Vec::new());
    while !ogg.is_empty() {
        let (segments, mut body) = ogg[27..].split_at(ogg[26].into());
        for length in segments {
            let (part, rest) = body.split_at(usize::from(*length));
            packet.extend_from_slice(part);
            body = rest;
            if *length < 255 {
                packets.push(std::mem::take(&mut packet).into());
            }
        }
        ogg = body;
    }
    packets
}

/// How loud `hz` is in these samples at 48 kHz.
fn level(samples: &[f32], hz: f64) -> f64 {
    let turn = |n: usize| (TAU * hz * n as f64 / 48_000.0).sin_cos();
    let parts =
        samples.iter().enumerate().map(|(n, sample)| (f64::from(*sample) * turn(n).0, f64::from(*sample) * turn(n).1));
    let (sin, cos) = parts.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    2.0 * f64::hypot(sin, cos) / samples.len() as f64
}

/// Whether a foreign decoder hears the tone in `file`, whose first sample is at `begin_us`.
fn assert_tone(file: &[u8], begin_us: i64) {
    let pcm = ffmpeg(&["-i", "pipe:0", "-f", "f32le", "-af", "pan=mono|c0=c0", "-ar", "48000"], file);
    let samples: Vec<f32> = pcm.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    for second in 1..SECONDS - 1 {
        let at =
            |ms: i64| usize::try_from((second as i64 * 1_000_000 + ms * 1000 - begin_us) * 48 / 1000).expect("after");
        let tone = &samples[at(100)..at(300)];
        let db = 20.0 * (level(tone, 440.0) / 0.5).log10();
        assert!(db.abs() < 2.0, "{db} dB");
        assert!(level(tone, 460.0) < 0.01 && level(tone, 3000.0) < 0.01);
        let beeps = |ms: &i64| level(&samples[at(*ms)..at(ms + 2)], 3000.0) > 0.2;
        let beep: Vec<_> = (300..700).filter(beeps).collect();
        assert!(beep.first().is_some_and(|ms| (496..504).contains(ms)), "{beep:?}");
        assert!(beep.last().is_some_and(|ms| (504..514).contains(ms)), "{beep:?}");
    }
}

fn converted(config: &AudioConfig, to: Codec, frames: impl Iterator<Item = (i64, Bytes)>) -> (AudioConfig, Vec<Coded>) {
    let mut converter = Converter::new(config, to).expect("can be converted");
    let mut out = Vec::new();
    for (pts_us, data) in frames {
        converter.handle_frame(pts_us, &data, &mut out).expect("a good frame");
    }
    (converter.config(), out)
}

#[test]
fn ffmpegs_aac_sounds_the_same_in_opus() {
    for (rate, channels) in [(44_100, 2), (48_000, 1), (22_050, 1)] {
        let (config, frames) = adts_frames(&coded_tone(rate, channels, &["-c:a", "aac", "-b:a", "128k", "-f", "adts"]));
        assert_eq!((config.sample_rate, config.channels), (rate, channels));
        // Its encoder begins with a frame of silence; FLV has whole milliseconds.
        let stamp_us = |nth: i64| (nth - 1) * 1024 * 1000 / i64::from(rate) * 1000;
        let frames = frames.into_iter().zip(0..).map(|(data, nth)| (stamp_us(nth), data));
        let (config, packets) = converted(&config, Codec::Opus, frames);
        // The reader of Ogg leaves the pre-skip out.
        assert_tone(&ogg(&config, &packets), packets[0].pts_us + 6500);
    }
}

#[test]
fn ffmpegs_opus_sounds_the_same_in_aac() {
    for (channels, duration_ms, bitrate) in [(2, 20, "96k"), (1, 60, "24k"), (1, 10, "48k")] {
        let duration = duration_ms.to_string();
        let args = ["-c:a", "libopus", "-b:a", bitrate, "-frame_duration", &duration, "-f", "ogg"];
        let ogg = ogg_packets(&coded_tone(48_000, channels, &args));
        let config = AudioConfig::from_description(Codec::Opus, ogg[0].clone());
        assert_eq!(config.channels, channels);
        // Its encoder begins with 6.5 ms of silence.
        let frames = ogg.into_iter().skip(2).zip(0..).map(|(data, nth)| (nth * duration_ms * 1000 - 6500, data));
        let (config, frames) = converted(&config, Codec::Aac, frames);
        assert_eq!((&config.description[..1], config.sample_rate), (&[0x11][..], 48_000), "AAC-LC at 48 kHz");
        assert_tone(&adts(&config, &frames), frames[0].pts_us);
    }
}

#[test]
fn he_aac_is_decoded_at_its_full_rate_and_in_its_two_channels() {
    let options = syom::EncodeOptions::raw().with_bitrate_bps(48_000);
    for options in [options.clone().with_he(true), options.with_he_v2(true)] {
        let mut encoder = syom::Encoder::new(48_000, 2, &options).expect("made");
        let config = AudioConfig::from_description(Codec::Aac, Bytes::copy_from_slice(encoder.asc()));
        assert_eq!((config.sample_rate, config.channels), (48_000, 2));
        let tone: Vec<f32> =
            (0..48_000 * 3).map(|n| (TAU * 440.0 * f64::from(n) / 48_000.0).sin() as f32 * 0.5).collect();
        let mut frames = Vec::new();
        let fed = encoder.feed(&[&tone, &tone], |frame| {
            frames.push(Bytes::copy_from_slice(frame.payload));
            Ok(())
        });
        fed.expect("encodes");
        let frames = frames.into_iter().zip(0..).map(|(data, nth)| (nth * 2048 * 1000 / 48, data));
        let (config, frames) = converted(&config, Codec::Opus, frames);
        let mut decoder = codec::decoder(&config, 1).expect("made");
        let mut samples = Vec::new();
        for frame in &frames {
            decoder.decode(&frame.data, &mut samples).expect("decodes");
        }
        let level = level(&samples[48_000..96_000], 440.0);
        assert!((0.4..0.6).contains(&level) && (130..150).contains(&frames.len()), "{level} {}", frames.len());
    }
}
