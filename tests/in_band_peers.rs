//! What ffmpeg and we say to each other inside the stream: SEI messages both ways, and events that it publishes.

mod common;

use std::{fs, process::Command};

use bytes::{BufMut, Bytes};
use common::{Dev, H264_AAC, Process, ffmpeg, run_ok, text};
use hawker::media::{
    Codec, VideoConfig,
    codec::sei::{LIVE_EVENT, NalFormat, UserData},
};

/// Hidden start codes, so that only escaped it survives.
const PAYLOAD: &[u8] = b"{\"type\":\"card.show\"}\0\0\x01\0\0\0\0\x03";

/// The first bytes of the UUID that x264 signs its settings with.
const X264: [u8; 4] = [0xdc, 0x45, 0xe9, 0xbd];

struct Peer {
    encoder: &'static str,
    /// The raw stream's format, and the name of its bitstream filters.
    format: &'static str,
    filter: &'static str,
    codec: Codec,
    delimiter: u8,
}

const PEERS: [Peer; 2] = [
    Peer { encoder: "libx264", format: "h264", filter: "h264_metadata", codec: Codec::Avc, delimiter: 9 },
    Peer { encoder: "libx265", format: "hevc", filter: "hevc_metadata", codec: Codec::Hevc, delimiter: 35 << 1 },
];

impl Peer {
    /// A few pictures of ffmpeg's, each a frame of length-prefixed units that begins with a delimiter.
    fn frames(&self, filter_options: &str) -> Vec<Bytes> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("raw");
        let filter = format!("{}=aud=insert{filter_options}", self.filter);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"]);
        ffmpeg.args(["-frames:v", "10", "-c:v", self.encoder, "-preset", "ultrafast", "-bsf:v", &filter]);
        run_ok(20, ffmpeg.args(["-f", self.format]).arg(&file));
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for unit in units_of_annex_b(&fs::read(file).unwrap()) {
            if unit[0] == self.delimiter {
                frames.push(Vec::new());
            }
            let frame = frames.last_mut().unwrap();
            frame.put_u32(unit.len().try_into().unwrap());
            frame.extend_from_slice(unit);
        }
        assert_eq!(frames.len(), 10);
        frames.into_iter().map(Bytes::from).collect()
    }

    fn nal_format(&self) -> NalFormat {
        let description = Bytes::from_static(&[0xff; 23]);
        NalFormat::of(&VideoConfig { codec: self.codec, description, width: 0, height: 0 }).unwrap()
    }
}

fn units_of_annex_b(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&[0, 0, 1])).collect();
    let ends = starts.iter().copied().skip(1).chain([bytes.len()]);
    // The byte before a start code may be its own fourth.
    let unit =
        |(start, end): (&usize, usize)| bytes[start + 3..end].strip_suffix(&[0]).unwrap_or(&bytes[start + 3..end]);
    starts.iter().zip(ends).map(unit).collect()
}

fn annex_b(mut frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((length, rest)) = frame.split_first_chunk() {
        let (unit, rest) = rest.split_at(u32::from_be_bytes(*length).try_into().unwrap());
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(unit);
        frame = rest;
    }
    out
}

