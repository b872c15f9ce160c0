//! CloudEvents 1.0 as another way to write a draft.
//!
//! | CloudEvent | draft |
//! | --- | --- |
//! | `id` | `id`; one that is no ULID becomes the same ULID each time |
//! | `source` | `/` and the stream's name, or absent |
//! | `type`, `data` | the same |
//! | `subject` | `key` |
//! | `time` | `at.wall_ms` |
//! | `expirytime` | `time.expires_ms` |
//! | `op` | the same; left out, the type decides |
//! | `inms`, `ptsus` | `at.in_ms`, `at.pts_us`; they win over `time`, which libraries fill in by themselves |
//! | `durationms`, `leadms` | `time.duration_ms`, `time.lead_ms` |
//!
//! Integers may be strings, as they are in HTTP headers. Other attributes stay in the event as they are.

use axum::http::HeaderMap;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use ulid::Ulid;

use super::draft::derived_id;
use crate::media::{StreamName, event::BadEvent};

/// The draft that a CloudEvent stands for.
pub(super) fn to_draft(event: Value, name: &StreamName) -> Result<Value, BadEvent> {
    let Value::Object(mut event) = event else {
        return Err(BadEvent::field("", "a CloudEvent is a JSON object"));
    };
    check_form(&mut event)?;
    let source = format!("/{name}");
    if event.remove("source").is_some_and(|given| given != source.as_str()) {
        return Err(BadEvent::field("/source", "must be / and the name of the stream"));
    }
    let id = match event.get("id").and_then(Value::as_str) {
        None | Some("") => return Err(BadEvent::field("/id", "must be a text that is not empty")),
        Some(id) => id.parse().unwrap_or_else(|_| derived_id(&["cloudevent", &source, id])),
    };
    event.insert("id".into(), Ulid::to_string(&id).into());
    if let Some(subject) = event.remove("subject") {
        event.insert("key".into(), subject);
    }
    let wall = take_time(&mut event, "time")?.map(|ms| json!({"wall_ms": ms}));
    let pts = take_integer(&mut event, "ptsus")?.map(|us| json!({"pts_us": us}));
    let soon = take_integer(&mut event, "inms")?.map(|ms| json!({"in_ms": ms}));
    let time = [
        ("expires_ms", take_time(&mut event, "expirytime")?),
        ("duration_ms", take_integer(&mut event, "durationms")?),
        ("lead_ms", take_integer(&mut event, "leadms")?),
    ];
    let time: Map<String, Value> =
        time.into_iter().filter_map(|(key, ms)| Some((key.to_owned(), ms?.into()))).collect();
    if !time.is_empty() {
        event.insert("time".into(), time.into());
    }
    if let Some(at) = soon.or(pts).or(wall) {
        event.insert("at".into(), at);
    }
    Ok(Value::Object(event))
}

/// Takes out what only says that this is a CloudEvent, and refuses what can't be one of ours.
fn check_form(event: &mut Map<String, Value>) -> Result<(), BadEvent> {
    if event.remove("specversion") != Some("1.0".into()) {
        return Err(BadEvent::field("/specversion", "must be \"1.0\""));
    }
    let json = |content_type: &Value| content_type.as_str().is_some_and(|text| text.starts_with("application/json"));
    if event.remove("datacontenttype").is_some_and(|content_type| !json(&content_type)) {
        return Err(BadEvent::field("/datacontenttype", "must be application/json"));
    }
    if event.contains_key("data_base64") {
        return Err(BadEvent::field("/data_base64", "an event's data is a JSON object"));
    }
    if event.contains_key("sequence") {
        return Err(BadEvent::field("/sequence", "is given by the origin"));
    }
    match ["key", "at"].into_iter().find(|field| event.contains_key(*field)) {
        Some("key") => Err(BadEvent::field("/key", "is `subject` in a CloudEvent")),
        Some(_) => Err(BadEvent::field("/at", "is `time`, `inms` or `ptsus` in a CloudEvent")),
        None => Ok(()),
    }
}

/// A CloudEvent in HTTP's binary mode: the attributes are `ce-` headers, the body is the data.
pub(super) fn from_binary(headers: &HeaderMap, data: Value) -> Value {
    let attribute = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let name = name.as_str().strip_prefix("ce-")?.to_owned();
        Some((name, value.to_str().ok()?.into()))
    };
    let attributes = headers.iter().filter_map(attribute);
    Value::Object(attributes.chain([("data".to_owned(), data)]).collect())
}

