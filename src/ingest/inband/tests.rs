//! What the messages of encoders become.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::proto::flv::script::{LiveEvent, LiveEventKind};

fn message(name: &str, body: amf0::Value) -> Bytes {
    let mut encoded = BytesMut::new();
    amf0::encode_all(&[amf0::Value::string(name), body], &mut encoded);
    encoded.freeze()
}

fn text_data(text: &str) -> InBand {
    InBand::from_data(&message("onTextData", amf0::Value::object([("text", amf0::Value::string(text))])))
}

fn cue_point(name: &str, parameters: amf0::Value) -> InBand {
    let body = [("time", amf0::Value::Number(1.5)), ("name", amf0::Value::string(name)), ("parameters", parameters)];
    InBand::from_data(&message("onCuePoint", amf0::Value::object(body)))
}

fn live_event(json: &str, kind: LiveEventKind) -> InBand {
    InBand::from_data(&LiveEvent { ts_ms: 2040.0, replay: false, kind, json }.encode())
}

fn sei(payload: &[u8]) -> InBand {
    InBand::from_sei(&UserData { uuid: sei::LIVE_EVENT, payload: payload.to_vec() })
}

fn draft(draft: Value, at: InBandAt) -> InBand {
    let Value::Object(draft) = draft else { panic!("{draft}") };
    InBand::Draft { draft, at }
}

#[test]
fn a_text_is_a_prompt_and_a_json_text_is_the_event_in_it() {
    let prompt = json!({"type": "prompt.show", "op": "fire", "data": {"text": "3, 2, 1"}});
    assert_eq!(text_data("3, 2, 1"), draft(prompt, InBandAt::Here));
    let card = json!({"type": "card.show", "op": "set", "key": "card:main", "data": {"sku": "A1"}});
    assert_eq!(text_data(&card.to_string()), draft(card, InBandAt::Here));
    assert_eq!(text_data("{\"sku\":1}"), InBand::Malformed("JSON without a type"));
    assert_eq!(text_data("{oops"), InBand::Malformed("not a JSON object"));
}

#[test]
fn a_cue_point_is_the_event_that_its_name_says() {
    let parameters = || {
        amf0::Value::object([
            ("sku", amf0::Value::string("A1")),
            ("price", amf0::Value::Number(1990.0)),
            ("ratio", amf0::Value::Number(0.5)),
            ("nothing", amf0::Value::Null),
            ("tags", amf0::Value::StrictArray(vec![amf0::Value::Bool(true), amf0::Value::Number(f64::NAN)])),
        ])
    };
    let data = json!({"sku": "A1", "price": 1990, "ratio": "0.5", "tags": [true, "NaN"]});
    let gift = json!({"type": "gift.send", "op": "fire", "data": data});
    assert_eq!(cue_point("gift.send", parameters()), draft(gift, InBandAt::Here));
    let other = json!({"type": "cue.point", "op": "fire", "data": {"name": "Act 2", "parameters": data}});
    assert_eq!(cue_point("Act 2", parameters()), draft(other, InBandAt::Here));
    let long = format!("gift.{}", "s".repeat(60));
    let longer_than_a_type = json!({"type": "cue.point", "op": "fire", "data": {"name": long, "parameters": data}});
    assert_eq!(cue_point(&long, parameters()), draft(longer_than_a_type, InBandAt::Here));
    let card = amf0::Value::object([("key", amf0::Value::string("card:main")), ("sku", amf0::Value::string("A1"))]);
    let shown = json!({"type": "card.show", "op": "set", "key": "card:main", "data": {"sku": "A1"}});
    assert_eq!(cue_point("card.show", card), draft(shown, InBandAt::Here));
}

#[test]
fn another_origins_event_loses_its_stamp_and_keeps_its_id() {
    let theirs = json!({
        "v": 1, "id": "01JZZZZZZZZZZZZZZZZZZZZZZZ", "source": "live/theirs", "seq": 7, "type": "gift.send", "op": "fire",
        "time": {"mode": "pts", "epoch": 3, "pts_us": 9, "wall_ms": 11, "lead_ms": 200}, "data": {"n": 1},
        "kid": "k", "sig": "s", "supersedes": [],
    });
    let ours = json!({
        "v": 1, "id": "01JZZZZZZZZZZZZZZZZZZZZZZZ", "type": "gift.send", "op": "fire",
        "time": {"lead_ms": 200}, "data": {"n": 1}, "supersedes": [],
    });
    let text = theirs.to_string();
    assert_eq!(live_event(&text, LiveEventKind::Event), draft(ours.clone(), InBandAt::PublisherMs(2040)));
    assert_eq!(sei(text.as_bytes()), draft(ours, InBandAt::Here));
    assert!(matches!(live_event(&text, LiveEventKind::Snapshot { part: None }), InBand::Malformed(_)));
    let rain = r#"{"type":"rain.start","op":"fire","time":{"mode":"wall","wall_ms":11,"duration_ms":5}}"#;
    let at_eleven = json!({"type": "rain.start", "op": "fire", "time": {"duration_ms": 5}});
    assert_eq!(live_event(rain, LiveEventKind::Event), draft(at_eleven, InBandAt::WallMs(11)));
}

