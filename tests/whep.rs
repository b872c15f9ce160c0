//! Foreign players over WHEP: aiortc and Chromium watch what ffmpeg publishes over RTMP. Its AAC is made Opus.

mod common;

use std::process::Command;

use common::{
    Dev, Node, Peer, Process, Viewer, assert_each_once, browser, ffmpeg, frame_0_us, lags_ms, publish_numbered, python,
    run, text,
};
use serde_json::{Value, json};

/// Frames of the publisher.
const FRAME_US: i64 = 40_000;

#[test]
fn aiortc_plays_picture_and_sound_from_both_nodes() {
    let dev = Dev::start();
    let _ffmpeg = publish_numbered(&dev.origin.publish_url);
    for node in [&dev.origin, &dev.edge] {
        let viewer = Peer::play(node, &[]);
        let values = viewer.wait("four seconds, reports and beeps", |values| {
            let reported = |track| values.iter().any(|value| value["report"] == track);
            let ready = reported("video") && reported("audio") && lags_ms(values, 25).len() >= 3;
            (ready && common::pictures(values).len() >= 100).then(|| values.to_vec())
        });
        assert_each_once(&values);
        let lags = lags_ms(&values, 25);
        assert!(lags.iter().all(|lag| lag.abs() <= 45.0), "sound is beside its picture: {lags:?}");
        // 90 kHz, and nothing made up.
        let pictures = common::pictures(&values);
        let steps: Vec<_> = pictures.windows(2).map(|pair| (pair[1].time - pair[0].time).rem_euclid(1 << 32)).collect();
        assert!(steps.iter().all(|step| (3599..=3601).contains(step)), "{steps:?}");
    }
}

#[test]
fn a_viewer_begins_at_once() {
    let dev = Dev::start();
    let _ffmpeg = publish_numbered(&dev.origin.publish_url);
    let first = Peer::play(&dev.edge, &["--silent"]);
    let second = Peer::play(&dev.edge, &[]);
    for viewer in [first, second] {
        let values = viewer.wait_pictures(10);
        // A keyframe: one in 25.
        assert_eq!(common::pictures(&values)[0].number.map(|number| number % 25), Some(0));
        assert_each_once(&values);
    }
}

#[test]
fn events_fire_on_the_very_picture_in_aiortc() {
    let dev = Dev::start();
    let _ffmpeg = publish_numbered(&dev.origin.publish_url);
    let told = dev.send_event(&card("SKU-0", &json!({"now": true})));
    let frame_0_us = frame_0_us(&dev.edge, FRAME_US);
    // Who comes before the next keyframe is shown that event as it happened.
    Viewer::watch(&dev.edge.flv_url()).wait_frames(60);
    let viewers = [&dev.origin, &dev.edge].map(|node| Peer::play(node, &[]));
    viewers.iter().for_each(|viewer| drop(viewer.wait_pictures(25)));
    let sent: Vec<Value> = [json!({"now": true}), json!({"in_ms": 600}), json!({"in_ms": 1111})]
        .iter()
        .map(|at| dev.send_event(&card("SKU-1", at)))
        .collect();
    for viewer in &viewers {
        let values = viewer.wait("all to have fired", |values| {
            let fired = values.iter().filter(|value| sent.iter().any(|event| event["id"] == value["fired"])).count();
            (fired >= sent.len()).then(|| values.to_vec())
        });
        for event in &sent {
            let fired = values.iter().find(|value| value["fired"] == event["id"]).unwrap();
            let after_us = event["time"]["pts_us"].as_i64().unwrap() - frame_0_us;
            assert_eq!(fired["number"], (after_us + FRAME_US - 1).div_euclid(FRAME_US), "{fired}");
        }
        let messages: Vec<_> = values.iter().filter_map(|value| value.get("message")).collect();
        let (replayed, live): (Vec<&Value>, Vec<&Value>) = messages.into_iter().partition(|message| message["rp"] == 1);
        assert!(replayed.iter().any(|message| message["ev"] == told), "the snapshot tells what was shown before");
        let live: Vec<_> =
            live.iter().map(|message| &message["ev"]).filter(|event| event["type"] == "card.show").collect();
        assert_eq!(live, sent.iter().collect::<Vec<_>>(), "each once, in order, as it was stamped");
    }
}

