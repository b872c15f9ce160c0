//! Foreign software that publishes by WHIP, watched at the edge over other protocols: each story crosses the relay, and
//! sound is made AAC on its way.

mod common;

use std::process::Command;

use common::{
    Dev, Peer, Process, Viewer, assert_each_once, assert_even, browser, ffprobe, frame_0_us, lags_ms, publish_whip,
    python, run, text,
};
use serde_json::{Value, json};

/// Sound is at most this far from the picture it belongs to.
const LAG_MS_MAX: f64 = 45.0;

#[test]
fn ffmpeg_publishes_and_the_edge_serves_it() {
    let dev = Dev::start();
    let _ffmpeg = publish_whip(&dev.origin.whip_url(), dev.origin.key());
    for url in dev.edge.watch_urls() {
        let [audio, video] = ffprobe(&url);
        assert_eq!((&audio["codec_name"], &video["codec_name"]), (&"aac".into(), &"h264".into()), "{url}");
        assert_eq!((&video["width"], &video["height"]), (&320.into(), &180.into()), "{url}");
        assert_even(&Viewer::watch(&url).wait_frames(75), 41);
        assert_in_sync(&Peer::av(&url), 25);
    }
}

#[test]
fn aiortc_publishes_and_the_edge_serves_it() {
    let dev = Dev::start();
    let publisher = Peer::publish(&dev.origin, &["--seconds", "20"]);
    publisher.wait("a second of it", |values| values.iter().any(|value| value["sent"] == 30).then_some(()));
    let viewer = Peer::av(&dev.edge.flv_url());
    let values = assert_in_sync(&viewer, 30);
    assert!(values.len() > 100);
    publisher.wait("its end", |values| {
        let deleted = values.iter().find(|value| !value["deleted"].is_null())?;
        assert_eq!(deleted["deleted"], 200);
        Some(())
    });
}

