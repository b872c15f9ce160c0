//! Events and times that come inside the stream: AMF0 data messages and SEI, made into the drafts that the API takes.
//!
//! Only the form is made here. Whether the publisher may send events is `server`'s to know, and whether a draft keeps
//! the contract is the hub's.

use serde_json::{Map, Value, json};

use crate::{
    media::{
        Anchor, Event, anchor,
        codec::sei::{self, UserData},
        event::Kind,
    },
    proto::rtmp::amf0,
};

/// What a data message or an SEI message of a publisher is to us.
#[derive(Debug, Clone, PartialEq)]
pub enum InBand {
    /// An event, as the API would take it.
    Draft {
        /// Type, op, key, data …
        draft: Map<String, Value>,
        /// When it shall fire.
        at: InBandAt,
    },
    /// The encoder's word on what UTC time it is.
    Anchor {
        /// Who says it.
        anchor: Anchor,
        /// UTC microseconds.
        wall_us: i64,
    },
    /// None of ours.
    NotEvent,
    /// It would be an event, and can't be read as one.
    Malformed(&'static str),
}

/// When an in-band event shall fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InBandAt {
    /// With the frame that it came with, or the next.
    Here,
    /// This many milliseconds later.
    InMs(u32),
    /// At this UTC millisecond.
    WallMs(i64),
    /// With the first frame at or after this time of the publisher's own clock, in milliseconds.
    PublisherMs(i64),
}

impl InBand {
    /// A data message: a name, then its values.
    pub fn from_data(amf0: &[u8]) -> Self {
        let read: fn(&amf0::Value) -> Self = match name_of(amf0) {
            Some("onTextData") => from_text_data,
            Some("onCuePoint") => from_cue_point,
            Some("onLiveEvent") => from_live_event,
            Some("onFI") => from_on_fi,
            Some(name) if !RESERVED.contains(&name) => return Self::NotEvent,
            // Players would read it as one of ours: none passes but what is certainly something else.
            _ => return Self::Malformed("a data message without a name of its own"),
        };
        // An event is small: it has no use for the limits of an authorised publisher.
        match amf0::decode_all(amf0, &amf0::Limits::SETUP).as_deref() {
            Ok([_name, body, ..]) => read(body),
            Ok(_) => Self::Malformed("a message without a body"),
            Err(_) => Self::Malformed("not AMF0 within an event's bounds"),
        }
    }

    /// A user data message in a picture.
    pub fn from_sei(message: &UserData) -> Self {
        if message.uuid == sei::LIVE_EVENT {
            // Some writers end it as C ends a string.
            let json = message.payload.strip_suffix(&[0]).unwrap_or(&message.payload);
            return from_json(json);
        }
        match anchor::obs_composed_us(message) {
            Some(wall_us) => Self::Anchor { anchor: Anchor::BpmSei, wall_us },
            None => Self::NotEvent,
        }
    }
}

/// Names that no data message has once its envelope is off.
const RESERVED: [&str; 2] = ["onMetaData", "@setDataFrame"];

/// The name, if it is a plain AMF0 string. Some readers end it at the first NUL.
fn name_of(amf0: &[u8]) -> Option<&str> {
    const STRING: u8 = 2;
    let [STRING, high, low, rest @ ..] = amf0 else { return None };
    let length = u16::from_be_bytes([*high, *low]);
    let name = str::from_utf8(rest.get(..usize::from(length))?).ok()?;
    (!name.contains('\0')).then_some(name)
}

/// `{text: …}`: a draft as JSON, or what the anchor says.
fn from_text_data(body: &amf0::Value) -> InBand {
    let Some(text) = body.get_str("text") else { return InBand::Malformed("onTextData without text") };
    if text.starts_with('{') {
        return from_json(text.as_bytes());
    }
    draft_here(json!({"type": "prompt.show", "op": "fire", "data": {"text": text}}))
}

/// `{name, parameters}`, the cue point of FLV: the name is the type, or one of the data.
fn from_cue_point(body: &amf0::Value) -> InBand {
    let Some(name) = body.get_str("name") else { return InBand::Malformed("onCuePoint without a name") };
    let parameters = body.get("parameters").unwrap_or(&amf0::Value::Null);
    let mut data: Map<_, _> = json_properties(parameters);
    if !Kind::is_noun_verb(name) {
        return draft_here(json!({"type": "cue.point", "op": "fire", "data": {"name": name, "parameters": data}}));
    }
    // A cue point has no place of its own for these two.
    let key = data.remove("key");
    let op = data.remove("op").unwrap_or_else(|| if key.is_some() { "set" } else { "fire" }.into());
    let mut draft = json!({"type": name, "op": op, "data": data});
    if let (Some(key), Some(draft)) = (key, draft.as_object_mut()) {
        draft.insert("key".into(), key);
    }
    draft_here(draft)
}

