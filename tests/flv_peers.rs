//! What foreign players see at the edge, over HTTP-FLV and over RTMP: the stream at once, through the publisher's
//! reconnects, with the events beside their frames.

mod common;

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command, time::Duration};

use common::{Dev, H264_AAC, Kind, Packet, Process, Viewer, assert_even, ffmpeg, ffmpeg_9, publish, run_ok};
use hawker::media::codec::sei::LIVE_EVENT;
use serde_json::{Value, json};
use tokio::time::Instant;

#[test]
fn viewers_start_at_once_with_a_keyframe() {
    let dev = Dev::start();
    // The next keyframe is 10 s away: only the cached group can be quick.
    let ffmpeg = Process::spawn(ffmpeg("ffmpeg").args(H264_AAC).args(["-g", "250"]).arg(&dev.origin.publish_url));
    ffmpeg.stdout.wait_line("out_time=00:00:01");
    for url in dev.edge.watch_urls() {
        // The first viewer makes the edge subscribe, the second finds the stream there.
        for viewer in ["first", "second"] {
            let started = Instant::now();
            let watching = Viewer::watch(&url);
            let packets = watching.wait_frames(1);
            let join = started.elapsed();
            let frame = packets.iter().find(|packet| packet.kind == Kind::Video).unwrap();
            assert!(frame.is_key, "the {viewer} viewer of {url} began with {packets:?}");
            assert!(join < Duration::from_secs(1), "the {viewer} viewer of {url} waited {join:?}");
            // Sound and picture begin together and stay in step, though they cross to the edge apart.
            let packets = watching.wait_frames(20);
            let step_back = packets.windows(2).find(|pair| pair[1].dts + 150 < pair[0].dts);
            assert_eq!(step_back, None, "the {viewer} viewer of {url}: {packets:?}");
            let begins = |kind| packets.iter().find(|packet| packet.kind == kind).map(|packet| packet.dts);
            let (picture, sound) = (begins(Kind::Video).unwrap(), begins(Kind::Audio).unwrap());
            assert!((sound - picture).abs() < 150, "the {viewer} viewer of {url}: {picture} and {sound} ms");
        }
    }
}

#[test]
fn viewers_stay_through_a_killed_encoder() {
    let dev = Dev::start();
    let mut first = publish(&dev.origin.publish_url);
    let viewers = dev.edge.watch_urls().map(|url| Viewer::watch(&url));
    let before = viewers.each_ref().map(|viewer| viewer.wait_frames(30).len());
    first.kill();
    // Its timestamps start at 0 again.
    let _second = publish(&dev.origin.publish_url);
    for (viewer, before) in viewers.iter().zip(before) {
        let packets = viewer.wait("the second encoder's frames", |packets| {
            let gap = packets.iter().skip(before).position(|packet| packet.kind == Kind::Video && packet.is_key)?;
            (packets.len() > before + gap + 100).then(|| packets.to_vec())
        });
        // As long as the pause was, at most.
        assert_even(&packets, 10_000);
    }
}

#[test]
fn hevc_av1_and_opus_pass_through_unchanged() {
    let ffmpeg_9 = ffmpeg_9();
    for (video, audio, options) in [
        ("hevc", "aac", "-c:v libx265 -preset ultrafast -x265-params log-level=none:bframes=0 -c:a aac"),
        ("av1", "opus", "-c:v libaom-av1 -usage realtime -cpu-used 8 -c:a libopus"),
    ] {
        let dev = Dev::start();
        let mut command = ffmpeg(&ffmpeg_9);
        command.args(options.split(' ')).args(["-g", "25", "-f", "flv", "-rtmp_enhanced_codecs", "hvc1,av01,Opus"]);
        let publisher = Process::spawn(command.arg(&dev.origin.publish_url));
        publisher.stdout.wait_line("out_time=00:00:02");
        // The same ffmpeg decodes it: a wrong configuration record or a cut frame is an error.
        let mut reader = Command::new(&ffmpeg_9);
        reader.args(["-nostdin", "-loglevel", "info", "-xerror", "-i", &dev.edge.flv_url()]);
        reader.args(["-t", "2", "-f", "null", "-"]);
        let output = common::run(20, &reader);
        let seen = common::text(&output.stderr);
        assert!(output.status.success(), "{video}: {seen}");
        for codec in [format!("Video: {video}"), format!("Audio: {audio}"), "320x180".into()] {
            assert!(seen.contains(&codec), "no {codec}: {seen}");
        }
    }
}

