//! The envelope against the signed vectors, and what it refuses.

use serde_json::json;

use super::*;

fn good() -> Value {
    json!({"v":1,"id":"01KAMVFYHGM9S346Q3D25VT4F5","source":"live/room","seq":7,"type":"card.show","op":"set",
        "key":"card:main","target":{"scope":"room"},"time":{"mode":"pts","pts_us":40000,"epoch":0},"data":{"sku":"A"}})
}

fn with(pointer: &str, key: &str, value: Value) -> Result<Event, BadEvent> {
    let mut event = good();
    event.pointer_mut(pointer).and_then(Value::as_object_mut).expect("a map").insert(key.into(), value);
    Event::from_json(event.to_string().as_bytes())
}

#[test]
fn signed_vectors_keep_their_canonical_bytes() {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/data/event_vectors.json")).expect("json");
    let events = vectors["events"].as_array().expect("events");
    let canonical = vectors["canonical"].as_array().expect("canonical");
    assert_eq!(events.len(), 14);
    for (event, canonical) in events.iter().zip(canonical) {
        let spaced = serde_json::to_vec_pretty(event).expect("json");
        let parsed = Event::from_json(&spaced).expect("vector");
        assert_eq!(parsed.json, canonical.as_str().expect("text").as_bytes());
    }
}

#[test]
fn each_breach_names_its_field() {
    assert_eq!(Event::from_json(good().to_string().as_bytes()).expect("good").pts_us(), Some(40_000));
    let mut deep = json!(1);
    for _ in 0..7 {
        deep = json!([deep]);
    }
    let cases = [
        (with("", "v", json!(2)), "/v"),
        (with("", "id", json!("nope")), "/id"),
        (with("", "source", json!("a b")), "/source"),
        (with("", "type", json!("Card.Show")), "/type"),
        (with("", "type", json!("cardshow")), "/type"),
        (with("", "key", json!("")), "/key"),
        (with("", "key", json!("k".repeat(65))), "/key"),
        (with("", "data", json!([])), "/data"),
        (with("/data", "price", json!(1.5)), "/data/price"),
        (with("/data", "n", json!(1u64 << 53)), "/data/n"),
        (with("/data", "n", json!(i64::MIN)), "/data/n"),
        (with("/data", "s", json!("x".repeat(513))), "/data/s"),
        (with("/data", "x", Value::Null), "/data/x"),
        (with("/data", "x", deep), "/data/x/0/0/0/0/0/0/0"),
        (with("/data", "é", json!(1)), "/data"),
    ];
    for (result, at) in cases {
        match result {
            Err(BadEvent::Field { pointer, .. }) => assert_eq!(pointer, at),
            other => panic!("{at}: {other:?}"),
        }
    }
    let mut unkeyed = good();
    unkeyed.as_object_mut().expect("map").remove("key");
    assert!(matches!(Event::from_json(unkeyed.to_string().as_bytes()), Err(BadEvent::Field { .. })));
    assert!(matches!(with("", "op", json!("merge")), Err(BadEvent::Malformed(_))));
    let wide: Vec<String> = (0..10).map(|_| "y".repeat(500)).collect();
    assert_eq!(with("/data", "wide", json!(wide)), Err(BadEvent::TooLarge));
    assert!(matches!(Event::from_json(b"[1]"), Err(BadEvent::Field { .. })));
}

#[test]
fn unknown_fields_travel_on() {
    let event = with("", "x_shop", json!({"b":1,"a":"\u{1f}é\"\\"})).expect("kept");
    let text = std::str::from_utf8(&event.json).expect("utf-8");
    assert!(text.ends_with(r#""v":1,"x_shop":{"a":"\u001fé\"\\","b":1}}"#), "{text}");
}
