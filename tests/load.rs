//! `hawker load` against real servers: ours, and one that isn't.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "how tests fail")]

mod common;

use std::{fs, net::TcpListener, process::Command};

use common::{Dev, Node, Ports, Process, hawker, run, run_ok, text};
use serde_json::Value;

/// Where a node's load streams are published and watched.
fn publish(node: &Node) -> String {
    node.publish_url.replace("/live/room", "/live/load-{n}")
}

/// Runs a load to its end; its report.
fn load(arguments: &[&str]) -> Value {
    let json = run_ok(40, hawker().arg("load").args(["--json", "-"]).args(arguments));
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// Everybody came, and nobody missed anything.
fn assert_flawless(viewers: &Value, count: u64) {
    for (field, expected) in
        [("joined", count), ("failed", 0), ("lost", 0), ("starved", 0), ("frames_lost", 0), ("events_lost", 0)]
    {
        assert_eq!(viewers[field], expected, "{field}: {viewers}");
    }
    // Up to 77 frames a second, for as long as the last one was there.
    assert!(viewers["frames"].as_u64().unwrap() > count * 60, "{viewers}");
    assert_eq!(viewers["join_ms"]["samples"], count);
    for what in ["join_ms", "latency_ms"] {
        let (p50, max) = (viewers[what]["p50"].as_f64().unwrap(), viewers[what]["max"].as_f64().unwrap());
        assert!(p50 > 0.0 && p50 <= max && max < 3000.0, "{what}: {viewers}");
    }
}

#[test]
fn viewers_of_flv_and_rtmp_at_origin_and_edge_get_every_frame_and_event() {
    let dev = Dev::start();
    let report = load(&[
        "--publish",
        &publish(&dev.origin),
        "--publishers=2",
        "--watch",
        &format!("{}/live/load-{{n}}.flv", dev.origin.http),
        "--watch",
        &format!("{}/live/load-{{n}}", dev.edge.rtmp),
        "--viewers=40",
        "--secs=5",
        "--churn=2",
        // The other half is read in turn.
        "--sample=2",
        "--events=4",
        "--api",
        &dev.origin.http,
        "--token",
        &dev.origin.api_token,
        "--pid",
        &std::process::id().to_string(),
    ]);
    let (publishers, viewers) = (&report["publishers"], &report["viewers"]);
    assert_eq!((&publishers["count"], &publishers["failed"], &publishers["lost"]), (&2.into(), &0.into(), &0.into()));
    assert!(publishers["events"].as_u64().unwrap() > 8 && publishers["events_refused"] == 0, "{publishers}");
    let count = viewers["count"].as_u64().unwrap();
    assert_eq!(count, 46, "40, and two a second until a second before the end: {viewers}");
    assert_flawless(viewers, count);
    assert!(viewers["events"].as_u64().unwrap() > 40 * 8, "{viewers}");
    let each: Vec<_> = report["watched"].as_array().unwrap().iter().map(|w| w["joined"].as_u64().unwrap()).collect();
    assert_eq!((each.len(), each.iter().sum::<u64>()), (2, count));
    let steady = &report["steady"];
    assert!(steady["secs"].as_f64().unwrap() > 1.0 && steady["frames"].as_u64().unwrap() > 0, "{steady}");
    // Two publishers, 77 frames a second each.
    let sent = steady["publisher_frames"].as_u64().unwrap() as f64 / steady["secs"].as_f64().unwrap();
    assert!((120.0..190.0).contains(&sent) && steady["publisher_bytes"].as_u64() > Some(0), "{sent}: {steady}");
    assert_eq!(report["servers"][0]["pid"], std::process::id());
    assert!(report["series"].as_array().unwrap().len() >= 8);
}

#[test]
fn whep_viewers_at_origin_and_edge_get_every_frame_and_event_of_whip_publishers() {
    let dev = Dev::start();
    let whep = |node: &Node| node.http.replace("http://", "whep://") + "/live/load-{n}";
    let (_, key) = dev.origin.publish_url.split_once('?').unwrap();
    let mut load = hawker();
    load.args(["load", "--json=-", "--publishers=2", "--viewers=20", "--secs=5", "--events=4", "--sample=2"]);
    load.args(["--publish", &format!("{}/whip/live/load-{{n}}?{key}", dev.origin.http)]);
    load.args(["--watch", &whep(&dev.origin), "--watch", &whep(&dev.edge)]);
    load.args(["--api", &dev.origin.http, "--token", &dev.origin.api_token]);
    load.args(["--fail-if", "frames_lost>0", "--fail-if", "joined!=20", "--fail-if", "events<1000"]);
    let output = run(40, &load);
    let report: Value =
        serde_json::from_str(&text(&output.stdout)).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let (publishers, viewers) = (&report["publishers"], &report["viewers"]);
    assert_eq!((&publishers["count"], &publishers["failed"], &publishers["lost"]), (&2.into(), &0.into(), &0.into()));
    // 80 frames a second, of which 50 are sound.
    assert!(publishers["frames"].as_u64().unwrap() > 2 * 5 * 75, "{publishers}");
    assert_flawless(viewers, 20);
    assert!(viewers["frames"].as_u64().unwrap() > 20 * 3 * 75, "picture and sound: {viewers}");
    assert!(viewers["events"].as_u64().unwrap() > 20 * 8, "{viewers}");
    // One of the conditions is so.
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(report["failed_if"].as_array().unwrap().len() == 1, "{report}");
    // What the publishers ended is over, and doesn't wait for them to come back.
    dev.server.stderr.wait_line("publisher gone");
    assert!(dev.log().contains("deleted"), "{}", dev.log());
}

#[test]
fn who_publishes_over_whip_with_a_wrong_key_or_plays_what_can_t_be_there_is_refused() {
    let dev = Dev::start();
    let publish = format!("{}/live/a?key=Wr0ng", dev.origin.http.replace("http://", "whip://"));
    let output = run(40, hawker().args(["load", "--secs=3", "--publish", &publish]));
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("none of the publishers was accepted"), "{said}");
    assert!(said.contains("401") && !said.contains("Wr0ng"), "{said}");

    let report =
        load(&["--watch", &format!("{}/whep/live/no-such-stream.avi", dev.edge.http), "--viewers=4", "--secs=3"]);
    let viewers = &report["viewers"];
    assert_eq!((&viewers["failed"], &viewers["joined"]), (&4.into(), &0.into()), "{viewers}");
    assert!(viewers["failures"].as_object().unwrap().keys().all(|reason| reason.contains("400")), "{viewers}");
}

