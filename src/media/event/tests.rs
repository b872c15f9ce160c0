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
        (with("", "type", json!(format!("card.{}", "s".repeat(60)))), "/type"),
        (with("", "key", json!("")), "/key"),
        (with("", "key", json!("k".repeat(65))), "/key"),
        (with("", "key", json!("a\u{1}b")), "/key"),
        (with("/data", "a/b~", json!(1.5)), "/data/a~1b~0"),
        (with("", "data", json!([])), "/data"),
        (with("/data", "price", json!(1.5)), "/data/price"),
        (with("/data", "n", json!(1u64 << 53)), "/data/n"),
        (with("/data", "n", json!(i64::MIN)), "/data/n"),
        (with("/data", "s", json!("x".repeat(513))), "/data/s"),
        (with("/data", "x", Value::Null), "/data/x"),
        (with("/data", "x", deep), "/data/x/0/0/0/0/0/0/0"),
        (with("/data", "é", json!(1)), "/data"),
        (with("", "op", json!("merge")), "/op"),
        (with("", "kid", json!(1)), "/kid"),
        (with("", "supersedes", json!(["x"])), "/supersedes/0"),
        (with("", "supersedes", json!(vec!["01KAMVFYHGM9S346Q3D25VT4F5"; 17])), "/supersedes"),
        (with("", "target", json!({"scope": "town"})), "/target/scope"),
        (with("", "time", json!({"mode": "pts"})), "/time/pts_us"),
        (with("", "time", json!({"mode": "wall"})), "/time/wall_ms"),
        (with("/time", "lead_ms", json!(-1)), "/time/lead_ms"),
    ];
    for (result, at) in cases {
        match result {
            Err(BadEvent::Field { pointer, .. }) => assert_eq!(pointer, at),
            other => panic!("{at}: {other:?}"),
        }
    }
    for missing in ["v", "id", "source", "seq", "type", "op", "key", "time"] {
        let mut event = good();
        event.as_object_mut().expect("map").remove(missing);
        let refused = Event::from_json(event.to_string().as_bytes());
        assert!(
            matches!(&refused, Err(BadEvent::Field { pointer, .. }) if *pointer == format!("/{missing}")),
            "{refused:?}"
        );
    }
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

#[test]
fn an_event_is_told_ahead_of_its_time_and_fires_at_it() {
    let event = |time: Value| with("", "time", time).expect("an event");
    let at = |pts_us, wall_ms| Moment { pts_us, wall_ms };
    let pts = event(json!({"mode": "pts", "pts_us": 5_000_000, "wall_ms": 1, "lead_ms": 2000}));
    assert!(!pts.is_announced(at(2_999_999, 9)) && pts.is_announced(at(3_000_000, 0)));
    assert!(!pts.has_fired(at(4_999_999, 9)) && pts.has_fired(at(5_000_000, 0)), "the estimate fires nothing");
    let wall = event(json!({"mode": "wall", "wall_ms": 50_000}));
    assert!(
        !wall.is_announced(at(0, 39_999)) && wall.is_announced(at(0, 40_000)),
        "the slowest egress gets it in time"
    );
    assert!(!wall.has_fired(at(i64::MAX, 49_999)) && wall.has_fired(at(0, 50_000)));
    assert!(event(json!({"mode": "asap"})).has_fired(Moment::default()));
    let late = |expires_ms: i64| event(json!({"mode": "wall", "wall_ms": 100, "expires_ms": expires_ms}));
    assert!(late(100).expires_before_it_fires() && !late(101).expires_before_it_fires());
}

#[test]
fn a_one_shot_runs_for_its_duration_unless_its_type_is_never_replayed() {
    let fire = |kind: &str, time: Value| {
        let mut event = good();
        let map = event.as_object_mut().expect("map");
        map.remove("key");
        map.extend([("type".into(), kind.into()), ("op".into(), "fire".into()), ("time".into(), time)]);
        Event::from_object(map.clone()).expect("an event")
    };
    let at = |wall_ms| Moment { pts_us: 0, wall_ms };
    let rain = fire("rain.start", json!({"mode": "wall", "wall_ms": 100, "duration_ms": 50}));
    assert!(rain.is_running(at(149)) && !rain.is_running(at(150)));
    let cut = fire("rain.start", json!({"mode": "wall", "wall_ms": 100, "duration_ms": 50, "expires_ms": 120}));
    assert!(cut.is_running(at(119)) && !cut.is_running(at(120)));
    let prompt = fire("prompt.show", json!({"mode": "wall", "wall_ms": 100, "duration_ms": 50}));
    assert!(!prompt.is_running(at(110)), "who joins later is not asked");
    assert!(fire("fair.parade", json!({"mode": "wall", "wall_ms": 100, "duration_ms": 50})).is_running(at(110)));
}
