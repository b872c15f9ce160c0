//! WebRTC over links that lose, delay and reorder packets: what is lost is asked for again, and events stay in order.
//! A message that is lost comes a retransmission later, so events that must not be late have a lead.

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{Dev, Impairment, Link, Node, Peer, browser, frame_0_us, publish_numbered, run, text};
use serde_json::{Value, json};

/// A mobile network on a fair day: 50 ms there and back.
const FAIR: Impairment = Impairment {
    seed: 7,
    loss_percent: 2.0,
    delay: Duration::from_millis(25),
    jitter: Duration::from_millis(10),
    reorder_percent: 1.0,
    corrupt_percent: 0.0,
    bits_per_s: None,
};

/// One on a bad day.
const BAD: Impairment = Impairment { loss_percent: 5.0, jitter: Duration::from_millis(30), ..FAIR };

/// A link in front of a node's WebRTC port.
fn link(node: &Node, impairment: Impairment) -> (Link, String) {
    let target: SocketAddr = node.webrtc.parse().unwrap();
    let link = Link::start(target, impairment);
    let via = link.addr.to_string();
    (link, via)
}

#[test]
fn a_viewer_on_a_fair_link_misses_next_to_nothing() {
    let dev = Dev::start();
    let _ffmpeg = publish_numbered(&dev.origin.publish_url);
    let (link, via) = link(&dev.edge, FAIR);
    let viewer = Peer::play(&dev.edge, &["--via", &via]);
    viewer.wait("its data channel", |values| values.iter().any(|value| value["channel"] == "open").then_some(()));
    let sent: Vec<Value> = (0..5)
        .map(|n| {
            let at = json!({"in_ms": 1500 + 1000 * n});
            let card =
                json!({"type": "card.show", "data": {"sku": n.to_string()}, "at": at, "time": {"lead_ms": 1000}});
            dev.send_event(&card)
        })
        .collect();
    let values = viewer.wait_pictures(250);
    let (carried, lost) = link.carried_and_lost();
    assert!(lost * 200 > carried, "the link lost {lost} of {carried}: no test of anything");
    let stats = &values.iter().rfind(|value| !value["stats"].is_null()).unwrap()["stats"];
    assert!(stats["nacks"].as_u64() > Some(0), "{stats}");
    assert_shown(&values, 0.995);
    assert_fired(&values, &sent);
}

#[test]
fn a_viewer_on_a_bad_link_goes_on() {
    let dev = Dev::start();
    let _ffmpeg = publish_numbered(&dev.origin.publish_url);
    let (_link, via) = link(&dev.edge, BAD);
    let viewer = Peer::play(&dev.edge, &["--via", &via]);
    viewer.wait("its data channel", |values| values.iter().any(|value| value["channel"] == "open").then_some(()));
    let sent = [dev.send_event(
        &json!({"type": "card.show", "data": {"sku": "1"}, "at": {"in_ms": 2000}, "time": {"lead_ms": 1000}}),
    )];
    let values = viewer.wait_pictures(250);
    assert_shown(&values, 0.8);
    assert_fired(&values, &sent);
}

/// Chromium judges as it does without loss: each event on the very picture, or on the first that it shows after it.
#[test]
fn chromium_on_a_fair_link_fires_events_in_time() {
    let dev = Dev::start();
    let _ffmpeg = publish_numbered(&dev.origin.publish_url);
    let frame_0_us = frame_0_us(&dev.edge, 40_000).to_string();
    let (link, via) = link(&dev.edge, FAIR);
    let mut driver = browser("whep.mjs");
    driver
        .args(["--http", &dev.edge.http, "--stream", "live/room", "--frame-0-us", &frame_0_us, "--via", &via])
        .args(["--api", &dev.origin.http, "--token", &dev.origin.api_token]);
    let output = run(60, &driver);
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(link.carried_and_lost().1 > 0, "no test of anything");
}

#[test]
fn a_publisher_on_a_fair_link_is_asked_for_what_was_lost() {
    let dev = Dev::start();
    let (link, via) = link(&dev.origin, FAIR);
    let publisher = Peer::publish(&dev.origin, &["--via", &via]);
    publisher.wait("a second of it", |values| values.iter().any(|value| value["sent"] == 30).then_some(()));
    let viewer = Peer::av(&dev.edge.flv_url());
    let values = viewer.wait_pictures(240);
    let (carried, lost) = link.carried_and_lost();
    assert!(lost * 200 > carried, "the link lost {lost} of {carried}: no test of anything");
    publisher
        .wait("NACKs", |values| values.iter().any(|value| value["feedback"]["nack"].as_u64() > Some(0)).then_some(()));
    assert_shown(&values, 0.99);
}

/// No more than `1 - share` of the pictures between the first and the last is missing, and none is damaged or late.
fn assert_shown(values: &[Value], share: f64) {
    let pictures = common::pictures(values);
    let numbers: Vec<i64> = pictures.iter().map(|picture| picture.number.expect("a readable picture")).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    let all = numbers[numbers.len() - 1] - numbers[0] + 1;
    let shown = numbers.len() as f64 / all as f64;
    assert!(shown >= share, "{} of {all} pictures", numbers.len());
}

/// Each event came once and in order, and fired on the first picture that was shown at or after its own.
fn assert_fired(values: &[Value], sent: &[Value]) {
    let live = values.iter().filter_map(|value| value.get("message")).filter(|message| message["rp"] == 0);
    let live: Vec<_> = live.map(|message| &message["ev"]).filter(|event| event["type"] == "card.show").collect();
    assert_eq!(live, sent.iter().collect::<Vec<_>>(), "each once, in order, as it was stamped");
    for event in sent {
        let fired = values.iter().find(|value| value["fired"] == event["id"]);
        let fired = fired.unwrap_or_else(|| panic!("{event} did not fire"));
        let late = common::pictures(values).into_iter().filter(|picture| {
            let from_event = (picture.time - fired["event_rtp"].as_i64().unwrap()).rem_euclid(1 << 32) < 1 << 31;
            from_event && picture.number < fired["number"].as_i64()
        });
        assert_eq!(late.count(), 0, "{fired} fired after its picture");
    }
}