#[test]
fn slow_viewers_and_a_storm_are_told_from_faults() {
    let dev = Dev::start();
    let report = load(&[
        "--publish",
        &publish(&dev.origin),
        "--watch",
        &format!("{}/live/load-{{n}}.flv", dev.origin.http),
        "--viewers=20",
        "--slow=50",
        "--storm=30@2",
        "--kbit-per-s=2000",
        "--secs=5",
    ]);
    assert_flawless(&report["viewers"], 50);
}

#[test]
fn slow_viewers_are_slow_even_if_they_are_few() {
    let dev = Dev::start();
    let watch = format!("{}/live/load-{{n}}.flv", dev.origin.http);
    let report = load(&[
        "--publish",
        &publish(&dev.origin),
        "--watch",
        &watch,
        "--viewers=4",
        "--slow=100",
        "--kbit-per-s=4000",
        "--gop-secs=1",
        "--secs=5",
    ]);
    let (sent, viewers) = (report["publishers"]["bytes"].as_u64().unwrap(), &report["viewers"]);
    assert_eq!((&viewers["joined"], &viewers["failed"]), (&4.into(), &0.into()), "{viewers}");
    let read = viewers["bytes"].as_u64().unwrap();
    assert!(read < 4 * sent / 2, "{read} of 4 x {sent}");
}

#[test]
fn what_goes_wrong_is_counted_by_its_reason() {
    let dev = Dev::start();
    let output = run(
        40,
        hawker().args(["load", "--json=-", "--viewers=4", "--secs=3", "--publish"]).arg(publish(&dev.origin)).args([
            "--watch",
            &format!("{}/live/no-such-stream.avi.flv", dev.origin.http),
            "--watch",
            "rtmp://127.0.0.1:1/live/load-{n}",
        ]),
    );
    let report: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    let viewers = &report["viewers"];
    assert_eq!((&viewers["failed"], &viewers["joined"]), (&4.into(), &0.into()), "{viewers}");
    assert_eq!(viewers["failures"].as_object().unwrap().len(), 2, "{viewers}");
    assert_eq!(text(&output.stderr).matches("a viewer failed").count(), 2, "each reason once");

    let refused = dev.origin.publish_url.replace("?key=", "?key=Wr0ng");
    let output = run(40, hawker().args(["load", "--secs=3", "--publish", &refused]));
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("none of the publishers was accepted") && !said.contains("Wr0ng"), "{said}");
}

#[test]
fn an_interrupt_ends_a_run_whose_publishers_still_wait_for_an_answer() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/a?key=k", deaf.local_addr().unwrap());
    let load = Process::spawn(hawker().args(["load", "--publish", &url]));
    let _connected = deaf.accept().unwrap();
    run_ok(5, Command::new("kill").args(["-INT", &load.pid().to_string()]));
    load.stdout.wait_line("publishers ");
}

#[test]
fn nginx_rtmp_is_measured_too() {
    let (folder, ports) = (tempfile::tempdir().unwrap(), Ports::reserve());
    let config = folder.path().join("nginx.conf");
    let listen = format!("listen 127.0.0.1:{}; application live {{ live on; }}", ports.base());
    let text = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so; daemon off; master_process off; pid nginx.pid;
         error_log stderr info; events {{}} rtmp {{ access_log off; server {{ {listen} }} }}"
    );
    fs::write(&config, text).unwrap();
    let nginx = Process::spawn(Command::new("nginx").arg("-p").arg(folder.path()).arg("-c").arg(&config));
    nginx.stderr.wait_line("using the \"epoll\" event method");
    let url = format!("rtmp://127.0.0.1:{}/live/load-{{n}}", ports.base());
    let report =
        load(&["--publish", &url, "--publishers=2", "--watch", &url, "--viewers=20", "--secs=4", "--gop-secs=1"]);
    assert_flawless(&report["viewers"], 20);
}