#[test]
fn chromium_plays_and_fires_events_on_the_very_picture() {
    let dev = Dev::start();
    let _ffmpeg = publish_numbered(&dev.origin.publish_url);
    let frame_0_us = frame_0_us(&dev.edge, FRAME_US).to_string();
    let mut driver = browser("whep.mjs");
    driver.args(["--http", &dev.edge.http, "--stream", "live/room", "--frame-0-us", &frame_0_us]).args([
        "--api",
        &dev.origin.http,
        "--token",
        &dev.origin.api_token,
    ]);
    let output = run(60, &driver);
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

/// Nothing of the media is made anew on the way: H.264 and Opus.
#[test]
fn aiortc_plays_what_aiortc_publishes() {
    let dev = Dev::start();
    let publisher = Peer::publish(&dev.origin, &[]);
    publisher.wait("a second of it", |values| values.iter().any(|value| value["sent"] == 30).then_some(()));
    let viewer = Peer::play(&dev.edge, &[]);
    let values = viewer.wait_pictures(90);
    assert_each_once(&values);
}

#[test]
fn a_stream_with_b_frames_is_refused_with_a_reason() {
    let dev = Dev::start();
    let mut command = ffmpeg("ffmpeg");
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "25", "-c:a", "aac", "-f", "flv"]);
    let ffmpeg = Process::spawn(command.arg(&dev.origin.publish_url));
    ffmpeg.stdout.wait_line("out_time=00:00:02");
    let (status, body) = refusal(&dev.edge);
    assert_eq!(status, 406, "{body}");
    assert!(body.contains("B-frames"), "{body}");
}

#[test]
fn nobody_s_stream_is_not_found() {
    let dev = Dev::start();
    let (status, body) = refusal(&dev.edge);
    assert_eq!(status, 404, "{body}");
}

fn refusal(node: &Node) -> (u64, String) {
    let output = run(30, python("aiortc_play.py").arg(node.whep_url()));
    assert_eq!(output.status.code(), Some(2), "{}{}", text(&output.stdout), text(&output.stderr));
    let refused: Value = serde_json::from_slice(&output.stdout).unwrap();
    (refused["refused"].as_u64().unwrap(), refused["body"].as_str().unwrap().to_owned())
}

#[test]
fn events_come_over_sse_for_players_without_data_channels() {
    let dev = Dev::start();
    let _ffmpeg = publish_numbered(&dev.origin.publish_url);
    let viewer = Peer::play(&dev.edge, &["--no-events"]);
    let location = viewer
        .wait("the answer", |values| values.iter().find_map(|value| value["location"].as_str().map(str::to_owned)));
    viewer.wait_pictures(5);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--no-buffer", "--max-time", "30", &format!("{}{location}", dev.edge.http)]);
    let events = Process::spawn(&curl);
    events.stdout.wait_line("live-event");
    let sent = dev.send_event(&card("SKU-1", &json!({"now": true})));
    let line = events.stdout.wait_line(sent["id"].as_str().unwrap());
    let message: Value = serde_json::from_str(line.trim_start_matches("data:").trim()).unwrap();
    assert_eq!((&message["ev"], &message["rp"]), (&sent, &0.into()));
}

#[test]
fn a_session_that_was_deleted_is_gone() {
    let dev = Dev::start();
    let _ffmpeg = publish_numbered(&dev.origin.publish_url);
    let viewer = Peer::play(&dev.edge, &["--seconds", "2"]);
    let location = viewer
        .wait("the answer", |values| values.iter().find_map(|value| value["location"].as_str().map(str::to_owned)));
    viewer.wait("its DELETE", |values| values.iter().any(|value| value["deleted"] == 200).then_some(()));
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--request", "DELETE"]);
    assert_eq!(text(&run(10, curl.arg(format!("{}{location}", dev.edge.http))).stdout), "404");
}

fn card(sku: &str, at: &Value) -> Value {
    json!({"type": "card.show", "op": "set", "key": "card:main", "data": {"sku": sku}, "at": at})
}