/// True for a request in binary mode.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// What is wrong, by the CloudEvent's own names.
pub(super) fn in_its_terms(bad: BadEvent) -> BadEvent {
    let BadEvent::Field { pointer, reason } = bad else { return bad };
    let pointer = match pointer.as_str() {
        "/key" => "/subject".to_owned(),
        "/at/wall_ms" | "/time/wall_ms" => "/time".to_owned(),
        "/at/in_ms" => "/inms".to_owned(),
        "/at/pts_us" | "/time/pts_us" => "/ptsus".to_owned(),
        "/time/expires_ms" => "/expirytime".to_owned(),
        "/time/duration_ms" => "/durationms".to_owned(),
        "/time/lead_ms" => "/leadms".to_owned(),
        _ => pointer,
    };
    BadEvent::Field { pointer, reason }
}

/// An RFC 3339 attribute in UTC milliseconds.
fn take_time(event: &mut Map<String, Value>, attribute: &str) -> Result<Option<i64>, BadEvent> {
    let Some(value) = event.remove(attribute) else { return Ok(None) };
    let time = value.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let ms = time.and_then(|time| i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok());
    ms.map(Some).ok_or_else(|| BadEvent::field(format!("/{attribute}"), "must be a time as of RFC 3339"))
}

fn take_integer(event: &mut Map<String, Value>, attribute: &str) -> Result<Option<i64>, BadEvent> {
    let Some(value) = event.remove(attribute) else { return Ok(None) };
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    number.map(Some).ok_or_else(|| BadEvent::field(format!("/{attribute}"), "must be an integer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> StreamName {
        "live/room".parse().expect("a name")
    }

    fn sale() -> Value {
        json!({
            "specversion": "1.0", "id": "order-1", "source": "/live/room", "type": "sale.start", "subject": "sale:F1",
            "time": "2026-11-11T20:00:00.250+08:00", "expirytime": "2026-11-11T12:05:00Z", "op": "set",
            "datacontenttype": "application/json", "data": {"price_minor": 100}, "traceparent": "00-ab",
        })
    }

    fn with(attribute: &str, value: Value) -> Value {
        let mut event = sale();
        event.as_object_mut().expect("an object").insert(attribute.into(), value);
        event
    }

    #[test]
    fn each_attribute_becomes_its_field() {
        let draft = to_draft(sale(), &room()).expect("a CloudEvent");
        let id = derived_id(&["cloudevent", "/live/room", "order-1"]).to_string();
        let expected = json!({
            "id": id, "type": "sale.start", "key": "sale:F1", "op": "set", "at": {"wall_ms": 1_794_398_400_250_i64},
            "time": {"expires_ms": 1_794_398_700_000_i64}, "data": {"price_minor": 100}, "traceparent": "00-ab",
        });
        assert_eq!(draft, expected);
        let ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(to_draft(with("id", json!(ulid)), &room()).expect("a CloudEvent")["id"], ulid);
        let soon = to_draft(with("inms", json!("3000")), &room()).expect("a CloudEvent");
        assert_eq!(soon["at"], json!({"in_ms": 3000}), "wins over the time that the library set");
    }

    #[test]
    fn a_wrong_attribute_is_named() {
        for (attribute, value) in [
            ("specversion", json!("0.3")),
            ("id", json!("")),
            ("source", json!("/live/other")),
            ("source", json!("live/room")),
            ("time", json!("yesterday")),
            ("expirytime", json!(5)),
            ("ptsus", json!("1.5")),
            ("datacontenttype", json!("text/xml")),
            ("data_base64", json!("AA==")),
            ("sequence", json!("1")),
            ("key", json!("sale:F1")),
            ("at", json!({"now": true})),
        ] {
            match to_draft(with(attribute, value), &room()) {
                Err(BadEvent::Field { pointer, .. }) => assert_eq!(pointer, format!("/{attribute}")),
                other => panic!("{attribute}: {other:?}"),
            }
        }
        let bad = in_its_terms(BadEvent::field("/key", "is wrong"));
        assert!(matches!(bad, BadEvent::Field { pointer, .. } if pointer == "/subject"));
    }
}