#[test]
fn a_product_card_arrives_beside_its_frame() {
    let dev = Dev::start();
    // One long group: the edge's viewers join in its middle, and get it from its beginning.
    let ffmpeg = Process::spawn(ffmpeg("ffmpeg").args(H264_AAC).args(["-g", "750"]).arg(&dev.origin.publish_url));
    ffmpeg.stdout.wait_line("out_time=00:00:01");
    let card = |sku: &str| json!({"type": "card.show", "op": "set", "key": "card:main", "data": {"sku": sku}, "at": {"now": true}});
    let before = dev.send_event(&card("SKU-1"));
    let viewers = dev.edge.watch_urls().map(|url| Viewer::watch_with_data(&url));
    for viewer in &viewers {
        assert_beside_its_frame(viewer, &before);
    }
    let after = dev.send_event(&card("SKU-2"));
    for viewer in &viewers {
        assert_beside_its_frame(viewer, &after);
    }
}

#[test]
fn who_joins_later_is_told_the_room_before_the_first_frame() {
    let dev = Dev::start();
    let _ffmpeg = publish(&dev.origin.publish_url);
    let card = dev.send_event(&json!({"type": "card.show", "data": {"sku": "SKU-1"}, "at": {"now": true}}));
    // Its group is over when a keyframe comes after it.
    let watching = Viewer::watch(&dev.edge.flv_url());
    let is_start = |packet: &&Packet| packet.kind == Kind::Video && packet.is_key;
    watching.wait("two keyframes", |packets| (packets.iter().filter(is_start).count() >= 2).then_some(()));
    for url in dev.edge.watch_urls() {
        let snapshot = Viewer::watch_with_data(&url).wait("a snapshot and a frame", |packets| {
            let frame = packets.iter().position(|packet| packet.kind == Kind::Video)?;
            Some(events(packets).into_iter().find(|event| event.index < frame))
        });
        let snapshot = snapshot.unwrap_or_else(|| panic!("{url}: a frame came first"));
        assert_eq!(snapshot.kind, "snap");
        let room: Value = serde_json::from_str(&snapshot.json).unwrap();
        let events = room["events"].as_array().unwrap();
        assert_eq!((&events[0]["type"], &events[1]), (&"clock".into(), &card), "{url}");
    }
}

#[test]
fn who_asks_for_it_gets_events_as_text_and_in_the_picture() {
    let dev = Dev::start();
    let _ffmpeg = publish(&dev.origin.publish_url);
    for url in dev.edge.watch_urls() {
        // Cards come while ffprobe still looks for tracks.
        let text = Viewer::watch_with_data(&format!("{url}?text=1"));
        let folder = tempfile::tempdir().unwrap();
        let [plain, sei] =
            ["", "?sei=1"].map(|query| (format!("{url}{query}"), folder.path().join(format!("a{query}"))));
        let pictures = [&plain, &sei].map(|(url, file)| {
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-nostdin", "-loglevel", "error", "-progress", "pipe:1", "-stats_period", "0.1", "-i", url]);
            let ffmpeg = Process::spawn(ffmpeg.args(["-map", "0:v", "-c", "copy", "-t", "6", "-f", "h264"]).arg(file));
            ffmpeg.stdout.wait_line("frame=");
            ffmpeg
        });
        let card = dev.send_event(&json!({"type": "card.show", "data": {"sku": "SKU-1"}, "at": {"now": true}}));
        let json = card.to_string();
        text.wait("the card as text", |packets| {
            let is_card = |packet: &&Packet| packet.kind == Kind::Text && packet.data == json.as_bytes();
            packets.iter().find(is_card).map(|_| ())
        });
        pictures.iter().for_each(|ffmpeg| drop(ffmpeg.stdout.wait_line("progress=end")));
        let message = [&LIVE_EVENT, json.as_bytes()].concat();
        for (file, expected) in [(plain.1, 0), (sei.1, 1)] {
            let mut decode = Command::new("ffmpeg");
            decode.args(["-nostdin", "-loglevel", "error", "-xerror", "-f", "h264", "-i"]).arg(&file);
            run_ok(20, decode.args(["-f", "null", "-"]));
            let pictures = fs::read(&file).unwrap();
            assert_eq!(
                pictures.windows(message.len()).filter(|window| *window == message).count(),
                expected,
                "{file:?}"
            );
        }
    }
}