/// What hawker itself plays out: `{kind, json, ts}`.
fn from_live_event(body: &amf0::Value) -> InBand {
    if body.get_str("kind").is_some_and(|kind| kind != "ev") {
        return InBand::Malformed("onLiveEvent of another kind than ev");
    }
    let Some(text) = body.get_str("json") else { return InBand::Malformed("onLiveEvent without json") };
    let found = from_json(text.as_bytes());
    match (found, body.get("ts").and_then(amf0::Value::as_number).and_then(integer)) {
        (InBand::Draft { draft, at: InBandAt::Here }, Some(ts_ms)) => {
            InBand::Draft { draft, at: InBandAt::PublisherMs(ts_ms) }
        }
        (found, _) => found,
    }
}

/// `{sd, st}`: FMLE's date and time.
fn from_on_fi(body: &amf0::Value) -> InBand {
    let said = body.get_str("sd").zip(body.get_str("st"));
    match said.and_then(|(date, time)| anchor::on_fi_us(date, time)) {
        Some(wall_us) => InBand::Anchor { anchor: Anchor::OnFi, wall_us },
        // It may carry a timecode only.
        None => InBand::NotEvent,
    }
}

/// A draft, or an event that another origin has stamped: this one stamps it anew, under the id that it has.
fn from_json(json: &[u8]) -> InBand {
    if json.len() > Event::BYTES_MAX {
        return InBand::Malformed("larger than an event may be");
    }
    let Ok(Value::Object(mut draft)) = serde_json::from_slice(json) else {
        return InBand::Malformed("not a JSON object");
    };
    if !draft.get("type").is_some_and(Value::is_string) {
        return InBand::Malformed("JSON without a type");
    }
    for stamped in ["kid", "sig", "seq", "source"] {
        draft.remove(stamped);
    }
    let at = match draft.remove("at") {
        Some(at) => asked_time(&at),
        None => Some(draft.get_mut("time").and_then(Value::as_object_mut).map_or(InBandAt::Here, stamped_time)),
    };
    match at {
        Some(at) => InBand::Draft { draft, at },
        None => InBand::Malformed("at is now, in_ms or wall_ms"),
    }
}

/// `at` of the API. The stream's own `pts_us` no publisher can know.
fn asked_time(at: &Value) -> Option<InBandAt> {
    if at.get("now") == Some(&Value::Bool(true)) {
        return Some(InBandAt::Here);
    }
    if let Some(in_ms) = at.get("in_ms") {
        return Some(InBandAt::InMs(u32::try_from(in_ms.as_u64()?).ok()?));
    }
    at.get("wall_ms")?.as_i64().map(InBandAt::WallMs)
}

/// Takes another origin's stamp out of a time block. Only a UTC instant means the same here.
fn stamped_time(time: &mut Map<String, Value>) -> InBandAt {
    let wall_ms = time.remove("wall_ms").as_ref().and_then(Value::as_i64);
    let mode = time.remove("mode");
    time.remove("epoch");
    time.remove("pts_us");
    match (mode.as_ref().and_then(Value::as_str), wall_ms) {
        (Some("wall"), Some(wall_ms)) => InBandAt::WallMs(wall_ms),
        _ => InBandAt::Here,
    }
}

fn draft_here(draft: Value) -> InBand {
    match draft {
        Value::Object(draft) => InBand::Draft { draft, at: InBandAt::Here },
        _ => InBand::NotEvent,
    }
}

/// The properties as an event may hold them; nulls are left out. The decoder has bounded the recursion.
fn json_properties(value: &amf0::Value) -> Map<String, Value> {
    value.properties().iter().filter_map(|(key, value)| Some((key.clone(), json_value(value)?))).collect()
}

fn json_value(value: &amf0::Value) -> Option<Value> {
    Some(match value {
        // An event has no floats.
        amf0::Value::Number(number) | amf0::Value::Date(number) => {
            integer(*number).map_or_else(|| number.to_string().into(), Value::from)
        }
        amf0::Value::Bool(flag) => (*flag).into(),
        amf0::Value::String(text) => text.as_str().into(),
        amf0::Value::Object(_) | amf0::Value::EcmaArray(_) => json_properties(value).into(),
        amf0::Value::StrictArray(values) => values.iter().filter_map(json_value).collect(),
        amf0::Value::Null | amf0::Value::Undefined => return None,
    })
}

/// A double that is a whole number, exactly.
fn integer(number: f64) -> Option<i64> {
    let integer: i64 = number.to_string().parse().ok()?;
    (integer.unsigned_abs() <= Event::INTEGER_MAX.unsigned_abs()).then_some(integer)
}

#[cfg(test)]
mod tests;
