//! The tools against a running `hawker dev`: what a person would try first.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "how tests fail")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, thread};

use common::{Ports, Process, run, run_ok, text};
use hawker::media::{Keys, Signer};
use serde_json::{Value, json};
use tempfile::TempDir;

/// `hawker dev`, which the other tools find by themselves.
struct Dev {
    info: Value,
    home: TempDir,
    _server: Process,
    ports: Ports,
}

impl Dev {
    fn start(args: &[&str]) -> Self {
        let (home, ports) = (tempfile::tempdir().unwrap(), Ports::reserve());
        let mut dev = hawker(home.path(), &["dev", "--json", "--port-base", &ports.base().to_string(), "--data"]);
        let server = Process::spawn(dev.arg(home.path()).args(args));
        let first = server.stdout.wait("the JSON of `hawker dev`", |lines| lines.first().cloned());
        Self { info: serde_json::from_str(&first).unwrap(), home, _server: server, ports }
    }

    fn url(&self, node: &str, what: &str, rest: &str) -> String {
        format!("{}{rest}", self.info[node][what].as_str().unwrap())
    }

    fn hawker(&self, args: &[&str]) -> Command {
        hawker(self.home.path(), args)
    }
}

fn hawker(home: &Path, args: &[&str]) -> Command {
    let binary = std::env::var("HAWKER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hawker").into());
    let mut command = Command::new(binary);
    command.args(args).env("XDG_RUNTIME_DIR", home).env_remove("HAWKER_API").env_remove("HAWKER_TOKEN");
    command
}