#[test]
fn ffmpeg_reads_our_messages_and_decodes_the_pictures_behind_them() {
    for peer in PEERS {
        let nal_format = peer.nal_format();
        let frames = peer.frames("").into_iter();
        let stream: Vec<u8> = frames
            .flat_map(|frame| {
                let parts = nal_format.insert_user_data(&frame, LIVE_EVENT, PAYLOAD).expect("a picture");
                annex_b(&parts.concat())
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("with-messages");
        fs::write(&file, stream).unwrap();

        let mut decode = Command::new("ffmpeg");
        decode.args(["-nostdin", "-loglevel", "warning", "-xerror", "-f", peer.format, "-i"]).arg(&file);
        let decoded = common::run(20, decode.args(["-f", "null", "-"]));
        assert!(decoded.status.success() && decoded.stderr.is_empty(), "{}", text(&decoded.stderr));

        let mut trace = Command::new("ffmpeg");
        trace.args(["-nostdin", "-f", peer.format, "-i"]).arg(&file);
        let traced = common::run(20, trace.args(["-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"]));
        let messages = traced_messages(&text(&traced.stderr));
        let ours = [&LIVE_EVENT, PAYLOAD].concat();
        assert_eq!(messages.iter().filter(|message| **message == ours).count(), 10, "{}", peer.format);
    }
}

/// The user data messages in what `trace_headers` prints, each with its UUID in front.
fn traced_messages(trace: &str) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for line in trace.lines() {
        if line.contains("uuid_iso_iec_11578[0]") {
            messages.push(Vec::new());
        }
        if line.contains("uuid_iso_iec_11578[") || line.contains("user_data_payload_byte[") {
            let (_, value) = line.rsplit_once("= ").unwrap();
            messages.last_mut().unwrap().push(value.trim().parse().unwrap());
        }
    }
    messages
}

#[test]
fn we_read_the_messages_that_ffmpeg_and_x264_write() {
    let [h264, _] = PEERS;
    let uuid = "5b111b3f-101f-4892-ad18-8d987c1ab2cb";
    let frames = h264.frames(&format!(":sei_user_data={uuid}+hello"));
    let found = h264.nal_format().user_data(&frames[0]);
    assert!(found.contains(&UserData { uuid: LIVE_EVENT, payload: b"hello\0".to_vec() }), "{found:?}");
    let settings = found.iter().find(|message| message.uuid.starts_with(&X264)).expect("x264's own message");
    assert!(settings.payload.starts_with(b"x264 - core"), "{found:?}");
}

#[test]
fn ffmpeg_publishes_events_as_subtitles_and_as_sei() {
    let dev = Dev::start();
    let folder = tempfile::tempdir().unwrap();
    let subtitles = folder.path().join("prompts.srt");
    fs::write(&subtitles, "1\n00:00:00,400 --> 00:00:02,000\n3, 2, 1\n").unwrap();
    let gift = r#"{"id":"01JZZZZZZZZZZZZZZZZZZZZZZZ","type":"gift.send","op":"fire","data":{"n":7}}"#;
    // Read once as a list of filters, and once as a list of their options.
    let special = |letter: char| matches!(letter, '\\' | '\'' | ',' | ':');
    let escape = |text: &str| {
        let escaped = |letter| special(letter).then_some('\\').into_iter().chain([letter]);
        text.chars().flat_map(escaped).collect::<String>()
    };
    let filter = format!("h264_metadata=sei_user_data=5b111b3f-101f-4892-ad18-8d987c1ab2cb+{}", escape(&escape(gift)));
    let mut command = ffmpeg("ffmpeg");
    command.arg("-i").arg(&subtitles).args([
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "2",
        "-max_interleave_delta",
        "1",
        "-c:s",
        "text",
        "-bsf:v",
        &filter,
    ]);
    // One long group, so that a viewer gets it from its beginning.
    command.args(H264_AAC).args(["-g", "750"]).arg(&dev.origin.publish_url);
    let publisher = Process::spawn(&command);
    publisher.stdout.wait_line("out_time=00:00:01");
    let played = folder.path().join("played.flv");
    let watching = Process::spawn(Command::new("curl").args(["-sN", "-o"]).arg(&played).arg(dev.edge.flv_url()));
    publisher.stdout.wait_line("out_time=00:00:04");
    drop(watching);
    let played = String::from_utf8_lossy(&fs::read(&played).unwrap()).into_owned();
    assert_eq!(played.matches(r#""type":"prompt.show""#).count(), 1);
    for part in [r#""data":{"text":"3, 2, 1"}"#, r#""source":"live/room","target":{"scope":"room"},"time""#] {
        assert!(played.contains(part), "{part}");
    }
    // Once in the picture, and once as the event that this origin stamped.
    assert_eq!(played.matches("01JZZZZZZZZZZZZZZZZZZZZZZZ").count(), 2);
}