/// The viewer gets the event as the origin stamped it, once, directly before the frame that shows it.
fn assert_beside_its_frame(viewer: &Viewer, stamped: &Value) {
    let id = stamped["id"].as_str().unwrap();
    let (event, frame) = viewer.wait("the event and its frame", |packets| {
        let event = events(packets).into_iter().find(|event| event.json.contains(id))?;
        let frame = packets.get(event.index..)?.iter().find(|packet| packet.kind == Kind::Video)?;
        Some((event, frame.clone()))
    });
    let arrived: Value = serde_json::from_str(&event.json).unwrap();
    assert_eq!((event.kind.as_str(), &arrived), ("ev", stamped));
    let frames_ms = (frame.pts - 39) as f64..=frame.pts as f64;
    assert!(frames_ms.contains(&event.ts_ms), "{} belongs to the frame that follows it, {frames_ms:?}", event.ts_ms);
}

#[test]
fn vlc_plays_flv_and_rtmp() {
    let dev = Dev::start();
    let _ffmpeg = publish(&dev.origin.publish_url);
    for url in dev.edge.watch_urls() {
        let home = tempfile::tempdir().unwrap();
        let saved = home.path().join("played.ts");
        let sink = format!("#std{{access=file,mux=ts,dst={}}}", saved.display());
        let mut vlc = as_nobody("vlc", home.path());
        vlc.args([
            "--intf",
            "dummy",
            "--no-dbus",
            "--run-time=3",
            "--play-and-exit",
            "--sout",
            &sink,
            &url,
            "vlc://quit",
        ]);
        run_ok(20, &vlc);
        let [audio, video] = common::ffprobe(saved.to_str().unwrap());
        assert_eq!((&audio["codec_name"], &video["codec_name"]), (&"aac".into(), &"h264".into()), "{url}");
    }
}

#[test]
fn ffplay_plays_flv_and_rtmp() {
    let dev = Dev::start();
    let _ffmpeg = publish(&dev.origin.publish_url);
    for url in dev.edge.watch_urls() {
        let mut ffplay = Command::new("ffplay");
        // The filters report each frame as it is about to be shown or heard, at the pace of the player's clock.
        ffplay.args(["-loglevel", "info", "-nostats", "-vf", "showinfo", "-af", "ashowinfo", &url]);
        let ffplay = Process::spawn(ffplay.envs([("SDL_VIDEODRIVER", "dummy"), ("SDL_AUDIODRIVER", "dummy")]));
        ffplay.stderr.wait_line("n:  50 pts:");
        ffplay.stderr.wait_line("n:50 pts:");
    }
}

/// VLC refuses to be root.
fn as_nobody(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        run_ok(5, Command::new("chown").arg("nobody").arg(home));
        command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", program]);
    }
    command.env("HOME", home);
    command
}

/// One `onLiveEvent` script tag as it lies among the packets.
#[derive(Debug, Clone)]
struct Event {
    index: usize,
    ts_ms: f64,
    kind: String,
    json: String,
}

fn events(packets: &[Packet]) -> Vec<Event> {
    let tags = packets.iter().enumerate().filter(|(_, packet)| packet.kind == Kind::Data);
    tags.filter_map(|(index, tag)| {
        // AMF0: a key, then a marker and the value. A number is 8 bytes, a string has 2 bytes of length.
        let (_, ts) = split_after(&tag.data, b"\0\x02ts\0")?;
        let (kind, json) = (amf0_string(&tag.data, b"\0\x04kind\x02")?, amf0_string(&tag.data, b"\0\x04json\x02")?);
        Some(Event { index, ts_ms: f64::from_be_bytes(*ts.first_chunk()?), kind, json })
    })
    .collect()
}

fn amf0_string(bytes: &[u8], key: &[u8]) -> Option<String> {
    let (length, text) = split_after(bytes, key)?.1.split_first_chunk::<2>()?;
    String::from_utf8(text.get(..u16::from_be_bytes(*length).into())?.to_vec()).ok()
}

fn split_after<'a>(bytes: &'a [u8], marker: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(marker.len()).position(|window| window == marker)?;
    bytes.split_at_checked(at + marker.len())
}
