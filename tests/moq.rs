//! MoQ viewers that nobody here wrote, at the edge of a running `hawker dev`.

mod common;

use std::{path::Path, process::Command};

use common::{Dev, Process, publish};
use serde_json::{Value, json};

/// PyPI moq-rs, printing what it sees.
fn viewer(url: &str) -> Process {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join(".venv/bin/python"));
    command.arg(root.join("tests/peers/moq_viewer.py")).args([url, "live/room"]);
    Process::spawn(&command)
}

/// All that it printed, once `done` is content with it.
fn seen(viewer: &Process, what: &str, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    viewer.stdout.wait(what, |lines| {
        let values: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        done(&values).then_some(values)
    })
}

fn of_track<'a>(values: &'a [Value], track: &'a str) -> impl Iterator<Item = &'a Value> {
    values.iter().filter(move |value| value["track"] == track)
}

/// Presentation times in the order they came, in microseconds.
fn times(values: &[Value], track: &str) -> Vec<i64> {
    of_track(values, track).map(|frame| frame["pts_us"].as_i64().expect("a time")).collect()
}

#[test]
fn moq_rs_reads_catalog_picture_and_sound_from_the_edge() {
    let dev = Dev::start();
    let _publisher = publish(&dev.origin.publish_url);
    // WebTransport, and QUIC without HTTP.
    for url in [dev.edge.moq.clone(), dev.edge.moq.replace("https:", "moqt:")] {
        let viewer = viewer(&url);
        let values = seen(&viewer, "three seconds of both tracks", |values| {
            of_track(values, "video").count() >= 75 && of_track(values, "audio").count() >= 140
        });
        let catalog = values.iter().find_map(|value| value.get("catalog")).expect("a catalog");
        assert!(catalog["video"].as_str().is_some_and(|codec| codec.starts_with("avc1.")), "{catalog}");
        assert_eq!(catalog["audio"], "mp4a.40.2");
        let video = times(&values, "video");
        assert!(video.windows(2).all(|pair| pair[1] - pair[0] == 40_000), "25 a second, none missing: {video:?}");
        let keyframes = of_track(&values, "video").filter(|frame| frame["keyframe"] == true).count();
        assert!(keyframes >= 3, "{keyframes} keyframes in {} frames", video.len());
        let audio = times(&values, "audio");
        // 1,024 samples at 48 kHz, rounded to FLV's milliseconds.
        assert!(audio.windows(2).all(|pair| (20_000..=23_000).contains(&(pair[1] - pair[0]))), "{audio:?}");
        let apart_us = (video[0] - audio[0]).abs();
        assert!(apart_us < 1_500_000, "sound and picture begin {apart_us} µs apart");
    }
}

/// The records of the `events` track that somebody sent; the clock comes by itself.
fn records(values: &[Value]) -> impl Iterator<Item = &Value> {
    of_track(values, "events").map(|value| &value["record"]).filter(|record| record["data"]["type"] != "clock")
}

#[test]
fn an_event_reaches_every_moq_viewer_once_and_beside_its_frame() {
    let dev = Dev::start();
    let _publisher = publish(&dev.origin.publish_url);
    let viewers = [viewer(&dev.origin.moq), viewer(&dev.edge.moq)];
    for viewer in &viewers {
        seen(viewer, "the picture", |values| of_track(values, "video").count() >= 5);
    }
    let card = |n: usize| json!({"type": "card.show", "data": {"sku": format!("A-{n}")}, "at": {"now": true}});
    let sent: Vec<Value> = (0..5).map(|n| dev.send_event(&card(n))).collect();
    for viewer in &viewers {
        let last = sent.last().expect("five");
        let last_us = last["time"]["pts_us"].as_i64().expect("a time");
        let values = seen(viewer, "five events and the frame of the last", |values| {
            records(values).count() >= 5 && times(values, "video").last().is_some_and(|at| *at > last_us)
        });
        let came: Vec<&Value> = records(&values).map(|record| &record["data"]).collect();
        assert_eq!(came, sent.iter().collect::<Vec<_>>(), "each once, in order, as it was stamped");
        let frames = times(&values, "video");
        for record in records(&values) {
            let at_us = record["data"]["time"]["pts_us"].as_i64().expect("a time");
            assert_eq!(record["M"], at_us / 1000);
            assert!(frames.iter().any(|frame| (at_us..at_us + 40_000).contains(frame)), "no frame at {at_us}");
        }
        seen(viewer, "the state after the last", |values| {
            of_track(values, "state").last().is_some_and(|state| state["value"]["keys"]["card:main"] == *last)
        });
    }
}

#[test]
fn who_joins_later_has_the_state_at_once() {
    let dev = Dev::start();
    let _publisher = publish(&dev.origin.publish_url);
    let card = dev.send_event(&json!({"type": "card.show", "key": "card:left", "at": {"now": true}}));
    dev.send_event(&json!({"type": "card.show", "key": "card:right", "at": {"now": true}}));
    dev.send_event(&json!({"type": "card.hide", "key": "card:right", "at": {"now": true}}));
    for url in [&dev.origin.moq, &dev.edge.moq] {
        let viewer = viewer(url);
        let values = seen(&viewer, "the hidden card's absence", |values| {
            of_track(values, "state").last().is_some_and(|state| {
                state["value"]["keys"]["card:left"] == card && state["value"]["keys"].get("card:right").is_none()
            })
        });
        assert!(of_track(&values, "state").next().expect("a state")["value"]["keys"].is_object());
    }
}