#[test]
fn chromium_publishes_and_the_edge_serves_it() {
    let dev = Dev::start();
    let mut driver = browser("whip.mjs");
    driver.args(["--http", &dev.origin.http, "--stream", "live/room", "--token", dev.origin.key(), "--seconds", "40"]);
    let chromium = Process::spawn(&driver);
    chromium.stdout.wait_line("publishing");
    // It makes no keyframe unless asked: who comes now must not wait for one.
    let viewer = Peer::av(&dev.edge.flv_url());
    let values = viewer.wait_pictures(90);
    let unreadable = common::pictures(&values).iter().filter(|picture| picture.number.is_none()).count();
    assert_eq!(unreadable, 0);
    let numbers: Vec<_> = common::pictures(&values).iter().filter_map(|picture| picture.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

/// Its first choice.
#[test]
fn vp8_is_taken_if_that_is_all_there_is() {
    let dev = Dev::start();
    let publisher = Peer::publish(&dev.origin, &["--codec", "vp8"]);
    publisher.wait("a second of it", |values| values.iter().any(|value| value["sent"] == 30).then_some(()));
    // No FLV player knows it; browsers do.
    let viewer = Peer::play(&dev.edge, &[]);
    assert_each_once(&viewer.wait_pictures(60));
}

#[test]
fn an_event_lands_beside_its_picture() {
    let dev = Dev::start();
    let _ffmpeg = publish_whip(&dev.origin.whip_url(), dev.origin.key());
    // What is made of RTP's timestamps is even to the microsecond's rounding.
    let frame_0 = [&dev.origin, &dev.edge].map(|node| frame_0_us(node, 40_000));
    assert!((frame_0[0] - frame_0[1]).abs() <= 1, "{frame_0:?}");
    let viewer = Peer::play(&dev.edge, &[]);
    viewer.wait_pictures(25);
    let sent: Vec<Value> = (1..=3)
        .map(|n| {
            dev.send_event(&json!({"type": "card.show", "data": {"sku": n.to_string()}, "at": {"in_ms": 500 * n}}))
        })
        .collect();
    for event in sent {
        let meant = (event["time"]["pts_us"].as_i64().unwrap() - frame_0[0] + 39_999).div_euclid(40_000);
        let fired =
            viewer.wait("the event", |values| values.iter().find(|value| value["fired"] == event["id"]).cloned());
        assert_eq!(fired["number"], meant, "{fired}");
    }
}

#[test]
fn an_event_of_a_whip_stream_is_beside_its_picture_on_flv_rtmp_and_moq() {
    let dev = Dev::start();
    let _ffmpeg = publish_whip(&dev.origin.whip_url(), dev.origin.key());
    // On air, and its sound made AAC.
    Viewer::watch(&dev.edge.flv_url()).wait_frames(25);
    let [flv, rtmp] = dev.edge.watch_urls();
    let viewers = [flv, rtmp, format!("{}/live/room", dev.edge.moq)].map(|url| (dev.watch(&url), url));
    let event = dev.send_event(&json!({"type": "card.show", "data": {"sku": "1"}, "at": {"in_ms": 2500}}));
    for (viewer, url) in viewers {
        let report = viewer.stdout.wait("a report", |lines| lines.first().cloned());
        let report: Value = serde_json::from_str(&report).unwrap();
        let told: Vec<_> =
            report["events"].as_array().unwrap().iter().filter(|told| told["id"] == event["id"]).collect();
        assert_eq!(told.len(), 1, "{url}: {report}");
        assert_eq!(told[0]["skew_frames"], 0, "{url}: {report}");
        assert!(report["video"]["frames"].as_i64() > Some(75), "{url}: {report}");
        assert!(report["audio"]["frames"].as_i64() > Some(100), "{url}: {report}");
        assert_eq!(report["video"]["gaps"], 0, "{url}: {report}");
    }
}

#[test]
fn a_wrong_key_is_refused_and_not_logged() {
    let dev = Dev::start();
    for key in [&["--token", "Wr0ngKey"][..], &[]] {
        let mut command = python("aiortc_publish.py");
        let output = run(10, command.arg(dev.origin.whip_url()).args(key));
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        assert!(text(&output.stdout).contains("\"refused\": 401"), "{}", text(&output.stdout));
    }
    assert!(!dev.log().contains("Wr0ngKey"), "{}", dev.log());
}

#[test]
fn requests_that_mean_nothing_get_the_status_that_says_so() {
    let dev = Dev::start();
    let url = dev.origin.whip_url();
    let bearer = format!("authorization: Bearer {}", dev.origin.key());
    let ask = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--header", &bearer]);
        text(&run(10, curl.args(arguments)).stdout)
    };
    assert_eq!(ask(&[&url]), "405");
    assert_eq!(ask(&["--request", "PUT", &url]), "405");
    assert_eq!(ask(&["--header", "content-type: text/plain", "--data", "v=0", &url]), "415");
    assert_eq!(ask(&["--header", "content-type: application/sdp", "--data", "v=0", &url]), "400");
    assert_eq!(ask(&["--request", "DELETE", &format!("{url}/0123456789abcdef0123456789abcdef")]), "404");
}

/// RFC 9725, section 4.3: they change nothing, because peers come to us.
#[test]
fn candidates_that_trickle_in_are_taken_by_their_own_session() {
    let dev = Dev::start();
    let publisher = Peer::publish(&dev.origin, &["--silent"]);
    let [location, etag] = publisher.wait("the answer", |values| {
        let answer = values.iter().find(|value| value["answer"].is_string())?;
        Some(["location", "etag"].map(|header| answer[header].as_str().expect("a header").to_owned()))
    });
    let url = format!("{}{location}", dev.origin.http);
    let fragment = "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n";
    let patch = |tag: &str, key: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--request", "PATCH"])
            .args(["--header", "content-type: application/trickle-ice-sdpfrag", "--data-binary", fragment])
            .args(["--header", &format!("if-match: {tag}"), "--header", &format!("authorization: Bearer {key}")]);
        text(&run(10, curl.arg(&url)).stdout)
    };
    assert_eq!(patch(&etag, dev.origin.key()), "204");
    assert_eq!(patch("\"another\"", dev.origin.key()), "412");
    assert_eq!(patch(&etag, "Wr0ngKey"), "401");
}

/// Three seconds of each picture once, with the beeps beside them.
fn assert_in_sync(viewer: &Peer, frames_per_s: i64) -> Vec<Value> {
    let values = viewer.wait("four seconds, and beeps in them", |values| {
        (common::pictures(values).len() >= 110 && lags_ms(values, frames_per_s).len() >= 3).then(|| values.to_vec())
    });
    assert_each_once(&values);
    let lags = lags_ms(&values, frames_per_s);
    assert!(lags.iter().all(|lag| lag.abs() <= LAG_MS_MAX), "sound is beside its picture: {lags:?}");
    values
}
