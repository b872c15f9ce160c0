//! A real Chromium watches the edge: hawker's own page over MoQ, WebRTC and HTTP-FLV, and mpegts.js by itself;
//! xgplayer's demuxer does without a browser.

mod common;

use std::process::Command;

use common::{Dev, publish, run, text};

#[test]
fn the_page_plays_over_moq_and_shows_cards_with_their_frame() {
    watch("play.mjs", &["--over", "moq"]);
}

#[test]
fn the_page_plays_over_webrtc_and_shows_cards_with_their_frame() {
    watch("play.mjs", &["--over", "whep"]);
}

#[test]
fn the_page_plays_over_flv_and_shows_cards_with_their_frame() {
    watch("play.mjs", &["--over", "flv"]);
}

#[test]
fn mpegts_js_plays_flv_and_gets_events_as_script_data() {
    watch("mpegts.mjs", &[]);
}

#[test]
fn the_demuxer_of_xgplayer_reads_events_among_the_script_tags() {
    watch("xgplayer.mjs", &[]);
}

/// Publishes to the origin, and runs a driver of `tests/browser` against the edge. It judges; this reports.
fn watch(driver: &str, more: &[&str]) {
    let dev = Dev::start();
    let _anchor = publish(&dev.origin.publish_url);
    let mut node = Command::new("node");
    node.arg(format!("{}/tests/browser/{driver}", env!("CARGO_MANIFEST_DIR")))
        .args(["--http", &dev.edge.http, "--stream", "live/room"])
        .args(["--api", &dev.origin.http, "--token", &dev.origin.api_token])
        .args(more);
    let output = run(80, &node);
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}
