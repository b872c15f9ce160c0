//! The API of a running `hawker dev`, called by software that knows only its OpenAPI document, and by curl.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "how tests fail")]

mod common;

use std::{path::Path, process::Command};

use common::{Dev, Process, publish, run, run_ok, text};
use serde_json::{Value, json};

/// curl as a caller with the origin's token.
fn curl(dev: &Dev) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--no-buffer", "--max-time", "30"])
        .args(["--header", &format!("authorization: Bearer {}", dev.origin.api_token)]);
    curl
}

#[test]
fn the_api_does_what_its_document_says() {
    let dev = Dev::start();
    let _anchor = publish(&dev.origin.publish_url);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut schemathesis = Command::new(root.join(".venv/bin/schemathesis"));
    schemathesis
        .arg("--config-file")
        .arg(root.join("tests/peers/schemathesis.toml"))
        .args(["run", &format!("{}/v1/openapi.json", dev.origin.http), "--no-color", "--generation-database", "none"])
        .args(["--header", &format!("authorization: Bearer {}", dev.origin.api_token)])
        .args(["--seed", "1", "--max-examples", "20", "--phases", "examples,coverage,fuzzing"])
        .args(["--checks", CHECKS, "--request-timeout", "5", "--suppress-health-check", "all"])
        // A reply without an end is curl's part, below.
        .args(["--exclude-path-regex", "/events/stream$"]);
    let output = run(80, &schemathesis);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!dev.log().contains("panicked"), "{}", dev.log());
}

/// What schemathesis looks for in every reply. Not `ignored_auth`: it would be taken for someone who guesses tokens.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
    response_headers_conformance,unsupported_method,allow_header_conformance";

#[test]
fn an_event_is_followed_where_it_was_sent_and_an_edge_sends_callers_to_its_origin() {
    let mut dev = Dev::start();
    let _anchor = publish(&dev.origin.publish_url);
    let room = format!("{}/v1/streams/live/room", dev.origin.http);
    let follower = Process::spawn(curl(&dev).args(["--include", &format!("{room}/events/stream?since=0")]));
    dev.server.stderr.wait_line("event stream began");
    let card = json!({"type": "card.show", "op": "set", "key": "card:main", "data": {"sku": "SKU-1"}});
    let sent = dev.send_event(&card);
    follower.stdout.wait_line("content-type: text/event-stream");
    follower.stdout.wait_line(&format!("id: {}", sent["seq"]));
    follower.stdout.wait_line("event: card.show");
    follower.stdout.wait_line(&format!("data: {sent}"));
    // It is in the state from its frame on.
    let is_set = || {
        let state: Value = serde_json::from_str(&run_ok(5, curl(&dev).arg(format!("{room}/state")))).unwrap();
        state["events"].as_array().unwrap().contains(&sent)
    };
    assert!((0..200).any(|_| is_set()), "the card is not in the state");
    let log = run_ok(5, curl(&dev).arg(format!("{room}/events")));
    let line = sent.to_string();
    assert!(log.lines().any(|logged| logged == line), "{log}");

    let mut elsewhere = curl(&dev);
    elsewhere.args(["--header", "content-type: application/json", "--data", &card.to_string()]);
    elsewhere.args(["--write-out", "\n%{http_code}", &format!("{}/v1/streams/live/room/events", dev.edge.http)]);
    assert!(run_ok(5, &elsewhere).ends_with("\n421"));

    // The stream has no end of its own: the server's end must not wait for it.
    assert_eq!(dev.server.terminate(), Some(0));
}