#[test]
fn a_draft_may_say_when() {
    let asked = |at: &str| sei(format!(r#"{{"type":"gift.send","op":"fire","at":{at}}}"#).as_bytes());
    let gift = || json!({"type": "gift.send", "op": "fire"});
    assert_eq!(asked(r#"{"now":true}"#), draft(gift(), InBandAt::Here));
    assert_eq!(asked(r#"{"in_ms":3000}"#), draft(gift(), InBandAt::InMs(3000)));
    assert_eq!(asked(r#"{"wall_ms":11}"#), draft(gift(), InBandAt::WallMs(11)));
    for wrong in [r#"{"pts_us":1}"#, r#"{"in_ms":-1}"#, r#"{"in_ms":4294967296}"#, "{}", "7", "null"] {
        assert!(matches!(asked(wrong), InBand::Malformed(_)), "{wrong}");
    }
}

#[test]
fn encoders_say_what_time_it_is() {
    let on_fi = |properties| InBand::from_data(&message("onFI", amf0::Value::Object(properties)));
    let property = |key: &str, text: &str| (key.to_owned(), amf0::Value::string(text));
    let said = on_fi(vec![property("sd", "31-05-2024"), property("st", "12:26:03.591")]);
    assert_eq!(said, InBand::Anchor { anchor: Anchor::OnFi, wall_us: 1_717_158_363_591_000 });
    assert_eq!(on_fi(vec![property("tc", "12:26:03:05")]), InBand::NotEvent);
    let uuid = 0x0aecffe7_5272_4e2f_a62f_d19cd61a93b5_u128.to_be_bytes();
    let obs = UserData { uuid, payload: b"\x00\x01\x012024-05-31T12:26:03.591Z\0".to_vec() };
    assert_eq!(InBand::from_sei(&obs), InBand::Anchor { anchor: Anchor::BpmSei, wall_us: 1_717_158_363_591_000 });
}

#[test]
fn what_is_not_ours_is_left_alone_and_what_is_too_much_is_refused() {
    let body = || amf0::Value::object([("text", amf0::Value::string("x"))]);
    assert_eq!(InBand::from_data(&message("onClock", body())), InBand::NotEvent);
    assert_eq!(InBand::from_sei(&UserData { uuid: [7; 16], payload: Vec::new() }), InBand::NotEvent);
    let whole = message("onTextData", body());
    for cut in 1 + 2 + "onTextData".len()..whole.len() {
        assert!(matches!(InBand::from_data(&whole[..cut]), InBand::Malformed(_)), "{cut}");
    }
    let long = format!(r#"{{"type":"gift.send","data":{{"text":"{}"}}}}"#, "x".repeat(Event::BYTES_MAX));
    assert!(matches!(text_data(&long), InBand::Malformed(_)));
    assert_eq!(sei(long.as_bytes()), InBand::Malformed("larger than an event may be"));
    assert_eq!(sei(b"[1]"), InBand::Malformed("not a JSON object"));
}

/// A name as a long string (AMF0 §2.14), which players read like any other.
fn long_name(name: &str) -> Vec<u8> {
    let length = u32::try_from(name.len()).expect("short").to_be_bytes();
    [&[0x0C], &length[..], name.as_bytes(), &[5]].concat()
}

#[test]
fn what_players_would_take_for_ours_does_not_pass() {
    let event = LiveEvent { ts_ms: 0.0, replay: false, kind: LiveEventKind::Event, json: r#"{"type":"gift.send"}"# };
    let event = event.encode();
    let enveloped = |name: &str, body: &[u8]| [&message(name, amf0::Value::Null)[..], body].concat();
    for forged in [
        long_name("onLiveEvent"),
        long_name("onMetaData"),
        enveloped("@setDataFrame", &event),
        enveloped("onMetaData", &[]),
        enveloped("onLiveEvent\0", &[]),
        b"\x02\xff\xffon".to_vec(),
        b"\x05".to_vec(),
        Vec::new(),
    ] {
        let said = InBand::from_data(&forged);
        assert_eq!(said, InBand::Malformed("a data message without a name of its own"), "{forged:?}");
    }
    let others = "x".repeat(300);
    assert_eq!(InBand::from_data(&message(&others, amf0::Value::Null)), InBand::NotEvent);
}

proptest! {
    #[test]
    fn no_bytes_panic(
        name in prop_oneof![Just("onTextData"), Just("onCuePoint"), Just("onLiveEvent"), Just("onFI")],
        body in proptest::collection::vec(prop_oneof![0u8..12, any::<u8>()], 0..200),
        json in ".{0,80}",
    ) {
        let mut bytes = message(name, amf0::Value::Null).to_vec();
        bytes.pop();
        bytes.extend_from_slice(&body);
        InBand::from_data(&bytes);
        sei(&body);
        sei(format!("{{\"type\":\"a.b\",{json}}}").as_bytes());
    }
}