/// What a tool that must fail says.
fn complaint(command: &Command) -> String {
    let output = run(20, command);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

#[test]
fn the_sample_and_a_card_come_over_every_carriage() {
    let dev = Dev::start(&[]);
    let urls = [
        dev.url("origin", "rtmp", "/live/sample"),
        dev.url("edge", "rtmp", "/live/sample"),
        dev.url("edge", "http", "/live/sample.flv"),
        dev.url("edge", "moq", "/live/sample"),
        dev.url("edge", "http", "/whep/live/sample"),
    ];
    // The first one also waits until the sample is on air.
    run_ok(20, &dev.hawker(&["watch", &urls[1], "--secs", "2"]));
    let watch = |url: &String| Process::spawn(&dev.hawker(&["watch", url, "--secs", "5", "--json"]));
    let viewers = urls.each_ref().map(watch);
    let stranger = dev.home.path().join("stranger.json");
    fs::write(&stranger, Keys::from(Signer::from_seed(&[1; 32]).public()).to_jwks()).unwrap();
    let doubter = dev.hawker(&["watch", &urls[2], "--secs", "5", "--event-keys", stranger.to_str().unwrap()]);
    let doubter = thread::spawn(move || complaint(&doubter));
    let card = ["event", "live/sample", "card.show", "sku=SKU-1", "price_minor=9900", "--in-ms", "2500"];
    let card: Value = serde_json::from_str(&run_ok(5, &dev.hawker(&card))).unwrap();
    for (viewer, url) in viewers.iter().zip(&urls) {
        let report = viewer.stdout.wait("a report", |lines| lines.first().cloned());
        let report: Value = serde_json::from_str(&report).unwrap();
        let number = |pointer: &str| {
            report.pointer(pointer).and_then(Value::as_i64).unwrap_or_else(|| panic!("{url}: {pointer}: {report}"))
        };
        assert!(number("/join_ms") < 2000, "{report}");
        assert!(number("/video/frames") > 100 && number("/audio/frames") > 150, "{report}");
        assert!(number("/video/keyframes") >= 4, "{report}");
        for track in ["/video", "/audio"] {
            assert_eq!(
                (number(&format!("{track}/gaps")), number(&format!("{track}/dts_backwards"))),
                (0, 0),
                "{report}"
            );
        }
        let events = report["events"].as_array().unwrap();
        assert!(number("/events_verified") > events.len() as i64 && number("/events_forged") == 0, "{report}");
        assert!(number("/clocks") + number("/events_replayed") > 0, "{report}");
        assert_eq!(report["state_keys"], json!(["card:main", "clock"]), "{report}");
        let ours: Vec<_> = events.iter().filter(|event| event["id"] == card["id"]).collect();
        assert_eq!(ours.len(), 1, "{url}: {report}");
        assert_eq!(
            (&ours[0]["skew_frames"], &ours[0]["type"]),
            (&Value::from(0), &Value::from("card.show")),
            "{url}: {report}"
        );
        // Elsewhere, the clock that the sample carries doesn't come.
        if url.starts_with("rtmp") || url.ends_with(".flv") {
            assert!(number("/latency_ms/p50") < 1000 && number("/latency_ms/samples") >= 3, "{report}");
        }
    }
    let said = doubter.join().unwrap();
    assert!(said.contains("of the events are not what a trusted key signed"), "{said}");
}

#[test]
fn every_node_tells_the_keys_of_its_events_and_keeps_its_own_to_itself() {
    let dev = Dev::start(&["--no-sample"]);
    let keys = |node: &str| {
        let url = dev.url(node, "http", "/.well-known/hawker-keys.json");
        run_ok(5, Command::new("curl").args(["--silent", "--fail", "--include", &url]))
    };
    let (origin, edge) = (keys("origin"), keys("edge"));
    assert!(origin.contains("content-type: application/jwk-set+json"), "{origin}");
    assert!(origin.contains("cache-control: max-age=300"), "{origin}");
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(body(&origin), body(&edge));
    let jwks: Value = serde_json::from_str(&body(&origin)).unwrap();
    let private = dev.home.path().join("origin/event-key.json");
    let jwk: Value = serde_json::from_slice(&fs::read(&private).unwrap()).unwrap();
    assert_eq!((&jwks["keys"][0]["kid"], &jwks["keys"][0]["x"]), (&jwk["kid"], &jwk["x"]));
    assert!(jwk["d"].is_string() && !origin.contains(r#""d":"#));
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_with_reordered_pictures_is_pushed_once() {
    let dev = Dev::start(&["--no-sample"]);
    let file = dev.home.path().join("clip.mp4");
    let encode = "-f lavfi -i testsrc2=size=320x240:rate=30 -f lavfi -i sine -t 4 -c:v libx264 -bf 2 -g 30 -c:a aac";
    let mut ffmpeg = Command::new("ffmpeg");
    run_ok(30, ffmpeg.args(["-nostdin", "-loglevel", "error"]).args(encode.split(' ')).arg(&file));
    let url = dev.url("origin", "publish_url", "");
    let push = dev.hawker(&["push", file.to_str().unwrap(), &url, "--once"]);
    let push = thread::spawn(move || run_ok(20, &push));
    let edge = dev.url("edge", "rtmp", "/live/room");
    let report: Value =
        serde_json::from_str(&run_ok(20, &dev.hawker(&["watch", &edge, "--secs", "3", "--json"]))).unwrap();
    assert_eq!(
        (&report["video"]["gaps"], &report["video"]["dts_backwards"]),
        (&Value::from(0), &Value::from(0)),
        "{report}"
    );
    assert!(report["video"]["frames"].as_u64().unwrap() > 45, "{report}");
    assert_eq!(report["video"]["width"], 320);
    push.join().unwrap();
}

#[test]
fn what_goes_wrong_is_said_in_a_sentence() {
    let dev = Dev::start(&["--no-sample"]);
    let nowhere = format!("127.0.0.1:{}", dev.ports.base() + 10);
    let wrong_key = dev.url("origin", "rtmp", "/live/room?key=wrong");
    let said = complaint(&dev.hawker(&["push", "--sample", &wrong_key]));
    assert!(said.contains("hawker: the server refused: wrong stream key") && !said.contains("=wrong"), "{said}");
    let said = complaint(&dev.hawker(&["push", "--sample", &format!("rtmp://{nowhere}/live/room")]));
    assert!(said.contains(&format!("hawker: {nowhere}: Connection refused")), "{said}");
    let said = complaint(&dev.hawker(&["push", "/nonexistent.flv", &wrong_key]));
    assert!(said.contains("hawker: /nonexistent.flv: No such file"), "{said}");
    let said = complaint(&dev.hawker(&["watch", &dev.url("edge", "rtmp", "/live/nobody"), "--secs", "1"]));
    assert!(said.contains("no keyframe came"), "{said}");
    let said = complaint(&dev.hawker(&["watch", &dev.url("edge", "moq", "/live/nobody"), "--secs", "2"]));
    assert!(said.contains("hawker: the server refused: it has no such stream"), "{said}");
    let said = complaint(&dev.hawker(&["event", "live/nobody", "gift.send"]));
    assert!(said.contains("hawker: the server refused it: 409 Conflict"), "{said}");
    let said = complaint(&dev.hawker(&["event", "live/nobody", "card.hide", "--token", "wrong"]));
    assert!(said.contains("hawker: the server refused it: 40"), "{said}");
    let said = complaint(&dev.hawker(&["event", "live/nobody", "card.hide", "--dev-file", "/nonexistent"]));
    assert!(said.contains("no --api and no running `hawker dev`"), "{said}");
}
